/** Downloading from a publisher on loopback that drops, stalls, lies, redirects and refuses. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { KnownOfFile } from '../../src/backbones/index.js';
import { crc32c } from '../../src/weights/crc32.js';
import { redirected } from '../../src/weights/fetch/connection.js';
import { type DownloadOptions, downloadsFolder, withFile } from '../../src/weights/fetch/download.js';
import { setHome } from '../support/home.js';
import { type Answering, type Manners, openPublisher, type Publisher, serve } from './support/publisher.js';

const file = Buffer.from(Buffer.alloc(300_000, 'the weights of a network; ').map((byte, i) => byte ^ (i >> 8)));
const newer = Buffer.from(file.toReversed());
const md5 = createHash('md5').update(file).digest('hex');
const sha256 = createHash('sha256').update(file).digest('hex');
const url = 'https://files.example/nets/net.h5';
const byHand = 'tl import FILE --backbone net --source keras';
const timing = { connectMs: 2000, answerMs: 500, silenceMs: 500, tries: 4, firstWaitMs: 5, longestWaitMs: 2000 };

let publisher: Publisher;
let folder: string;

beforeAll(async () => {
  publisher = await openPublisher();
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tl-pull-'));
  setHome(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
afterAll(async () => {
  await publisher.close();
});

interface Fetched {
  readonly content: Buffer;
  readonly already: number;
  readonly checked: readonly string[];
  readonly notices: readonly string[];
}

/** Downloads through the mirror that the publisher is, and removes the file. */
async function fetchFile(known: KnownOfFile = {}, options: Partial<DownloadOptions> = {}): Promise<Fetched> {
  const notices: string[] = [];
  const all = { env: { TL_MIRROR: publisher.url }, timing, byHand, onNotice: (line: string) => notices.push(line) };
  return await withFile({ url, ...known }, { ...all, ...options }, async ({ file: path, already, checked, remove }) => {
    const content = readFileSync(path);
    await remove();
    return { content, already, checked: checked.map(({ kind, by }) => `${kind} by ${by}`), notices };
  });
}

/** One manner a request; the last one holds for all that follow. */
const manners =
  (...each: readonly (Manners & { readonly of?: Buffer })[]): Answering =>
  (asked, response, nth) => {
    const { of = file, ...how } = each[Math.min(nth, each.length - 1)]!;
    return serve(of, asked, response, how);
  };

const ranges = (): (string | undefined)[] => publisher.asked.map(({ headers }) => headers.range);
const sent = (): number => publisher.asked.reduce((sum, each) => sum + each.sent, 0);
const leftOver = (): string[] => readdirSync(downloadsFolder(), { recursive: true, encoding: 'utf8' });

/** A run that is cut off for good after so many bytes. */
async function cutOffAfter(bytes: number, how: Manners = {}, known: KnownOfFile = {}): Promise<void> {
  publisher.answer(manners({ etag: '"1"', ...how, only: bytes }));
  const failing = fetchFile(known, { timing: { ...timing, tries: 1 } });
  await expect(failing).rejects.toMatchObject({
    code: 'DOWNLOAD_FAILED',
    message: expect.stringContaining(`${bytes} bytes of ${file.length} have arrived and are kept`),
  });
}

describe('a good server', () => {
  test('is asked once, for the mirrored address, and everything that is stated is checked', async () => {
    publisher.answer(manners({ etag: '"1"' }));
    const started: unknown[] = [];
    let done = 0;
    const { content, checked } = await fetchFile(
      { bytes: file.length, mebibytes: 0.286, md5, sha256Prefix: sha256.slice(0, 8) },
      {
        onStart: (start) => started.push(start),
        onProgress: (progress) => {
          done = progress.done;
        },
      },
    );
    expect(content.equals(file)).toBe(true);
    expect(publisher.asked).toMatchObject([{ method: 'GET', path: '/files.example/nets/net.h5' }]);
    expect(publisher.asked[0]!.headers).toMatchObject({ 'accept-encoding': 'identity' });
    expect(checked).toEqual(["md5 by the publisher's code", "sha256 by the file's name"]);
    expect(started).toMatchObject([
      { bytes: file.length, already: 0, from: `${publisher.url}/files.example/nets/net.h5` },
    ]);
    expect(done).toBe(file.length);
    expect(leftOver()).toEqual([]);
  });

  test('that does not say how long the file is will do', async () => {
    publisher.answer((_, response) => void response.writeHead(200).end(file));
    expect((await fetchFile({ sha256 })).content.equals(file)).toBe(true);
  });

  test('that is slow but moves is waited for', async () => {
    publisher.answer(async (_, response) => {
      response.writeHead(200, { 'content-length': file.length });
      for (let at = 0; at < file.length; at += 25_000) {
        response.write(file.subarray(at, at + 25_000));
        await new Promise((next) => setTimeout(next, 100)); // 1.2 s, more than twice the allowed silence
      }
      response.end();
    });
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(publisher.asked).toHaveLength(1);
  });

  test("states checksums as Google's storage does", async () => {
    const base64 = (digits: string) => Buffer.from(digits, 'hex').toString('base64');
    const crc = crc32c(file).toString(16).padStart(8, '0');
    publisher.answer(manners({ headers: { 'x-goog-hash': `crc32c=${base64(crc)},md5=${base64(md5)}` } }));
    expect((await fetchFile()).checked).toEqual(["md5 by Google's storage"]);
    publisher.answer(manners({ headers: { 'x-goog-hash': `crc32c=${base64(crc)}` } })); // a composite object
    expect((await fetchFile()).checked).toEqual(["crc32c by Google's storage"]);
    publisher.answer(manners({ headers: { 'x-goog-hash': `crc32c=${base64('00000000')}` } }));
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'DOWNLOAD_WRONG',
      message: expect.stringContaining(`expected crc32c 00000000 by Google's storage, received ${crc}`),
    });
  });
});

describe('a connection that is cut off', () => {
  test('goes on where it was, as often as it takes', async () => {
    const dropping = { etag: '"1"', only: 60_000 };
    publisher.answer(manners(dropping));
    const { content, notices } = await fetchFile({ md5 });
    expect(content.equals(file)).toBe(true);
    expect(ranges()).toEqual([undefined, 'bytes=60000-', 'bytes=120000-', 'bytes=180000-', 'bytes=240000-']);
    expect(publisher.asked.slice(1).every(({ headers }) => headers['if-range'] === '"1"')).toBe(true);
    expect(sent()).toBe(file.length); // not a byte twice
    expect(notices[0]).toMatch(/^the connection was dropped: trying again in 0\.0 s$/);
  });

  test('and a server that stops sending are one thing', async () => {
    publisher.answer(manners({ etag: '"1"', only: 100_000, after: 'stall' }, { etag: '"1"' }));
    const { content, notices } = await fetchFile({ md5 });
    expect(content.equals(file)).toBe(true);
    expect(ranges()).toEqual([undefined, 'bytes=100000-']);
    expect(notices[0]).toContain('the server has stopped sending');
  });

  test('goes on in another run', async () => {
    await cutOffAfter(100_000);
    publisher.answer(manners({ etag: '"1"' }));
    const { content, already } = await fetchFile({ md5 });
    expect(content.equals(file)).toBe(true);
    expect(already).toBe(100_000);
    expect(ranges()).toEqual(['bytes=100000-']);
    expect(sent()).toBe(200_000);
  });

  test('by Ctrl-C keeps what has arrived and says how to go on', async () => {
    const controller = new AbortController();
    publisher.answer(manners({ etag: '"1"', only: 100_000, after: 'stall' }));
    const stopping = fetchFile(
      { md5 },
      { signal: controller.signal, onProgress: ({ done }) => done === 100_000 && controller.abort() },
    );
    await expect(stopping).rejects.toMatchObject({
      code: 'DOWNLOAD_STOPPED',
      message: expect.stringContaining('100000 bytes of 300000 have arrived and are kept'),
      hint: 'the same command goes on from there',
    });
    publisher.answer(manners({ etag: '"1"' }));
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(sent()).toBe(200_000);
  });

  test('gives up after some tries that brought nothing', async () => {
    publisher.answer((_, response) => void response.destroy());
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: expect.stringContaining('the connection was dropped, 4 times in a row'),
      hint: expect.stringContaining(`run: ${byHand}\n  ${url}`),
    });
    expect(publisher.asked).toHaveLength(4);
  });

  test('between the last byte and the check is whole', async () => {
    await cutOffAfter(200_000);
    const [part] = leftOver().filter((path) => path.endsWith('.part'));
    writeFileSync(join(downloadsFolder(), part!), file);
    publisher.answer(manners({ etag: '"1"' }));
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(publisher.asked).toHaveLength(0);
  });
});

describe('an earlier part is not trusted', () => {
  test.each<[string, Manners & { of?: Buffer }]>([
    ['when the file has another ETag', { etag: '"2"', of: newer }],
    ['when it has, and the server ignores If-Range', { etag: '"2"', of: newer, ignoresIfRange: true }],
    ['when the server ignores Range', { etag: '"1"', of: newer, ignoresRange: true }],
    ['when the file has become shorter', { etag: '"1"', of: newer.subarray(0, 50_000) }],
  ])('%s', async (_, how) => {
    await cutOffAfter(100_000);
    publisher.answer(manners(how));
    const { content, already, notices } = await fetchFile();
    expect(content.equals(how.of!)).toBe(true);
    expect(already).toBe(0);
    expect(notices.join('\n')).toContain('starting again');
  });

  test('when the server sends another part than was asked for', async () => {
    await cutOffAfter(100_000);
    publisher.answer((asked, response) => {
      if (asked.headers.range === undefined) return serve(file, asked, response);
      response.writeHead(206, { 'content-range': `bytes 50000-299999/300000`, 'content-length': 250_000 });
      response.end(file.subarray(50_000));
    });
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(ranges()).toEqual(['bytes=100000-', undefined]);
  });

  test('when its bytes are damaged', async () => {
    await cutOffAfter(100_000);
    const [part] = leftOver().filter((path) => path.endsWith('.part'));
    const path = join(downloadsFolder(), part!);
    const bytes = readFileSync(path);
    bytes[1234]! ^= 1;
    writeFileSync(path, bytes);
    publisher.answer(manners({ etag: '"1"' }));
    const { content, notices } = await fetchFile({ md5 });
    expect(content.equals(file)).toBe(true);
    expect(notices).toContain('what an earlier run has left is damaged: starting again');
  });

  test('when nothing tells of which file it is', async () => {
    await cutOffAfter(100_000);
    rmSync(join(downloadsFolder(), leftOver().find((path) => path.endsWith('.json'))!));
    publisher.answer(manners({ etag: '"1"' }));
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(ranges()).toEqual([undefined]);
  });

  test('without ETag and date, unless a checksum is known', async () => {
    const mute = { headers: {} };
    publisher.answer((asked, response) => serve(file, asked, response, { ...mute, only: 100_000 }));
    await expect(fetchFile({}, { timing: { ...timing, tries: 1 } })).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' });
    publisher.answer((asked, response) => serve(file, asked, response, mute));
    expect((await fetchFile()).already).toBe(0);
    publisher.answer((asked, response) => serve(file, asked, response, { ...mute, only: 100_000 }));
    await expect(fetchFile({ md5 }, { timing: { ...timing, tries: 1 } })).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
    });
    publisher.answer((asked, response) => serve(file, asked, response, mute));
    expect(await fetchFile({ md5 })).toMatchObject({ already: 100_000 });
  });
});

describe('a wrong file', () => {
  test.each<[string, KnownOfFile, RegExp]>([
    ['md5', { md5: md5.replace(/^./, '_') }, /expected md5 _\w{31} by the publisher's code, received \w{32}/],
    [
      'sha256',
      { sha256: sha256.replace(/^./, '_') },
      /expected sha256 _\w{63} by the publisher's code, received \w{64}/,
    ],
    ['prefix', { sha256Prefix: '01234567' }, /expected sha256 that begins with 01234567 by the file's name, received/],
    ['size', { bytes: 300_001 }, /expected 300001 bytes, received 300000 bytes/],
    ['rounded size', { mebibytes: 0.287 }, /expected 0.287 MiB, received 0.286 MiB \(300000 bytes\)/],
  ])('by its %s is an error and is not kept', async (_, known, message) => {
    publisher.answer(manners({ etag: '"1"' }));
    await expect(fetchFile(known)).rejects.toMatchObject({
      code: 'DOWNLOAD_WRONG',
      message: expect.stringMatching(message),
    });
    expect(publisher.asked).toHaveLength(1);
    expect(leftOver()).toEqual([]);
  });

  test('that is a web page is said to be one', async () => {
    publisher.answer((_, response) => {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<html>Please log in</html>');
    });
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'DOWNLOAD_WRONG',
      message: expect.stringContaining('received a web page (text/html; charset=utf-8)'),
    });
  });

  test('that is longer than it says ends with what it said', async () => {
    publisher.answer((_, response) => {
      response.socket!.end(`HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n${'x'.repeat(200)}`);
    });
    await expect(fetchFile({ bytes: 200 })).rejects.toMatchObject({ code: 'DOWNLOAD_WRONG' });
  });

  test('larger than the disk is not begun', async () => {
    publisher.answer((_, response) => {
      response.writeHead(200, { 'content-length': 1e15 }).write('x');
    });
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'DISK_FULL',
      message: expect.stringMatching(/need 2000000000 MB, but the disk has \d+ MB left$/),
    });
  });
});

describe('a server that refuses', () => {
  test.each([
    [404, 'Not Found'],
    [403, 'Forbidden'],
    [410, 'Gone'],
    [501, 'Not Implemented'],
  ])('with %d is asked once', async (status, words) => {
    publisher.answer((_, response) => void response.writeHead(status).end('no'));
    await expect(fetchFile()).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: `${publisher.url}/files.example/nets/net.h5 cannot be fetched: the server answers ${status} ${words}`,
      hint: expect.stringContaining('TL_MIRROR='),
    });
    expect(publisher.asked).toHaveLength(1);
  });

  test.each([408, 429, 500, 502, 503, 504])('with %d is asked again', async (status) => {
    publisher.answer((asked, response, nth) => {
      if (nth > 1) return serve(file, asked, response);
      response.writeHead(status).end();
    });
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(publisher.asked).toHaveLength(3);
  });

  test('and says when to come back is obeyed', async () => {
    publisher.answer((asked, response, nth) => {
      if (nth > 0) return serve(file, asked, response);
      response.writeHead(429, { 'retry-after': '1' }).end();
    });
    const { notices } = await fetchFile({ md5 });
    expect(notices).toEqual(['the server answers 429 Too Many Requests: trying again in 1.0 s']);
  });

  test.each([
    ['3600', '3600 s'],
    [new Date(Date.now() + 7_200_000).toUTCString(), '7\\d\\d\\d s'],
  ])('until much later (%s) is not waited for', async (after, words) => {
    publisher.answer((_, response) => void response.writeHead(503, { 'retry-after': after }).end());
    await expect(fetchFile()).rejects.toMatchObject({
      message: expect.stringMatching(new RegExp(`503 Service Unavailable, and asks to wait ${words}`)),
    });
    expect(publisher.asked).toHaveLength(1);
  });

  test('to connect is not asked again', async () => {
    const env = { TL_MIRROR: 'http://127.0.0.1:1/mirror' };
    await expect(fetchFile({}, { env })).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      message: `http://127.0.0.1:1/mirror/files.example/nets/net.h5 cannot be fetched: its host refuses the connection (ECONNREFUSED)`,
      hint: expect.stringContaining('behind a proxy, set HTTPS_PROXY'),
    });
  });
});

describe('redirects', () => {
  test('are followed, relative ones too', async () => {
    publisher.answer((asked, response) => {
      const to = { '/files.example/nets/net.h5': '../b', '/files.example/b': `${publisher.url}/c?sign=secret` }[
        asked.path
      ];
      if (to === undefined) return serve(file, asked, response);
      response.writeHead(302, { location: to }).end();
    });
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(publisher.asked.map(({ path }) => path).slice(1)).toEqual(['/files.example/b', '/c?sign=secret']);
  });

  test('in a circle end', async () => {
    publisher.answer((_, response) => void response.writeHead(307, { location: '?again' }).end());
    await expect(fetchFile()).rejects.toMatchObject({
      message: expect.stringContaining('redirects more than 20 times'),
    });
    expect(publisher.asked).toHaveLength(21);
  });

  test('never lead out of https', () => {
    expect(redirected('https://a.example/x', '/y')).toBe('https://a.example/y');
    expect(redirected('http://a.example/x', 'https://b.example/y')).toBe('https://b.example/y');
    for (const to of ['http://a.example/x', 'ftp://a.example/x', 'file:///etc/passwd', 'http://['])
      expect(() => redirected('https://a.example/x', to)).toThrow(/redirects to/);
  });
});

describe('passwords in the address of a mirror', () => {
  const secret = () => publisher.url.replace('//', '//reader:s3cret@');

  test('are told to the mirror alone, and never shown', async () => {
    const other = await openPublisher();
    other.answer((asked, response) => serve(file, asked, response));
    publisher.answer(
      (_, response) => void response.writeHead(302, { location: `${other.url}/x?signature=s3cret` }).end(),
    );
    expect((await fetchFile({ md5 }, { env: { TL_MIRROR: secret() } })).content.equals(file)).toBe(true);
    const basic = `Basic ${Buffer.from('reader:s3cret').toString('base64')}`;
    expect(publisher.asked[0]!.headers.authorization).toBe(basic);
    expect(other.asked[0]!.headers.authorization).toBeUndefined();
    other.answer(
      (_, response) => void response.writeHead(302, { location: 'ftp://x.example/?signature=s3cret' }).end(),
    );
    const failing = fetchFile({}, { env: { TL_MIRROR: secret() } });
    await expect(failing).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' });
    expect(JSON.stringify(await failing.catch((error: Error) => [error.message, error]))).not.toContain('s3cret');
    await other.close();
  });

  test.each(['mirror.example', 'file:///mirror', 'https://mirror.example/?q=1', 'https://u:s3cret@[/'])(
    'or of none (%s) are refused',
    async (mirror) => {
      const failing = fetchFile({}, { env: { TL_MIRROR: mirror } });
      await expect(failing).rejects.toMatchObject({
        code: 'MIRROR_INVALID',
        message: expect.not.stringContaining('s3cret') as string,
      });
    },
  );
});

describe('two at once', () => {
  test('take turns, and the second takes what the first has left', async () => {
    publisher.answer(manners({ etag: '"1"' }));
    const env = { TL_MIRROR: publisher.url };
    const both = await Promise.all(
      [1, 2].map(() => withFile({ url, md5 }, { env, timing, byHand }, async ({ file: path }) => readFileSync(path))),
    );
    expect(both.every((content) => content.equals(file))).toBe(true);
    expect(publisher.asked).toHaveLength(1);
  });

  test('can be stopped while they wait', async () => {
    publisher.answer(manners({ etag: '"1"' }));
    const controller = new AbortController();
    const env = { TL_MIRROR: publisher.url };
    await withFile({ url, md5 }, { env, timing, byHand }, async () => {
      const waiting = fetchFile({ md5 }, { signal: controller.signal, onNotice: () => controller.abort() });
      await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    });
    expect(existsSync(join(downloadsFolder(), leftOver().find((path) => path.endsWith('net.h5'))!))).toBe(true);
  });

  test('what an earlier run has left and somebody has changed is fetched again', async () => {
    publisher.answer(manners({ etag: '"1"' }));
    const env = { TL_MIRROR: publisher.url };
    await withFile({ url, md5 }, { env, timing, byHand }, async ({ file: path }) => writeFileSync(path, newer));
    expect((await fetchFile({ md5 })).content.equals(file)).toBe(true);
    expect(publisher.asked).toHaveLength(2);
  });
});
