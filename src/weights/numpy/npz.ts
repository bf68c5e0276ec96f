/** NumPy's .npz: a zip of .npy arrays. Flax weights of Google come in it, and `tl forward` writes it. */

import yazl from 'yazl';
import { FormatError, listFaults, messageOf, ToolkitError } from '../../errors.js';
import { writeStreamAtomic } from '../../files.js';
import { openZip, type ZipArchive } from '../archive/zip.js';
import { closedOnFailure } from '../byte-file.js';
import { elementsOf } from '../float-formats.js';
import { DAMAGED_HINT, quote, TensorTable } from '../limits.js';
import type { Memory } from '../plan/permute.js';
import type { SetAside, TensorInfo, TensorSource } from '../source.js';
import {
  contentBesideNumbers,
  encodeNpy,
  isNpy,
  NPY_HEADER_BYTES,
  type NpyArray,
  type NpyHeader,
  npyDataBytes,
  npyDecoder,
  parseNpyHeader,
} from './npy.js';

interface Entry extends TensorInfo {
  readonly entryName: string;
  readonly header: NpyHeader;
}

/**
 * Opens an .npz, stored or deflated; reads the headers of its arrays only. What is not made of numbers (text, objects,
 * structures) is set aside by name.
 * @throws ZIP_DAMAGED, NPY_HEADER, NPZ_NO_TENSORS, DTYPE_UNSUPPORTED, FILE_TRUNCATED, LIMIT_EXCEEDED
 */
export async function openNpz(path: string): Promise<TensorSource> {
  return await npzFromZip(await openZip(path));
}

/** As {@link openNpz}; the archive is closed where it throws. */
export async function npzFromZip(zip: ZipArchive): Promise<TensorSource> {
  return await closedOnFailure(zip, describe);
}

async function describe(zip: ZipArchive): Promise<TensorSource> {
  const { path } = zip;
  const table = new TensorTable<Entry>(path);
  const setAside: SetAside[] = [];
  for (const { name: entryName, size } of zip.entries.values()) {
    const name = entryName.replace(/\.npy$/, '');
    const head = await zip.readHead(entryName, NPY_HEADER_BYTES);
    if (!isNpy(head)) {
      setAside.push({ name, reason: 'no array of NumPy' });
      continue;
    }
    const where = `${path}: ${quote(entryName)}`;
    const header = parseNpyHeader(where, head);
    const content = contentBesideNumbers(header);
    if (content !== undefined) {
      setAside.push({ name, reason: content });
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
    table.add({ name, dtype: header.dtype!, shape: header.shape, entryName, header });
  }
  const tensors = table.infos();
  if (tensors.length === 0 && setAside.length > 0) throw noTensors(path, setAside);
  return {
    format: 'npz',
    path,
    tensors,
    metadata: {},
    setAside,
    read: async (name, memory) => await readArray(zip, table.get(name), memory),
    close: () => zip.close(),
  };
}

/** The bytes go from the archive into the array as they come; their checksum is compared when the last one has come. */
async function readArray(zip: ZipArchive, { entryName, header }: Entry, memory?: Memory): Promise<Float32Array> {
  const decoder = npyDecoder(header, memory);
  let before = header.dataOffset;
  for await (const piece of zip.pieces(entryName)) {
    decoder.add(piece.subarray(before));
    before = Math.max(0, before - piece.length);
  }
  return decoder.numbers();
}

function noTensors(path: string, setAside: readonly SetAside[]): FormatError {
  const faults = setAside.map(({ name, reason }) => `${quote(name)}: ${reason}`);
  return new FormatError({
    code: 'NPZ_NO_TENSORS',
    message: `${path}: no array of it is made of numbers\n${listFaults(faults)}`,
    hint: 'save the arrays themselves, each under its name: numpy.savez("weights.npz", **{name: array, ...})',
  });
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
