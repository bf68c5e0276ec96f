/**
 * Names of an archive's members. Archives are unpacked into a private folder, under their members' own names, because
 * readers find shards and indexes by name; so every name must stay inside that folder, on every system.
 */
import { FormatError } from '../../errors.js';
import { MAX_NAME_LENGTH, quote } from '../limits.js';

/** What an archive says of one member. */
export interface MemberHeader {
  /** As it is written in the archive. */
  readonly name: string;
  /** What it is, for people, where it is no ordinary file: `a symbolic link`. Folders are none of these. */
  readonly special?: string | undefined;
}

/**
 * Checks the members of one archive as they come.
 * @returns a member's path with single slashes and no `.` in it: `./a//b` -> `a/b`; empty for the folder itself
 * @throws ARCHIVE_UNSAFE
 */
export function memberNames(archive: string): (header: MemberHeader, isFolder: boolean) => string {
  /** Path, as systems without case or with composed letters compare it -> what has it. */
  const known = new Map<string, { readonly name: string; readonly isFolder: boolean }>();
  const claim = (name: string, isFolder: boolean): void => {
    const before = known.get(folded(name));
    if (before === undefined) {
      known.set(folded(name), { name, isFolder });
      return;
    }
    if (before.isFolder && isFolder && before.name === name) return;
    const what =
      before.name === name
        ? 'two members are called'
        : `${quote(before.name)} is also a member, and on many systems the same as`;
    throw unsafe(archive, `${what} ${quote(name)}`);
  };
  return (header, isFolder) => {
    const name = cleanName(archive, header);
    if (name === '') return name;
    const parents = name.split('/').slice(0, -1);
    for (const i of parents.keys()) claim(parents.slice(0, i + 1).join('/'), true);
    claim(name, isFolder);
    return name;
  };
}

/** APFS and NTFS compare names without case, HFS+ after Unicode's normalisation as well. */
const folded = (name: string): string => name.normalize('NFC').toLowerCase();

function cleanName(archive: string, { name, special }: MemberHeader): string {
  if (special !== undefined) throw unsafe(archive, `${quote(name)} is ${special}; expected files and folders`);
  if (name.length > MAX_NAME_LENGTH) throw unsafe(archive, `the name ${quote(name)} has ${name.length} characters`);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
  if (/[\u0000-\u001f\u007f]/.test(name)) throw unsafe(archive, `the name ${quote(name)} holds a control character`);
  if (/^([A-Za-z]:|[/\\])/.test(name)) throw unsafe(archive, `${quote(name)} is an absolute path`);
  if (name.includes('\\')) throw unsafe(archive, `the name ${quote(name)} holds a backslash`);
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw unsafe(archive, `${quote(name)} leads out of the archive`);
  return parts.join('/');
}

function unsafe(archive: string, what: string): FormatError {
  return new FormatError({
    code: 'ARCHIVE_UNSAFE',
    message: `${archive}: ${what}`,
    hint: 'nothing outside a private folder was written; unpack it yourself if you trust it, and give the weights file',
  });
}
