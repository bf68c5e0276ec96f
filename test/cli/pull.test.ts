/** `tl pull` from end to end, against a mirror, a hub and a proxy on loopback that serve what publishers would. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { create } from 'tar';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { writeVersion2 } from '../../src/weights/checkpoint/write-version2.js';
import type { PullReport } from '../../src/weights/pull.js';
import { asset } from '../../tools/assets.mjs';
import { generateTensor, readForwardGolden } from '../support/golden.js';
import { openPublisher, type Publisher, serve } from '../weights/support/publisher.js';
import { json, tl, workplace, writeGoldenWeights } from './harness.js';

const place = workplace();
const before = { ...process.env };
const keras = 'tensorflow/keras-applications/mobilenet/mobilenet_2_5_224_tf.h5';
let publisher: Publisher;
let fromKeras: Buffer;
let fromTimm: Buffer;
let fromTorchvision: Buffer;
let fromSlim: Buffer;

async function fileOf(backbone: string, source: string): Promise<Buffer> {
  const path = join(place.folder, `${backbone}.${source}`);
  await writeGoldenWeights(path, readForwardGolden(backbone, source));
  return readFileSync(path);
}

/** An archive as slim's are: a checkpoint, and a frozen graph beside it. */
async function archiveOf(backbone: string, member: string): Promise<Buffer> {
  const folder = join(place.folder, 'archive');
  mkdirSync(folder);
  const { tensors } = readForwardGolden(backbone, 'slim');
  await writeVersion2(
    join(folder, member),
    tensors.map((row) => ({
      name: row[0],
      shape: row[1],
      dtype: 'float32' as const,
      read: async () => generateTensor(...row),
    })),
  );
  writeFileSync(join(folder, 'notes.txt'), 'not weights');
  await create(
    { gzip: true, file: join(place.folder, 'slim.tgz'), cwd: folder },
    readdirSync(folder).map((each) => `./${each}`),
  );
  return readFileSync(join(place.folder, 'slim.tgz'));
}

beforeAll(async () => {
  fromTorchvision = readFileSync(await asset('mobilenet_v2-b0353104.pth')); // while TL_HOME is that of all tests
  fromSlim = await archiveOf('mobilenet_v1_0.25', 'mobilenet_v1_0.25_224.ckpt');
  publisher = await openPublisher();
  fromKeras = await fileOf('mobilenet_v1_0.25', 'keras');
  fromTimm = await fileOf('mobilenet_v3_small_0.75', 'timm');
});
beforeEach(() => {
  for (const name of Object.keys(process.env)) if (/proxy|^HF_|^TL_MIRROR/i.test(name)) delete process.env[name];
  process.env.TL_HOME = place.home;
});
afterEach(() => {
  process.env = { ...before };
});
afterAll(async () => {
  await publisher.close();
  place.remove();
});

describe('from a mirror', () => {
  test('says what it does, imports, and removes the download', async () => {
    process.env.TL_MIRROR = `${publisher.url}/mirror`;
    publisher.answer((asked, response) => serve(fromKeras, asked, response, { etag: '"1"' }));
    const ran = await tl(['pull', 'mobilenet_v1_0.25']);
    expect(ran).toMatchObject({ code: 0 });
    expect(publisher.asked.map(({ path }) => path)).toEqual([`/mirror/storage.googleapis.com/${keras}`]);
    expect(ran.stderr).toContain(`address: ${publisher.url}/mirror/storage.googleapis.com/${keras}`);
    expect(ran.stderr).toContain('licence: Apache-2.0');
    expect(ran.stdout).toContain('nobody states a checksum');
    expect(ran.stdout).toMatch(/^stored in: +.*mobilenet_v1_0\.25\/keras$/m);
    expect(existsSync(join(place.home, 'weights', 'mobilenet_v1_0.25', 'keras', 'weights.safetensors'))).toBe(true);
  });

  test('--keep keeps it, and --json says where', async () => {
    process.env.TL_MIRROR = publisher.url;
    publisher.answer((asked, response) => serve(fromKeras, asked, response, { etag: '"1"' }));
    const ran = await tl(['pull', 'mobilenet_v1_0.25', '--keep', '--json', '--quiet']);
    const { download, source } = json<PullReport & Record<string, unknown>>(ran);
    expect(ran.stderr).toBe('');
    expect(source).toBe('keras');
    expect(download).toMatchObject({ bytes: fromKeras.length, already: 0, checked: [] });
    expect(readFileSync(download!.file!).equals(fromKeras)).toBe(true);
  });

  test('torchvision’s own file is the one that torchvision names', async () => {
    process.env.TL_MIRROR = publisher.url;
    publisher.answer((asked, response) => serve(fromTorchvision, asked, response, { etag: '"1"' }));
    const ran = await tl(['pull', 'mobilenet_v2_1.0', '--source', 'torch', '--json']);
    expect(json<PullReport & Record<string, unknown>>(ran).download).toMatchObject({
      bytes: 14_212_972,
      checked: [{ kind: 'sha256', digits: 'b0353104', by: "the file's name" }],
    });
    expect(publisher.asked.map(({ path }) => path)).toEqual(['/download.pytorch.org/models/mobilenet_v2-b0353104.pth']);
  });

  test('of an archive, the member that is named is imported', async () => {
    process.env.TL_MIRROR = publisher.url;
    publisher.answer((asked, response) => serve(fromSlim, asked, response));
    const ran = await tl(['pull', 'mobilenet_v1_0.25', '--source', 'slim', '--json']);
    expect(ran).toMatchObject({ code: 0 });
    expect(json(ran)).toMatchObject({ source: 'slim', classes: 1001, format: 'tf-checkpoint' });
    expect(publisher.asked[0]!.path).toBe(
      '/storage.googleapis.com/download.tensorflow.org/models/mobilenet_v1_2018_08_02/mobilenet_v1_0.25_224.tgz',
    );
  });

  test('another network’s file is refused and not kept', async () => {
    process.env.TL_MIRROR = publisher.url;
    publisher.answer((asked, response) => serve(fromTimm, asked, response));
    const ran = await tl(['pull', 'mobilenet_v1_0.25']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('error[WEIGHTS_MISMATCH]');
  });

  test('a file with a checksum that differs is refused before it is opened', async () => {
    process.env.TL_MIRROR = publisher.url;
    publisher.answer((asked, response) => serve(fromKeras, asked, response));
    const ran = await tl(['pull', 'mobilenet_v3_small_1.0']);
    expect(ran.stderr).toContain('error[DOWNLOAD_WRONG]');
    expect(ran.stderr).toContain('expected md5 8768d4c2e7dee89b9d02b2d03d65d862');
  });
});

describe('without a download', () => {
  test('--dry-run asks nobody', async () => {
    publisher.answer(() => {});
    process.env.TL_MIRROR = publisher.url;
    const ran = await tl(['pull', 'resnet50', '--source', 'torch', '--dry-run', '--json']);
    expect(json(ran)).toMatchObject({
      backbone: 'resnet50',
      source: 'torch',
      bytes: 102_530_810,
      license: 'BSD-3-Clause',
    });
    expect(publisher.asked).toEqual([]);
  });

  test('what nobody publishes is said to be so', async () => {
    const ran = await tl(['pull', 'resnet50', '--source', 'notes']);
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('error[PULL_NOT_OFFERED]') as string });
    expect(ran.stderr).toContain('keras, torch, slim, keras_v1');
  });

  test('missing weights name the command', async () => {
    const ran = await tl([
      'finetune',
      '--backbone',
      'resnet50',
      '--data',
      place.folder,
      '--out',
      join(place.folder, 'r'),
    ]);
    expect(ran.stderr).toContain('tl pull resnet50 --source keras');
    expect(ran.stderr).toContain('tl import FILE --backbone resnet50');
  });
});

describe('from a hub', () => {
  const path = '/timm/tf_mobilenetv3_small_075.in1k/resolve/main/model.safetensors';
  const pull = () => tl(['pull', 'mobilenet_v3_small_0.75', '--source', 'timm', '--json']);

  test('takes its size and sha256, and tells the token to it alone', async () => {
    const storage = await openPublisher();
    storage.answer((asked, response) => serve(fromTimm, asked, response, { etag: '"storage"' }));
    const sha256 = createHash('sha256').update(fromTimm).digest('hex');
    publisher.answer((_, response) => {
      const linked = { 'x-linked-etag': `"${sha256}"`, 'x-linked-size': fromTimm.length };
      response.writeHead(302, { location: `${storage.url}/blob?signature=x`, ...linked }).end();
    });
    process.env.HF_ENDPOINT = publisher.url;
    process.env.HF_TOKEN = 'hf_secret';
    const { download } = json<PullReport & Record<string, unknown>>(await pull());
    expect(download).toMatchObject({
      bytes: fromTimm.length,
      checked: [{ kind: 'sha256', digits: sha256, by: 'the hub' }],
    });
    expect(publisher.asked.map((each) => [each.path, each.headers.authorization])).toEqual([
      [path, 'Bearer hf_secret'],
      [path, 'Bearer hf_secret'],
    ]);
    expect(storage.asked.every(({ headers }) => headers.authorization === undefined)).toBe(true);
    await storage.close();
  });

  test('that wants to know who asks says how to tell it', async () => {
    process.env.HF_ENDPOINT = publisher.url;
    publisher.answer((_, response) => {
      response.writeHead(401, { 'content-type': 'application/json' }).end('{"error":"Access is restricted"}');
    });
    const ran = await pull();
    expect(ran.stderr).toContain('the server answers 401 Unauthorized: Access is restricted');
    expect(ran.stderr).toContain('set HF_TOKEN');
  });

  test('a token is not told to a mirror', async () => {
    process.env.TL_MIRROR = publisher.url;
    process.env.HF_TOKEN = 'hf_secret';
    publisher.answer((_, response) => void response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end());
    expect((await pull()).stderr).toContain('the hub has no file model.safetensors');
    expect(publisher.asked[0]).toMatchObject({ path: `/huggingface.co${path}` });
    expect(publisher.asked[0]!.headers.authorization).toBeUndefined();
  });
});

describe('through a proxy', () => {
  const open = async (status: string) => {
    const tunnels: string[] = [];
    const proxy = createServer().on('connect', (request, socket) => {
      tunnels.push(request.url!);
      socket.on('error', () => {});
      if (status !== '200') return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
      const [host, port] = request.url!.split(':');
      const to = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        to.pipe(socket).pipe(to);
      }).on('error', () => {});
    });
    await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
    const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    return { url, tunnels, close: () => proxy.close() };
  };

  test.each([
    ['', 1],
    ['127.0.0.1', 0],
  ])('NO_PROXY=%s', async (none, expected) => {
    const proxy = await open('200');
    Object.assign(process.env, { TL_MIRROR: publisher.url, HTTP_PROXY: proxy.url, NO_PROXY: none });
    publisher.answer((asked, response) => serve(fromKeras, asked, response));
    const ran = await tl(['pull', 'mobilenet_v1_0.25']);
    expect(ran).toMatchObject({ code: 0, stderr: expect.not.stringContaining('xperimental') as string });
    expect(proxy.tunnels).toHaveLength(expected);
    proxy.close();
  });

  test('that refuses is named, without its password', async () => {
    const proxy = await open('407');
    Object.assign(process.env, { TL_MIRROR: publisher.url, HTTP_PROXY: proxy.url.replace('//', '//me:s3cret@') });
    const ran = await tl(['pull', 'mobilenet_v1_0.25']);
    expect(ran.stderr).toContain('the proxy answers 407 Proxy Authentication Required');
    expect(ran.stderr).toContain(`the environment names the proxy ${proxy.url}`);
    expect(ran.stderr).not.toContain('s3cret');
    proxy.close();
  });
});
