/** Whether a file is the one that its publisher speaks of: its size, and its checksums while it arrives. */
import { createHash, type Hash } from 'node:crypto';
import type { KnownOfFile } from '../../backbones/index.js';
import { FormatError } from '../../errors.js';
import { crc32c } from '../crc32.js';

type Kind = 'md5' | 'sha256' | 'crc32c';

/** One thing that somebody states of a file. */
export interface Statement {
  readonly kind: Kind;
  /** Hexadecimal digits; of a sha256 the first ones will do. */
  readonly digits: string;
  /** Who says so, for people. */
  readonly by: string;
  /** Whether it was known before the file was asked for, so that whoever sends a wrong one cannot state it too. */
  readonly beforehand: boolean;
}

/** What the publisher's code states. */
export function statementsOf({ md5, sha256, sha256Prefix }: KnownOfFile): Statement[] {
  const by = "the publisher's code";
  return [
    ...(md5 === undefined ? [] : [{ kind: 'md5', digits: md5, by, beforehand: true } as const]),
    ...(sha256 === undefined ? [] : [{ kind: 'sha256', digits: sha256, by, beforehand: true } as const]),
    ...(sha256Prefix === undefined
      ? []
      : [{ kind: 'sha256', digits: sha256Prefix, by: "the file's name", beforehand: true } as const]),
  ];
}

/**
 * What Google's storage states of a whole object, also with a part of it: `crc32c=AAAAAA==,md5=...`. Composite objects
 * have no md5; the crc32c is in big-endian order.
 * @see https://cloud.google.com/storage/docs/hashes-etags
 */
export function googleStatements(headers: readonly string[]): Statement[] {
  const by = "Google's storage";
  const out: Statement[] = [];
  for (const each of headers.flatMap((header) => header.split(','))) {
    const [, kind, base64] = /^\s*(md5|crc32c)=([A-Za-z0-9+/]+=*)\s*$/.exec(each) ?? [];
    if (kind === undefined) continue;
    const digits = Buffer.from(base64!, 'base64').toString('hex');
    if (digits.length === (kind === 'md5' ? 32 : 8)) out.push({ kind: kind as Kind, digits, by, beforehand: false });
  }
  // One is enough, and md5 the stronger
  return out.some(({ kind }) => kind === 'md5') ? out.filter(({ kind }) => kind === 'md5') : out;
}

/** Digests of the bytes that it is given in their order. */
export interface Digest {
  update(bytes: Uint8Array): void;
  /**
   * Compares what all bytes give.
   * @throws DOWNLOAD_WRONG with everything that differs
   */
  check(statements: readonly Statement[], where: string): void;
}

export function startDigest(statements: readonly Statement[]): Digest {
  const kinds = new Set(statements.map(({ kind }) => kind));
  const hashes = new Map<Kind, Hash>();
  for (const kind of ['md5', 'sha256'] as const) if (kinds.has(kind)) hashes.set(kind, createHash(kind));
  let sum = 0;
  return {
    update: (bytes) => {
      for (const hash of hashes.values()) hash.update(bytes);
      if (kinds.has('crc32c')) sum = crc32c(bytes, sum);
    },
    check: (all, where) => {
      const received = new Map([...hashes].map(([kind, hash]) => [kind, hash.digest('hex')]));
      if (kinds.has('crc32c')) received.set('crc32c', sum.toString(16).padStart(8, '0'));
      const wrong = all.filter(({ kind, digits }) => !received.get(kind)!.startsWith(digits));
      if (wrong.length === 0) return;
      const words = wrong.map(({ kind, digits, by }) => {
        const whole = kind !== 'sha256' || digits.length === 64;
        return `expected ${kind} ${whole ? '' : 'that begins with '}${digits} by ${by}, received ${received.get(kind)}`;
      });
      throw wrongFile(where, words.join('; '));
    },
  };
}

/**
 * Compares a size with what is known of it.
 * @throws DOWNLOAD_WRONG
 */
export function checkSize(size: number, { bytes, mebibytes }: KnownOfFile, where: string): void {
  if (bytes !== undefined && size !== bytes) throw wrongFile(where, `expected ${bytes} bytes, received ${size} bytes`);
  // torchvision rounds to three decimals
  if (mebibytes !== undefined && Math.abs(size / 2 ** 20 - mebibytes) > 0.000_501) {
    throw wrongFile(where, `expected ${mebibytes} MiB, received ${(size / 2 ** 20).toFixed(3)} MiB (${size} bytes)`);
  }
}

export function wrongFile(where: string, what: string): FormatError {
  return new FormatError({
    code: 'DOWNLOAD_WRONG',
    message: `${where}: this is not the file that was published: ${what}`,
    hint: 'nothing of it was kept. A proxy, a mirror or a log-in page may have answered: open the address in a browser. If the publisher has replaced the file, fetch it yourself and run: tl import FILE',
  });
}
