/**
 * PyTorch's zip format: `<any name>/data.pkl` with the object, `<any name>/data/<key>` with the numbers of a storage.
 * @see https://github.com/pytorch/pytorch/blob/v2.4.0/torch/serialization.py (_save, _load)
 */

import { FormatError } from '../../errors.js';
import type { ZipArchive } from '../archive/zip.js';
import { closedOnFailure } from '../byte-file.js';
import { limitExceeded } from '../limits.js';
import { MAX_PICKLE_BYTES, unpickle } from './pickle.js';
import type { TorchFile } from './torch.js';
import { torchDamaged, torchRules } from './torch-rules.js';

/** The folder of the archive, with its slash; undefined when this is no PyTorch file. */
export function torchPrefix(zip: ZipArchive): string | undefined {
  for (const name of zip.entries.keys()) if (/^[^/]*\/data\.pkl$/.test(name)) return name.slice(0, -'data.pkl'.length);
  return zip.entries.has('data.pkl') ? '' : undefined;
}

/** @throws TORCH_DAMAGED, TORCH_SCRIPT, PICKLE_REFUSED, PICKLE_DAMAGED, ZIP_DAMAGED; the archive is closed then */
export async function openTorchZip(zip: ZipArchive): Promise<TorchFile> {
  return await closedOnFailure(zip, open);
}

async function open(zip: ZipArchive): Promise<TorchFile> {
  const { path, entries } = zip;
  const prefix = torchPrefix(zip);
  if (prefix === undefined) throw torchDamaged(path, 'the archive has no data.pkl');
  if (entries.has(`${prefix}constants.pkl`)) {
    throw new FormatError({
      code: 'TORCH_SCRIPT',
      message: `${path}: this is a TorchScript program, not a state dict`,
      hint: "save its weights alone: python -c \"import torch; torch.save(torch.jit.load('in.pt', map_location='cpu').state_dict(), 'out.pth')\"",
    });
  }
  const pickleBytes = entries.get(`${prefix}data.pkl`)?.size ?? 0;
  if (pickleBytes > MAX_PICKLE_BYTES) throw limitExceeded(path, `data.pkl has ${pickleBytes} bytes`, MAX_PICKLE_BYTES);
  const { value: root } = unpickle(await zip.read(`${prefix}data.pkl`), 0, torchRules(path));
  const order = await readText(zip, `${prefix}byteorder`, 'little'); // absent before 2.1: the writer's own, in practice little
  if (order !== 'little' && order !== 'big') throw torchDamaged(path, `byteorder says ${JSON.stringify(order)}`);
  const version = await readText(zip, `${prefix}version`, '');
  const checked = new Set<string>();
  return {
    path,
    root,
    littleEndian: order === 'little',
    container: { container: 'zip', ...(version === '' ? {} : { version }) },
    storageBytes: (key) => entries.get(`${prefix}data/${key}`)?.size,
    readStorage: async (key, offset, length) => {
      const name = `${prefix}data/${key}`;
      const whole = offset === 0 && length === entries.get(name)?.size;
      // of a storage that several tensors share, a part is read each time, and the checksum is that of the whole
      if (!whole && !checked.has(key)) await drain(zip.pieces(name));
      checked.add(key);
      return await zip.read(name, offset, length);
    },
    close: () => zip.close(),
  };
}

async function drain(pieces: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of pieces);
}

async function readText(zip: ZipArchive, name: string, otherwise: string): Promise<string> {
  return zip.entries.has(name) ? (await zip.readHead(name, 64)).toString('latin1').trim() : otherwise;
}
