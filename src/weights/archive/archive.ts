/**
 * Archives around weights: tar, packed by gzip or not, gzip around one file, and zip. Readers read by position, so the
 * members that may be weights are unpacked once, into a private folder, and one set of them is opened there.
 */
import { stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { ToolkitError } from '../../errors.js';
import { fileError } from '../../files.js';
import type { OpenOptions, TensorSource } from '../source.js';
import { chooseMember, memberPattern } from './archive-choice.js';
import { type Unpacked, unpackStreamed, unpackZip } from './archive-unpack.js';
import { makeTemporaryFolder } from './temporary-folder.js';
import { openZip } from './zip.js';

/** The member of an archive that a source was read from. */
export interface ArchiveMember {
  /** Its path in the archive. */
  readonly name: string;
  /** Where its files lie while the source is open. */
  readonly unpacked: string;
  /** Of the archive, where that was read from beginning to end anyway. */
  readonly sha256?: string | undefined;
}

/**
 * Unpacks an archive and opens the weights in it, which are gone from the disk when the source is closed, when this
 * fails, and when the process ends.
 * @param openUnpacked opens a file or folder that is no archive
 * @throws ARCHIVE_UNSAFE, ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED, ARCHIVE_EMPTY, ARCHIVE_AMBIGUOUS, ARCHIVE_MEMBER,
 * ARCHIVE_NESTED, TORCH_TAR, ZIP_DAMAGED, FILE_TRUNCATED, LIMIT_EXCEEDED, DISK_FULL, FILE_NOT_WRITTEN, and what
 * `openUnpacked` throws
 */
export async function openArchive(
  path: string,
  container: 'tar' | 'gzip' | 'zip',
  options: OpenOptions,
  openUnpacked: (path: string) => Promise<TensorSource>,
): Promise<TensorSource> {
  const folder = await makeTemporaryFolder();
  const told = (error: unknown): unknown => withoutFolder(error, folder.path, path);
  try {
    const unpacked = await unpack(path, container, folder.path, options);
    const { name } = await chooseMember(path, unpacked, options.member);
    const inside = join(folder.path, name);
    const source = await openUnpacked(inside);
    return {
      ...source,
      path,
      archive: { name: name === '.' ? 'the whole archive' : name, unpacked: inside, sha256: unpacked.sha256 },
      read: async (tensor, memory) => {
        try {
          return await source.read(tensor, memory);
        } catch (error) {
          throw told(error);
        }
      },
      close: async () => {
        await source.close();
        await folder.remove();
      },
    };
  } catch (error) {
    await folder.remove();
    throw told(error);
  }
}

async function unpack(
  path: string,
  container: 'tar' | 'gzip' | 'zip',
  folder: string,
  { member, signal }: OpenOptions,
): Promise<Unpacked> {
  const asked = member === undefined ? () => false : memberPattern(member);
  if (container === 'zip') {
    const zip = await openZip(path);
    try {
      return await unpackZip(zip, folder, { asked, signal });
    } finally {
      await zip.close();
    }
  }
  const { size } = await stat(path).catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', path, 'cannot be read', error);
  });
  return await unpackStreamed({ path, size, gzip: container === 'gzip' }, folder, { asked, signal });
}

/** An error that speaks of the archive and its member: the folder is gone when people read it. */
function withoutFolder(error: unknown, folder: string, archive: string): unknown {
  if (!(error instanceof ToolkitError) || !`${error.message}${error.hint}`.includes(folder)) return error;
  const told = (text: string): string => text.replaceAll(`${folder}${sep}`, `${archive}: `).replaceAll(folder, archive);
  const { code, message, hint, cause } = error;
  const details = { code, message: told(message), ...(hint === undefined ? {} : { hint: told(hint) }), cause };
  return Reflect.construct(error.constructor, [details]);
}
