/** Which format a file has, from its first bytes: names lie, and downloads are often something else altogether. */

import { type Stats, statSync } from 'node:fs';
import { FormatError, ToolkitError } from '../errors.js';
import { fileError } from '../files.js';
import type { ByteFile } from './byte-file.js';
import { isGraphDef } from './checkpoint/graph-def.js';
import { TABLE_MAGIC } from './checkpoint/table.js';

/** What a file begins like. A zip may hold PyTorch's or NumPy's files; that needs its directory. */
export type Container = 'hdf5' | 'zip' | 'torch-stream' | 'safetensors' | 'checkpoint' | 'graph-def';

export const FORMATS_READ =
  'Keras HDF5 (.h5, .hdf5), TensorFlow checkpoints (.ckpt) and frozen graphs (.pb), PyTorch (.pth, .pt), safetensors (.safetensors), NumPy archives (.npz) and graph models of TensorFlow.js (model.json)';

const HDF5_SIGNATURE = Buffer.from('894844460d0a1a0a', 'hex');

/** A user block before the HDF5 data has 512, 1024, 2048, ... bytes (HDF5 specification, III.A). */
const MAX_USER_BLOCK = 2 ** 20;

/** @throws FILE_NOT_FOUND, FILE_IS_FOLDER, FILE_NOT_READ, FILE_EMPTY */
export function checkIsFile(path: string): void {
  let stats: Stats;
  try {
    stats = statSync(path);
  } catch (error) {
    const missing = error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
    throw fileError(missing ? 'FILE_NOT_FOUND' : 'FILE_NOT_READ', path, 'the weights file cannot be read', error);
  }
  if (stats.isDirectory()) {
    throw new ToolkitError({
      code: 'FILE_IS_FOLDER',
      message: `${path}: expected a weights file, received a folder`,
      hint: 'give the path of the file inside it (a model folder holds weights.safetensors)',
    });
  }
  if (!stats.isFile()) {
    throw new ToolkitError({
      code: 'FILE_NOT_READ',
      message: `${path}: expected an ordinary file, received a device, pipe or socket`,
      hint: 'write the weights to a file first: they are read by position',
    });
  }
  if (stats.size === 0) {
    throw new FormatError({
      code: 'FILE_EMPTY',
      message: `${path}: the file is empty`,
      hint: 'the download or copy failed: fetch it again',
    });
  }
}

/** @throws FORMAT_UNKNOWN, FILE_IS_HTML, FILE_IS_LFS_POINTER, TORCH_TAR, FILE_TRUNCATED */
export async function recognise(file: ByteFile): Promise<Container> {
  const head = await file.read(0, Math.min(1024, file.size), 'the first bytes');
  const starts = (magic: Buffer | string): boolean => head.subarray(0, magic.length).equals(Buffer.from(magic));
  if (await isHdf5(file)) return 'hdf5';
  if (starts('PK\x03\x04') || starts('PK\x05\x06')) return 'zip';
  if (head[0] === 0x80 && head[1] !== undefined && head[1] >= 1 && head[1] <= 5) return 'torch-stream'; // a pickle
  if (isSafetensors(head, file.size)) return 'safetensors';
  if ((await tail(file)).equals(TABLE_MAGIC)) return 'checkpoint';
  if (isGraphDef(head)) return 'graph-def';
  throw unknown(file.path, head);
}

async function isHdf5(file: ByteFile): Promise<boolean> {
  const length = HDF5_SIGNATURE.length;
  for (let at = 0; at <= MAX_USER_BLOCK && at + length <= file.size; at = at === 0 ? 512 : at * 2) {
    if (HDF5_SIGNATURE.equals(await file.read(at, length, 'the signature'))) return true;
  }
  return false;
}

/** There is no magic number: a length that fits the file (or would, had it not been cut off), then a JSON object. */
function isSafetensors(head: Buffer, size: number): boolean {
  if (head.length < 9 || head[8] !== 0x7b) return false;
  const length = head.readBigUInt64LE();
  return length >= 2n && (length <= BigInt(size) || length <= 100_000_000n);
}

async function tail(file: ByteFile): Promise<Buffer> {
  const length = Math.min(8, file.size);
  return await file.read(file.size - length, length, 'the last bytes');
}

/** Things that are found under the name of a weights file, and what to do about each. */
function unknown(path: string, head: Buffer): FormatError {
  const text = head.toString('latin1').trimStart();
  const error = (code: string, what: string, hint: string): FormatError =>
    new FormatError({ code, message: `${path}: ${what}; expected ${FORMATS_READ}`, hint });
  if (/^(<!doctype html|<html|<head|<\?xml|<!--)/i.test(text)) {
    return error(
      'FILE_IS_HTML',
      'this is a web page, not a weights file',
      'the download was answered with a page (an error, a login, a notice): open the address in a browser, or use the direct link',
    );
  }
  if (text.startsWith('version https://git-lfs.github.com/spec/')) {
    return error(
      'FILE_IS_LFS_POINTER',
      'this is a Git LFS pointer, not the weights themselves',
      'fetch the content with: git lfs pull',
    );
  }
  if (head.toString('latin1', 257, 262) === 'ustar') {
    return error(
      'TORCH_TAR',
      'this is a tar archive, which PyTorch wrote before version 0.1.10',
      'load it with a later PyTorch and save it again: torch.save(torch.load("in.pth", weights_only=False), "out.pth")',
    );
  }
  if (head[0] === 0x1f && head[1] === 0x8b) {
    return error('FORMAT_UNKNOWN', 'this is a gzip archive', 'unpack it first: gunzip, or tar -xzf');
  }
  if (head[0] === 0x93 && head.toString('latin1', 1, 6) === 'NUMPY') {
    return error('FORMAT_UNKNOWN', 'this is a single NumPy array', 'save all arrays with their names: numpy.savez');
  }
  if (text.startsWith('{')) {
    return error(
      'FORMAT_UNKNOWN',
      'this is JSON text',
      'give the file with the weights, not the one that describes it',
    );
  }
  const bytes = head.subarray(0, 8).toString('hex').replace(/../g, '$& ').trim();
  return error(
    'FORMAT_UNKNOWN',
    `the file begins with the bytes ${bytes}, which no supported format does`,
    'check that this is the weights file and that the download is complete (compare its sha256)',
  );
}
