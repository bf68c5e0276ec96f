/** Which format a file has, from its first bytes: names lie, and downloads are often something else altogether. */

import { type Stats, statSync } from 'node:fs';
import { FormatError, ToolkitError } from '../errors.js';
import { fileError } from '../files.js';
import { isTarHeader } from './archive/archive-tar.js';
import type { ByteFile } from './byte-file.js';
import { isGraphDef } from './checkpoint/graph-def.js';
import { TABLE_MAGIC } from './checkpoint/table.js';
import { strangers } from './strangers.js';

/** What a file begins like. What a zip holds its directory tells, and what JSON is about its keys. */
export type Container =
  | 'hdf5'
  | 'zip'
  | 'gzip'
  | 'tar'
  | 'torch-stream'
  | 'safetensors'
  | 'checkpoint'
  | 'graph-def'
  | 'json';

export const FORMATS_READ =
  'Keras (.h5, .weights.h5, .keras), TensorFlow checkpoints (.ckpt, .index), SavedModels and frozen graphs (.pb), PyTorch (.pth, .pt), safetensors (.safetensors), NumPy archives (.npz), models of TensorFlow.js (model.json), and archives of these (.zip, .tar.gz, .tar, .gz)';

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

/** Names that browsers and download managers give to files that they have not finished. */
const UNFINISHED = /\.(part|partial|crdownload|download|incomplete|opdownload|aria2)$/i;

/**
 * @throws FILE_UNFINISHED
 */
export function checkIsFinished(path: string): void {
  if (!UNFINISHED.test(path)) return;
  throw new FormatError({
    code: 'FILE_UNFINISHED',
    message: `${path}: by its name this is a download that has not finished`,
    hint: 'let the download finish, or start it again; if the file is whole, give it its own name',
  });
}

/**
 * Tells a file by its first and last bytes.
 * @throws FORMAT_UNKNOWN, ARCHIVE_UNSUPPORTED, FILE_IS_HTML, FILE_IS_LFS_POINTER, FILE_IS_TFLITE, FILE_IS_ONNX,
 * FILE_IS_COREML, FILE_IS_MATLAB, FILE_IS_MSGPACK, FILE_IS_TEXT, FILE_TRUNCATED
 */
export async function recognise(file: ByteFile): Promise<Container> {
  const head = await file.read(0, Math.min(1024, file.size), 'the first bytes');
  const starts = (magic: Buffer | string): boolean => head.subarray(0, magic.length).equals(Buffer.from(magic));
  if (await isHdf5(file)) return 'hdf5';
  if (starts('PK\x03\x04') || starts('PK\x05\x06')) return 'zip';
  if (starts(GZIP)) return 'gzip';
  if (isTarHeader(head)) return 'tar';
  if (head[0] === 0x80 && head[1] !== undefined && head[1] >= 1 && head[1] <= 5) return 'torch-stream'; // a pickle
  if (isSafetensors(head, file.size)) return 'safetensors';
  if ((await tail(file)).equals(TABLE_MAGIC)) return 'checkpoint';
  if (isGraphDef(head)) return 'graph-def';
  if (/^\uFEFF?\s*(\{\s*["}]|\[\s*[{\]])/.test(head.toString('utf8'))) return 'json';
  throw unknown(file.path, head);
}

/** Magic number, and the only method of compression there is (RFC 1952, 2.3.1). */
const GZIP = Buffer.from([0x1f, 0x8b, 8]);

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
  const error = (code: string, what: string, hint: string): FormatError =>
    new FormatError({ code, message: `${path}: ${what}; expected ${FORMATS_READ}`, hint });
  const found = strangers.find(({ is }) => is(head));
  if (found !== undefined) return error(found.code, found.what, found.hint);
  const text = head.toString('utf8').trim();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what text does not hold
  if (!/[\u0000-\u0008\u000e-\u001f\ufffd]/.test(text.slice(0, 500))) {
    const start = `${text.slice(0, 60).replace(/\s+/g, ' ')}${text.length > 60 ? '...' : ''}`;
    return error(
      'FILE_IS_TEXT',
      `this is text, not weights: ${JSON.stringify(start)}`,
      'if a server wrote it in the place of the file, see what it says; else give the file with the numbers',
    );
  }
  const bytes = head.subarray(0, 8).toString('hex').replace(/../g, '$& ').trim();
  return error(
    'FORMAT_UNKNOWN',
    `the file begins with the bytes ${bytes}, which no supported format does`,
    'check that this is the weights file and that the download is complete (compare its sha256)',
  );
}
