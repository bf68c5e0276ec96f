/**
 * Files on disk: whole or not at all. Everything that is kept is written beside its final name, flushed, and renamed
 * into place, so that a killed run never leaves half a file under a name that somebody reads.
 */

import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { Worker } from 'node:worker_threads';
import { messageOf, ToolkitError, UsageError } from './errors.js';

/**
 * JSON read by this toolkit (model records, settings, class lists) is a few kB; model configurations a few MB. A hostile
 * text takes thirty times its size in memory: two letters make an object.
 */
const MAX_JSON_BYTES = 16 * 1024 * 1024;

/**
 * Writes a whole file, making its folder where that is missing.
 * @throws FILE_NOT_WRITTEN
 */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  await writeStreamAtomic(path, async (file) => {
    await file.writeFile(data);
  });
}

/**
 * Lets `write` fill a new file piece by piece; the file gets its final name only when `write` is done.
 * A failure of any kind removes the unfinished file and leaves whatever stood under the final name.
 * @throws FILE_NOT_WRITTEN, or what `write` throws
 */
export async function writeStreamAtomic(path: string, write: (file: FileHandle) => Promise<void>): Promise<void> {
  const temporary = besideName(path, newMark(), 'tmp');
  try {
    await mkdir(dirname(resolve(path)), { recursive: true });
    const file = await open(temporary, 'wx');
    try {
      await write(file);
      await file.sync(); // the rename must never reach the disk before the bytes
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(resolve(path)));
  } catch (error) {
    await discard(temporary);
    throw isFileSystemError(error) ? fileError('FILE_NOT_WRITTEN', path, 'cannot be written', error) : error;
  }
}

/**
 * Lets `fill` put files into a new folder, which then takes the place of `target`, old content and all. A failure
 * removes the new folder and leaves the old one as it was. No system exchanges two folders by a call that Node has, so
 * that for a moment there is no `target`: what a process that was killed then left is told by the names of both folders
 * beside it, and {@link recoverFolder} ends it.
 * @throws FILE_NOT_WRITTEN, or what `fill` throws
 */
export async function replaceFolderAtomic(target: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const mark = newMark();
  const [fresh, old] = [besideName(target, mark, 'tmp'), besideName(target, mark, 'old')];
  try {
    await mkdir(fresh, { recursive: true });
    await fill(fresh);
    await syncFolder(fresh);
    const replaced = await exists(target);
    if (replaced) await rename(target, old);
    try {
      await rename(fresh, target);
    } catch (error) {
      const isDone = systemCode(error) === 'ENOENT' && (await exists(target)); // a reader was faster: recoverFolder
      if (!isDone) {
        if (replaced) await rename(old, target);
        throw error;
      }
    }
    await syncFolder(dirname(resolve(target)));
    if (replaced) await rm(old, { recursive: true, force: true });
  } catch (error) {
    await discard(fresh);
    throw isFileSystemError(error) ? fileError('FILE_NOT_WRITTEN', target, 'cannot be replaced', error) : error;
  }
}

/**
 * Ends a replacement of `target` between whose two renames a process was killed: the new folder, which was whole by
 * then, gets its name. It does what that process was about to do, so that it does no harm where it still lives.
 */
export async function recoverFolder(target: string): Promise<void> {
  const full = resolve(target);
  if (existsSync(full)) return;
  const parent = dirname(full);
  const names = new Set(await readdir(parent).catch((): string[] => []));
  for (const name of names) {
    const beside = partsOf(name);
    if (beside?.ending !== 'old' || beside.base !== basename(full).slice(0, BASE_LENGTH)) continue;
    const fresh = name.replace(/old$/, 'tmp');
    if (!names.has(fresh)) continue; // the new one had its name, and was removed later
    await rename(join(parent, fresh), full).catch(() => undefined); // where it cannot be, there is no such folder
    await discard(join(parent, name));
    return;
  }
}

/**
 * Removes what processes that were killed left unfinished in a folder. What {@link recoverFolder} needs stays. No other
 * process may write there.
 * @param of which file or folder is unfinished; all when absent
 */
export async function removeUnfinished(folder: string, of?: string): Promise<void> {
  const names = await readdir(folder).catch((): string[] => []);
  for (const name of names.filter((each) => isUnfinished(each))) {
    const { base, ending, stem } = partsOf(name)!;
    if (of !== undefined && base !== of.slice(0, BASE_LENGTH)) continue;
    const isPair = names.includes(`${stem}.${ending === 'tmp' ? 'old' : 'tmp'}`);
    if (isPair && !names.includes(base)) continue;
    await discard(join(folder, name));
  }
}

/** Whether a name is that of something on its way to another name: see {@link writeStreamAtomic}. */
export const isUnfinished = (name: string): boolean => partsOf(name) !== undefined;

/** Whether it was left by a process of this machine that has ended; false where that cannot be known. */
export function isLeftBehind(name: string): boolean {
  const beside = partsOf(name);
  if (beside?.place !== placeOfProcesses()) return false;
  try {
    process.kill(beside.pid, 0); // asks whether it is there, and does nothing to it (kill(2))
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/**
 * Makes an empty folder for what is read again at once, which only this user may enter. Those of its kind that killed
 * processes left behind are removed.
 * @param kind `tl-graph`
 * @throws FILE_NOT_WRITTEN
 */
export function makeTemporaryFolder(kind: string): string {
  const parent = tmpdir();
  const path = besideName(join(parent, kind), newMark(), 'tmp');
  try {
    for (const name of readdirSync(parent)) {
      if (partsOf(name)?.base === kind && isLeftBehind(name))
        rmSync(join(parent, name), { recursive: true, force: true });
    }
    mkdirSync(path, { mode: 0o700 });
    return path;
  } catch (error) {
    throw temporaryError(path, error);
  }
}

/** What the system said of a temporary file. */
export function temporaryError(path: string, cause: unknown): ToolkitError {
  const { code, message } = fileError('FILE_NOT_WRITTEN', path, 'cannot be written', cause);
  const hint = 'free some space there, or name another folder for temporary files in TMPDIR';
  return new ToolkitError({ code, message, hint, cause });
}

/** A thread of its own costs 30 ms, in which so much is hashed. */
const HASH_APART_BYTES = 32 * 1024 * 1024;

/**
 * SHA-256 of a file's content as 64 hexadecimal digits, read as a stream. A large file is hashed on a thread of its own,
 * so that the caller's other work goes on meanwhile.
 * @param signal stops it; the promise is then rejected with its reason
 * @throws FILE_NOT_READ
 */
export async function sha256File(path: string, signal?: AbortSignal): Promise<string> {
  try {
    if ((await stat(path)).size > HASH_APART_BYTES) return await sha256Apart(path, signal);
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal })) hash.update(chunk as Buffer);
    return hash.digest('hex');
  } catch (error) {
    signal?.throwIfAborted();
    throw fileError('FILE_NOT_READ', path, 'cannot be read', error);
  }
}

/** Source text, so that the same thread runs from the sources, from the built package and from an installed one. */
const HASHING = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { closeSync, openSync, readSync } = require('node:fs');
  const hash = require('node:crypto').createHash('sha256');
  const piece = Buffer.allocUnsafeSlow(1 << 20);
  const file = openSync(workerData);
  for (let read; (read = readSync(file, piece)) > 0; ) hash.update(piece.subarray(0, read));
  closeSync(file);
  parentPort.postMessage(hash.digest('hex'));`;

async function sha256Apart(path: string, signal: AbortSignal | undefined): Promise<string> {
  signal?.throwIfAborted();
  const thread = new Worker(HASHING, { eval: true, execArgv: [], workerData: resolve(path) });
  const stop = (): void => void thread.terminate();
  signal?.addEventListener('abort', stop);
  try {
    return await new Promise((settle, reject) => {
      thread.once('message', settle);
      thread.once('error', reject);
      thread.once('exit', () => reject(new Error('the thread that reads it was stopped')));
    });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/**
 * Parses a JSON file; the caller checks what is in it.
 * @throws FILE_NOT_READ, JSON_TOO_LARGE (above 16 MiB), JSON_INVALID
 */
export async function readJsonFile(path: string): Promise<unknown> {
  let text: string;
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size > MAX_JSON_BYTES) {
        throw new ToolkitError({
          code: 'JSON_TOO_LARGE',
          message: `${path}: expected a JSON file of at most ${MAX_JSON_BYTES} bytes, received ${size} bytes`,
          hint: 'check that the path names the JSON file and not the weights beside it',
        });
      }
      text = await file.readFile('utf8');
    } finally {
      await file.close();
    }
  } catch (error) {
    throw error instanceof ToolkitError ? error : fileError('FILE_NOT_READ', path, 'cannot be read', error);
  }
  try {
    return JSON.parse(text.replace(/^\uFEFF/, '')); // editors on Windows put a byte order mark first
  } catch (error) {
    throw new ToolkitError({
      code: 'JSON_INVALID',
      message: `${path}: ${text.trim() === '' ? 'the file is empty' : `not valid JSON: ${messageOf(error)}`}`,
      hint: 'restore the file from its source, or make it again with the command that wrote it',
      cause: error,
    });
  }
}

/** What the system said of a path, as an error that says how to mend it. */
export function fileError(code: string, path: string, what: string, cause: unknown): ToolkitError {
  const system = systemCode(cause);
  const known = system === undefined ? undefined : SYSTEM_ERRORS[system];
  return new ToolkitError({
    code,
    message: `${path}: ${what}: ${known?.reason ?? messageOf(cause)}`,
    hint: known?.hint ?? 'check the path, its permissions and the disk',
    cause,
  });
}

/** POSIX error numbers that users meet, by the name Node gives them (errno(3)). */
const SYSTEM_ERRORS: Readonly<Record<string, { readonly reason: string; readonly hint: string }>> = {
  ENOENT: { reason: 'no such file or folder', hint: 'check the path for typing mistakes' },
  EACCES: { reason: 'permission denied', hint: 'change the permissions of the path, or choose another' },
  EPERM: { reason: 'the system does not permit it', hint: 'change the permissions of the path, or choose another' },
  EROFS: { reason: 'the disk is read-only', hint: 'choose a path on another disk' },
  EISDIR: { reason: 'it is a folder', hint: 'give the path of a file' },
  ENOTDIR: { reason: 'a part of the path is a file, not a folder', hint: 'check the folders in the path' },
  EEXIST: { reason: 'a part of the path is a file, not a folder', hint: 'check the folders in the path' },
  ENOTEMPTY: { reason: 'a folder of that name is in the way', hint: 'remove that folder, or choose another path' },
  ENOSPC: { reason: 'the disk is full', hint: 'free some space, or choose a path on another disk' },
  EFBIG: {
    reason: 'the file grew larger than is allowed',
    hint: 'raise the limit (ulimit -f), or choose another disk',
  },
  EIO: { reason: 'the disk failed', hint: 'check the disk, or choose a path on another one' },
  EDQUOT: { reason: 'the disk quota is used up', hint: 'free some space, or choose a path on another disk' },
  EMFILE: { reason: 'too many open files', hint: 'raise the limit (ulimit -n) and run again' },
  ENAMETOOLONG: { reason: 'the name is too long', hint: 'choose a shorter name' },
};

function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('syscall' in error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

const isFileSystemError = (error: unknown): boolean => systemCode(error) !== undefined;

/** So much of a name is kept in that of an unfinished file, of the 255 bytes that file systems have (NAME_MAX). */
const BASE_LENGTH = 200;

/** Who writes, told apart from every other writer: `PLACE-PROCESS-RANDOM`. */
const newMark = (): string => `${placeOfProcesses()}-${process.pid}-${randomBytes(6).toString('hex')}`;

/** A hidden name in the same folder: a rename is atomic only within one file system. */
function besideName(path: string, mark: string, ending: 'tmp' | 'old'): string {
  const full = resolve(path);
  return join(dirname(full), `.${basename(full).slice(0, BASE_LENGTH)}.${mark}.${ending}`);
}

/** What {@link besideName} made a name of. */
function partsOf(name: string) {
  const found = /^\.(.+)\.([0-9a-f]{8})-(\d+)-[0-9a-f]{12}\.(tmp|old)$/.exec(name);
  if (found === null) return undefined;
  const [, base, place, pid, ending] = found as unknown as [string, string, string, string, 'tmp' | 'old'];
  return { base, place, pid: Number(pid), ending, stem: name.slice(0, -ending.length - 1) };
}

let place: string | undefined;

/** Where the numbers of processes mean what they mean here: this machine, and its container (pid_namespaces(7)). */
function placeOfProcesses(): string {
  if (place !== undefined) return place;
  let namespace = '';
  try {
    namespace = readlinkSync('/proc/self/ns/pid');
  } catch {
    // only Linux has them
  }
  place = createHash('sha256').update(`${hostname()} ${namespace}`).digest('hex').slice(0, 8);
  return place;
}

/** Cleans up after a failure, which says more than a failure of the cleaning would. */
async function discard(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => undefined);
}

/** @throws OUT_EXISTS where something is in the place of an output that may not be replaced */
export function refuseExisting(out: string, overwrite: boolean): void {
  if (overwrite || !existsSync(out)) return;
  throw new UsageError({
    code: 'OUT_EXISTS',
    message: `${out} exists already`,
    hint: 'choose another folder, or replace it with --overwrite',
  });
}

/** Whether a path is that of a folder. */
export const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory();

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Makes a rename itself lasting. Not every system can flush a folder (Windows cannot), so this may do nothing. */
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch {
    // the files themselves are flushed; only the moment of the rename is then up to the system
  }
}
