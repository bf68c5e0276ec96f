/** Writes tar archives member by member, so that tests can also write what no tool would. */

import { Header, type types } from 'tar';

/** As node-tar calls it. */
type EntryTypeName = Parameters<(typeof types.code)['get']>[0];

export interface TarMember {
  readonly name: string;
  readonly content?: string | Uint8Array;
  readonly type?: EntryTypeName;
  readonly linkpath?: string;
  /** What the header says, where it lies. */
  readonly size?: number;
  /** Records of an extended header of pax before it. */
  readonly pax?: Readonly<Record<string, string>>;
}

/** Two blocks of zeros. */
export const END = Buffer.alloc(1024);

/** An archive with its end. */
export const tarOf = (...members: readonly TarMember[]): Buffer => Buffer.concat([...members.map(memberOf), END]);

function memberOf({ name, content = '', type = 'File', linkpath, size, pax }: TarMember): Buffer {
  const bytes = Buffer.from(content as Uint8Array);
  const before = pax === undefined ? [] : [extended(pax)];
  const header = headerOf({ path: name, type, linkpath: linkpath ?? '', size: size ?? bytes.length });
  return Buffer.concat([...before, header, filled(bytes)]);
}

function headerOf(data: { path: string; type: EntryTypeName; linkpath: string; size: number }): Buffer {
  const header = new Header({ ...data, mode: 0o644, uid: 0, gid: 0, mtime: new Date(0) });
  header.encode();
  return header.block!;
}

function extended(records: Readonly<Record<string, string>>): Buffer {
  const body = Object.entries(records)
    .map(([key, value]) => {
      const rest = ` ${key}=${value}\n`;
      const bare = Buffer.byteLength(rest);
      const digits = String(bare + String(bare).length).length;
      return `${bare + digits}${rest}`;
    })
    .join('');
  const bytes = Buffer.from(body);
  return Buffer.concat([
    headerOf({ path: 'PaxHeader', type: 'ExtendedHeader', linkpath: '', size: bytes.length }),
    filled(bytes),
  ]);
}

const filled = (bytes: Buffer): Buffer => Buffer.concat([bytes], Math.ceil(bytes.length / 512) * 512);
