/** NumPy's .npz: a zip of .npy arrays. Flax weights of Google come in it, and `tl forward` writes it. */

import yazl from 'yazl';
import { FormatError, messageOf, ToolkitError } from '../errors.js';
import { writeStreamAtomic } from '../files.js';
import { elementsOf } from './float-formats.js';
import { DAMAGED_HINT, quote, TensorTable } from './limits.js';
import {
  decodeNpy,
  encodeNpy,
  isNpy,
  NPY_HEADER_BYTES,
  type NpyArray,
  type NpyHeader,
  npyDataBytes,
  parseNpyHeader,
} from './npy.js';
import type { TensorInfo, TensorSource } from './source.js';
import { openZip, type ZipArchive } from './zip.js';

interface Entry extends TensorInfo {
  readonly entryName: string;
  readonly header: NpyHeader;
  readonly bytes: number;
}

/**
 * Opens an .npz, stored or deflated; reads the headers of its arrays only. Arrays that are not numbers (text, objects)
 * are left out and named in `metadata.ignored`.
 * @throws ZIP_DAMAGED, NPY_HEADER, FILE_TRUNCATED, LIMIT_EXCEEDED
 */
export async function openNpz(path: string): Promise<TensorSource> {
  return await npzFromZip(await openZip(path));
}

/** @throws ZIP_DAMAGED, NPY_HEADER, FILE_TRUNCATED, LIMIT_EXCEEDED; the archive is closed then */
export async function npzFromZip(zip: ZipArchive): Promise<TensorSource> {
  try {
    return await describe(zip);
  } catch (error) {
    await zip.close();
    throw error;
  }
}

async function describe(zip: ZipArchive): Promise<TensorSource> {
  const { path } = zip;
  const table = new TensorTable<Entry>(path);
  const ignored: string[] = [];
  for (const { name: entryName, size } of zip.entries.values()) {
    const name = entryName.replace(/\.npy$/, '');
    const head = await zip.readHead(entryName, NPY_HEADER_BYTES);
    if (!isNpy(head)) {
      ignored.push(`${name} (no array)`);
      continue;
    }
    const where = `${path}: ${quote(entryName)}`;
    const header = parseNpyHeader(where, head);
    if (header.dtype === undefined) {
      ignored.push(`${name} (${header.descr})`);
      continue;
    }
    const bytes = npyDataBytes(where, header);
    if (header.dataOffset + bytes !== size) {
      throw new FormatError({
        code: 'FILE_TRUNCATED',
        message: `${where}: the header declares ${bytes} bytes of numbers, but the entry has ${size - header.dataOffset}`,
        hint: DAMAGED_HINT,
      });
    }
    table.add({ name, dtype: header.dtype, shape: header.shape, entryName, header, bytes });
  }
  return {
    format: 'npz',
    path,
    tensors: table.infos(),
    metadata: ignored.length > 0 ? { ignored: ignored.join(', ') } : {},
    async read(name) {
      const { entryName, header, bytes } = table.get(name);
      // read whole, so that the checksum is compared
      const entry = await zip.read(entryName);
      return decodeNpy(header, entry.subarray(header.dataOffset, header.dataOffset + bytes));
    },
    close: () => zip.close(),
  };
}

/**
 * Writes float32 arrays as numpy.savez does: stored, whole or not at all; equal input gives equal bytes.
 * @param arrays names without `.npy`; the order is kept
 * @throws TENSOR_SHAPE, FILE_NOT_WRITTEN
 */
export async function writeNpz(path: string, arrays: Readonly<Record<string, NpyArray>>): Promise<void> {
  const zip = new yazl.ZipFile();
  for (const [name, array] of Object.entries(arrays)) {
    if (array.data.length !== elementsOf(array.shape)) {
      throw new ToolkitError({
        code: 'TENSOR_SHAPE',
        message: `${path}: array ${quote(name)} [${array.shape.join(', ')}] needs ${elementsOf(array.shape)} numbers, received ${array.data.length}`,
        hint: 'give the array its own shape',
      });
    }
    try {
      zip.addBuffer(encodeNpy(array), `${name}.npy`, {
        compress: false,
        mtime: new Date(1980, 0, 1), // the earliest that zip can say, in its local time: numpy's own choice
        forceDosTimestamp: true,
        mode: 0o100600, // numpy's own: a regular file
      });
    } catch (error) {
      throw new ToolkitError({
        code: 'TENSOR_NAME',
        message: `${path}: ${quote(name)} cannot name an array of a zip: ${messageOf(error)}`,
        hint: 'use a relative name without ..',
        cause: error,
      });
    }
  }
  zip.end();
  await writeStreamAtomic(path, async (file) => {
    for await (const chunk of zip.outputStream) await file.writeFile(chunk as Buffer);
  });
}
