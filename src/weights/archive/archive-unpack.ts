/**
 * The members of an archive that may be weights, written to a private folder. Nothing is believed of what an archive
 * declares: members, names and bytes are counted as they come, and the room on the disk is looked at before.
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FormatError, ToolkitError } from '../../errors.js';
import { fileError } from '../../files.js';
import { limitExceeded, quote } from '../limits.js';
import { memberNames } from './archive-names.js';
import { type MemberContent, type MemberSink, readStreamed } from './archive-tar.js';
import type { ZipArchive } from './zip.js';

/**
 * The largest published set of weights in shards, of 4 MB each as TensorFlow.js' converter cuts them, has 700 files; a
 * folder of a training with its logs a few hundred.
 */
const MAX_MEMBERS = 10_000;

/** A ViT-H/14 with the state of its optimiser has 8 GB. */
const MAX_UNPACKED_BYTES = 2 ** 34;

/**
 * What lies beside weights in published archives and is none: the graph of a checkpoint (`.meta`, up to a hundred MB),
 * graphs for phones, texts, pictures, programs, logs, and what macOS and browsers leave.
 */
const NEVER_WEIGHTS =
  /(^|\/)(\._[^/]*|\.DS_Store|Thumbs\.db|events\.out\.tfevents\.[^/]*)$|(^|\/)__MACOSX\/|\.(meta|pbtxt|tflite|onnx|mlmodel|txt|md|rst|html?|pdf|png|jpe?g|gif|svg|webp|bmp|py|ipynb|sh|csv|tsv|ya?ml|xml|log)$/i;

/** Whether a member cannot be weights, as its name tells. */
export const isNeverWeights = (name: string): boolean => NEVER_WEIGHTS.test(name);

/** What was found in an archive. */
export interface Unpacked {
  readonly folder: string;
  /** Paths in the archive of what was written, with their sizes in bytes. */
  readonly members: ReadonlyMap<string, number>;
  /** Paths of what was passed over. */
  readonly passedOver: readonly string[];
  /** Of the archive, where it was read from beginning to end anyway. */
  readonly sha256?: string | undefined;
}

export interface UnpackOptions {
  /** Tells which members the user asked for by name, whatever they are. */
  readonly asked: (name: string) => boolean;
  readonly signal?: AbortSignal | undefined;
}

interface Writer extends MemberSink {
  done(sha256?: string): Unpacked;
  /** Closes what is half written. */
  abandon(): void;
}

/**
 * Unpacks a tar archive, packed by gzip or not, or a single file in a gzip.
 * @param size of the archive in bytes
 * @throws ARCHIVE_UNSAFE, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED, FILE_TRUNCATED, LIMIT_EXCEEDED, DISK_FULL, FILE_NOT_WRITTEN
 */
export async function unpackStreamed(
  archive: { readonly path: string; readonly size: number; readonly gzip: boolean },
  folder: string,
  options: UnpackOptions,
): Promise<Unpacked> {
  const { path } = archive;
  const writer = await memberWriter(path, folder, options);
  try {
    const single = basename(path).replace(/\.gz$/i, '') || 'weights';
    return writer.done(await readStreamed({ ...archive, signal: options.signal }, single, writer));
  } finally {
    writer.abandon();
  }
}

/**
 * Unpacks a zip archive.
 * @throws ARCHIVE_UNSAFE, ZIP_DAMAGED, FILE_TRUNCATED, LIMIT_EXCEEDED, DISK_FULL, FILE_NOT_WRITTEN
 */
export async function unpackZip(zip: ZipArchive, folder: string, options: UnpackOptions): Promise<Unpacked> {
  const writer = await memberWriter(zip.path, folder, options);
  try {
    for (const { name, size, ordinary } of zip.entries.values()) {
      const content = writer.file({ name, special: ordinary ? undefined : 'a link or a device' }, size);
      if (content === undefined) continue;
      for await (const piece of zip.pieces(name)) {
        options.signal?.throwIfAborted();
        writer.passed(piece.length);
        content.write(piece);
      }
      content.end();
    }
    return writer.done();
  } finally {
    writer.abandon();
  }
}

async function memberWriter(archive: string, folder: string, { asked }: UnpackOptions): Promise<Writer> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const nameOf = memberNames(archive);
  const members = new Map<string, number>();
  const passedOver: string[] = [];
  let [count, unpacked, written] = [0, 0, 0];
  let open: number | undefined;
  const counted = (): void => {
    count++;
    if (count > MAX_MEMBERS) throw limitExceeded(archive, 'the archive has more members', MAX_MEMBERS);
  };
  const reserve = (bytes: number): void => {
    if (bytes > MAX_UNPACKED_BYTES) throw limitExceeded(archive, `${bytes} bytes to unpack`, MAX_UNPACKED_BYTES);
    if (bytes > free) throw diskFull(archive, folder, bytes, free);
  };
  const contentOf = (name: string, file: number): MemberContent => {
    let size = 0;
    return {
      write(piece) {
        size += piece.length;
        written += piece.length;
        reserve(written);
        writeAll(join(folder, name), file, piece);
      },
      end() {
        closeSync(file);
        open = undefined;
        members.set(name, size);
      },
    };
  };
  return {
    file(header, size) {
      counted();
      const name = nameOf(header, false);
      if (name === '')
        throw new FormatError({
          code: 'ARCHIVE_DAMAGED',
          message: `${archive}: a file without a name`,
          hint: 'pack it again',
        });
      if (isNeverWeights(name) && !asked(name)) {
        passedOver.push(name);
        return undefined;
      }
      reserve(written + size);
      open = create(join(folder, name));
      return contentOf(name, open);
    },
    folder(header) {
      counted();
      nameOf(header, true);
    },
    passed(bytes) {
      unpacked += bytes;
      if (unpacked > MAX_UNPACKED_BYTES) throw limitExceeded(archive, 'more bytes come out of it', MAX_UNPACKED_BYTES);
    },
    done: (sha256) => ({ folder, members, passedOver, sha256 }),
    abandon() {
      if (open !== undefined) closeSync(open);
      open = undefined;
    },
  };
}

/** Never through something that is there already: neither a file nor a link. */
function create(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return openSync(path, 'wx', 0o600);
  } catch (error) {
    throw fileError('FILE_NOT_WRITTEN', path, 'the member cannot be unpacked', error);
  }
}

function writeAll(path: string, file: number, piece: Uint8Array): void {
  try {
    for (let done = 0; done < piece.length; ) done += writeSync(file, piece, done);
  } catch (error) {
    throw fileError('FILE_NOT_WRITTEN', path, 'the member cannot be unpacked', error);
  }
}

function diskFull(archive: string, folder: string, needed: number, free: number): ToolkitError {
  return new ToolkitError({
    code: 'DISK_FULL',
    message: `${archive}: unpacking ${quote(basename(archive))} takes ${needed} bytes or more, and the disk of ${folder} has ${free} left`,
    hint: 'free some space, or set TL_HOME to a folder on a larger disk',
  });
}
