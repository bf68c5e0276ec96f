import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { encodeNpy } from '../../src/weights/numpy/npy.js';
import { openWeights, type TensorSource } from '../../src/weights/source.js';
import { fixturesFolder } from '../support/golden.js';
import { setHome } from '../support/home.js';
import { END, type TarMember, tarOf } from './support/tar-writer.js';
import { expectFailure, readAll, temporary, temporaryFile, withSource } from './support/temporary.js';
import { zipOf } from './support/torch-writer.js';

const files = join(fixturesFolder, 'files');
const fixture = (name: string) => readFileSync(join(files, name));

const home = temporary('home');
beforeAll(() => {
  setHome(home);
});
/** Folders of unpacked archives. */
const unpacked = () => (existsSync(join(home, 'tmp')) ? readdirSync(join(home, 'tmp')) : []);
afterEach(() => {
  expect(unpacked()).toEqual([]);
  expect(readdirSync(home).filter((name) => name !== 'tmp')).toEqual([]);
});

const checkpoint = (prefix: string): TarMember[] => [
  { name: `${prefix}.index`, content: fixture('saver-v2.ckpt.index') },
  { name: `${prefix}.data-00000-of-00001`, content: fixture('saver-v2.ckpt.data-00000-of-00001') },
];
const safetensors = (name: string): TarMember => ({ name, content: fixture('tiny.safetensors') });
const packed = (...members: TarMember[]) => temporaryFile('packed.tar.gz', gzipSync(tarOf(...members)));
const plain = (...members: TarMember[]) => temporaryFile('packed.tar', tarOf(...members));

const memberIn = async (path: string, member?: string): Promise<string | undefined> => {
  const source = await openWeights(path, { member });
  await source.close();
  return source.archive?.name;
};

/** Every tensor, as text, so that two files can be compared. */
async function numbersIn(source: TensorSource): Promise<string> {
  const hash = createHash('sha256');
  for (const { name, dtype, shape } of source.tensors) {
    hash.update(`${name} ${dtype} [${shape.join(', ')}]\n`);
    hash.update(Buffer.from((await source.read(name)).buffer));
  }
  return hash.digest('hex');
}

describe('opening', () => {
  it('tells the archive, its checksum and the member, and takes the unpacked files away when it is closed', async () => {
    const path = join(files, 'slim-gnu.tar.gz');
    const source = await openWeights(path);
    expect(unpacked()).toHaveLength(1);
    const folder = join(home, 'tmp', unpacked()[0]!);
    expect(readdirSync(folder).sort()).toEqual([
      'mobilenet_v1_1.0_224.ckpt.data-00000-of-00001',
      'mobilenet_v1_1.0_224.ckpt.index',
      'mobilenet_v1_1.0_224_frozen.pb',
    ]);
    expect({ format: source.format, path: source.path, archive: source.archive }).toEqual({
      format: 'tf-checkpoint',
      path,
      archive: {
        name: 'mobilenet_v1_1.0_224.ckpt',
        unpacked: join(folder, 'mobilenet_v1_1.0_224.ckpt'),
        sha256: createHash('sha256').update(readFileSync(path)).digest('hex'),
      },
    });
    const plainFile = await openWeights(join(files, 'saver-v2.ckpt'));
    expect(await numbersIn(source)).toBe(await numbersIn(plainFile));
    await plainFile.close();
    await source.close();
    expect(existsSync(folder)).toBe(false);
  });

  it('goes by the content, not by the name', async () => {
    const path = temporaryFile('weights.bin', fixture('slim-gnu.tar.gz'));
    expect(await memberIn(path)).toBe('mobilenet_v1_1.0_224.ckpt');
    expect(await memberIn(temporaryFile('model.h5', fixture('keras2.zip')))).toBe('weights/tiny.h5');
    expect(await memberIn(temporaryFile('tiny.gz', fixture('tiny.safetensors.gz')))).toBe('tiny');
  });

  it('opens weights that are a folder or several files', async () => {
    const shards = [1, 2, 3].map((i) => `group1-shard${i}of3.bin`);
    const model = ['model.json', ...shards].map((name) => ({
      name: `web/${name}`,
      content: fixture(`tfjs-layers/${name}`),
    }));
    expect(await memberIn(packed(...model))).toBe('web/model.json');
    const saved = [
      { name: 'export/saved_model.pb', content: Buffer.from('0801120a0a08120012', 'hex') },
      ...checkpoint('export/variables/variables'),
    ];
    expect(await memberIn(packed(...saved))).toBe('export');
    expect(await memberIn(packed(...checkpoint('variables/variables')))).toBe('the whole archive');
    const index = { weight_map: await mapOf('tiny.safetensors', 'part-1.safetensors') };
    const sharded = [{ name: 'a/model.json', content: JSON.stringify(index) }, safetensors('a/part-1.safetensors')];
    expect(await memberIn(packed(...sharded))).toBe('a/model.json');
    const version1 = { name: 'x.ckpt-00000-of-00001', content: fixture('saver-v1.ckpt') };
    expect(await memberIn(packed(version1))).toBe('x.ckpt-00000-of-00001');
    expect(await memberIn(await zipFile({ 'in/model.npz': fixture('arrays.npz') }))).toBe('in/model.npz');
  });

  it('reads an archive whatever follows its end', async () => {
    const tar = tarOf(safetensors('a.safetensors'));
    const garbage = Buffer.alloc(3 * 2 ** 20, 'garbage');
    const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
    for (const bytes of [
      Buffer.concat([tar, garbage]),
      gzipSync(Buffer.concat([tar, garbage])),
      Buffer.concat([gzipSync(tar), Buffer.alloc(3 * 2 ** 20)]), // as tapes fill their blocks up
      Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700))]),
      tar.subarray(0, -512), // one block of zeros, as old tools end
    ]) {
      await withSource(temporaryFile('more.tgz', bytes), (source) => {
        expect(source.archive).toMatchObject({ name: 'a.safetensors', sha256: sha256(bytes) });
      });
    }
  });

  it('stops when it is told to', async () => {
    const path = packed(safetensors('a.safetensors'));
    await expect(openWeights(path, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    const zip = await zipFile({ 'a.safetensors': fixture('tiny.safetensors') });
    await expect(openWeights(zip, { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  });
});

const mapOf = async (name: string, shard: string) =>
  Object.fromEntries([...(await readAll(join(files, name))).keys()].map((tensor) => [tensor, shard]));

const zipFile = async (members: Readonly<Record<string, Uint8Array>>, name = 'packed.zip') =>
  temporaryFile(name, await zipOf(Object.entries(members).map(([inner, bytes]) => [inner, Buffer.from(bytes)])));

describe('choosing', () => {
  it('takes the checkpoint before what was made of it', async () => {
    const frozen = { name: 'net/frozen.pb', content: fixture('frozen.pb') };
    expect(await memberIn(packed(frozen, ...checkpoint('net/model.ckpt')))).toBe('net/model.ckpt');
    expect(await memberIn(packed(frozen, ...checkpoint('net/saved/variables/variables')))).toBe('net/saved');
    expect(await memberIn(packed(frozen))).toBe('net/frozen.pb');
    const both = [...checkpoint('net/saved/variables/variables'), ...checkpoint('net/model.ckpt')];
    expect(await memberIn(packed(...both))).toBe('net/model.ckpt');
  });

  it("takes the averages of slim's MobileNets v3, and the step that the file `checkpoint` names", async () => {
    const v3 = [...checkpoint('v3-large/pristine/model.ckpt-540000'), ...checkpoint('v3-large/ema/model-540000')];
    expect(await memberIn(packed(...v3))).toBe('v3-large/ema/model-540000');
    expect(await memberIn(packed(...v3), 'v3-large/pristine')).toBe('v3-large/pristine/model.ckpt-540000');
    const state = { name: 'run/checkpoint', content: 'model_checkpoint_path: "/home/they/run/model.ckpt-20"\n' };
    const steps = [...checkpoint('run/model.ckpt-10'), ...checkpoint('run/model.ckpt-20'), state];
    expect(await memberIn(packed(...steps))).toBe('run/model.ckpt-20');
    expect(await memberIn(packed(...steps), 'run/*-10')).toBe('run/model.ckpt-10');
    await expectFailure(() => openWeights(packed(...v3, ...checkpoint('v3-large/else/x'))), 'ARCHIVE_AMBIGUOUS');
  });

  it('asks which of several is meant, and takes a path, a folder or a pattern for an answer', async () => {
    const path = packed(safetensors('a/one.safetensors'), safetensors('b/two.safetensors'));
    const error = await expectFailure(
      () => openWeights(path),
      'ARCHIVE_AMBIGUOUS',
      /2 members hold weights\n {2}- a\/one\.safetensors \(\d+ bytes\)\n {2}- b\/two\.safetensors/,
    );
    expect(error.hint).toMatch(/--member "a\/one\.safetensors"/);
    for (const member of ['b/two.safetensors', './b/two.safetensors', 'b', 'b/', '*two*', 'b/*', '*/two.safetensors']) {
      expect(await memberIn(path, member), member).toBe('b/two.safetensors');
    }
    await expectFailure(() => openWeights(path, { member: '*.safetensors' }), 'ARCHIVE_AMBIGUOUS');
    await expectFailure(
      () => openWeights(path, { member: 'two' }),
      'ARCHIVE_MEMBER',
      /"two"; these hold weights\n.*one/s,
    );
    await expectFailure(() => openWeights(path, { member: '(' }), 'ARCHIVE_MEMBER');
    const parts = packed(...checkpoint('x.ckpt'), safetensors('y.safetensors'));
    for (const member of ['x.ckpt', 'x.ckpt.index', 'x.ckpt.data*'])
      expect(await memberIn(parts, member)).toBe('x.ckpt');
  });

  it('says what an archive holds in the place of weights', async () => {
    const texts = packed({ name: 'README.md', content: '# net' }, { name: 'net.tflite', content: 'TFL3' });
    await expectFailure(
      () => openWeights(texts),
      'ARCHIVE_EMPTY',
      /no member holds weights.*\n.*README\.md\n.*net\.tflite/,
    );
    await expectFailure(
      () => openWeights(texts, { member: 'net.tflite' }),
      'ARCHIVE_MEMBER',
      /"net\.tflite" holds no weights/,
    );
    await expectFailure(() => openWeights(packed({ name: 'net/', type: 'Directory' })), 'ARCHIVE_EMPTY', /is empty/);
    const asText = packed({ name: 'weights.txt', content: fixture('tiny.safetensors') });
    await expectFailure(() => openWeights(asText), 'ARCHIVE_EMPTY');
    expect(await memberIn(asText, 'weights.txt')).toBe('weights.txt');
    const torch = ['sys_info', 'pickle', 'storages', 'tensors'].map((name) => ({ name, content: 'x' }));
    await expectFailure(() => openWeights(plain(...torch)), 'TORCH_TAR', /before version 0\.1\.10/);
    await expectFailure(() => openWeights(join(files, 'tiny.safetensors'), { member: 'x' }), 'NOT_AN_ARCHIVE');
  });

  it('does not unpack an archive in an archive', async () => {
    const inner = { name: 'inner.tar.gz', content: fixture('slim-gnu.tar.gz') };
    await expectFailure(() => openWeights(packed(inner)), 'ARCHIVE_NESTED', /inner\.tar\.gz/);
    const zip = { name: 'inner.zip', content: fixture('keras2.zip') };
    await expectFailure(() => openWeights(plain(zip)), 'ARCHIVE_NESTED', /inner\.zip/);
    await expectFailure(
      () => openWeights(temporaryFile('twice.gz', gzipSync(fixture('slim-gnu.tar.gz')))),
      'ARCHIVE_NESTED',
    );
    expect(await memberIn(packed(inner, zip, safetensors('own.safetensors')))).toBe('own.safetensors');
    await expectFailure(() => openWeights(packed(inner, safetensors('own')), { member: 'inner*' }), 'ARCHIVE_NESTED');
  });

  it('speaks of the archive and its member where the weights are damaged', async () => {
    const cut = { name: 'cut.safetensors', content: fixture('tiny.safetensors').subarray(0, -4) };
    await expectFailure(
      () => openWeights(plain(cut)),
      'FILE_TRUNCATED',
      /packed\.tar: cut\.safetensors: the header declares/,
    );
    const flipped = Buffer.from(fixture('saver-v2.ckpt.data-00000-of-00001'));
    flipped[8]! ^= 1;
    const [index, data] = checkpoint('x.ckpt') as [TarMember, TarMember];
    const source = await openWeights(plain(index, { ...data, content: flipped }));
    await expectFailure(
      async () => {
        for (const { name } of source.tensors) await source.read(name);
      },
      'CHECKPOINT_DAMAGED',
      /packed\.tar: x\.ckpt: the checksum/,
    );
    await source.close();
  });
});

describe('hostile members', () => {
  const good = safetensors('good.safetensors');
  const long = 'a/'.repeat(3000);
  const cases: [string, TarMember[], string, RegExp][] = [
    ['absolute paths', [{ ...good, name: '/etc/passwd' }], 'ARCHIVE_UNSAFE', /"\/etc\/passwd" is an absolute path/],
    ['paths of Windows', [{ ...good, name: 'C:x' }], 'ARCHIVE_UNSAFE', /"C:x" is an absolute path/],
    ['backslashes', [{ ...good, name: 'a\\..\\b' }], 'ARCHIVE_UNSAFE', /backslash/],
    ['ways out', [{ ...good, name: 'a/../../b' }], 'ARCHIVE_UNSAFE', /leads out of the archive/],
    ['ways out in pax', [{ ...good, pax: { path: '../b' } }], 'ARCHIVE_UNSAFE', /"\.\.\/b" leads out/],
    ['folders that lead out', [{ name: '../', type: 'Directory' }], 'ARCHIVE_UNSAFE', /leads out/],
    ['texts that lead out', [{ name: '../README.md', content: 'x' }], 'ARCHIVE_UNSAFE', /leads out/],
    ['control characters', [{ ...good, name: 'a\u001bb' }], 'ARCHIVE_UNSAFE', /control character/],
    ['line ends', [{ ...good, name: 'a\nb' }], 'ARCHIVE_UNSAFE', /control character/],
    ['long names', [{ ...good, pax: { path: `${long}b` } }], 'ARCHIVE_UNSAFE', /has 6001 characters/],
    [
      'links',
      [
        { name: 'a', type: 'SymbolicLink', linkpath: '/etc' },
        { ...good, name: 'a/b' },
      ],
      'ARCHIVE_UNSAFE',
      /"a" is a symbolic link/,
    ],
    ['hard links', [good, { name: 'a', type: 'Link', linkpath: 'good.safetensors' }], 'ARCHIVE_UNSAFE', /a hard link/],
    ['devices', [{ name: 'a', type: 'BlockDevice' }], 'ARCHIVE_UNSAFE', /a device/],
    ['pipes', [{ name: 'a', type: 'FIFO' }], 'ARCHIVE_UNSAFE', /a pipe/],
    ['one name twice', [good, good], 'ARCHIVE_UNSAFE', /two members are called "good\.safetensors"/],
    ['names that differ in case', [good, { ...good, name: 'GOOD.safetensors' }], 'ARCHIVE_UNSAFE', /the same as "GOOD/],
    [
      'letters composed and not',
      [
        { ...good, name: 'é' },
        { ...good, name: 'e\u0301' },
      ],
      'ARCHIVE_UNSAFE',
      /the same as/,
    ],
    [
      'a file as a folder',
      [
        { ...good, name: 'a' },
        { ...good, name: 'a/b' },
      ],
      'ARCHIVE_UNSAFE',
      /two members are called "a"/,
    ],
    [
      'a folder as a file',
      [
        { ...good, name: 'a/b' },
        { ...good, name: 'a' },
      ],
      'ARCHIVE_UNSAFE',
      /two members are called "a"/,
    ],
    ['sparse files', [{ ...good, type: 'SparseFile' }], 'ARCHIVE_UNSUPPORTED', /a sparse file of GNU tar/],
    ['parts of volumes', [{ ...good, type: 'ContinuationFile' }], 'ARCHIVE_UNSUPPORTED', /another volume/],
    ['more than the archive has', [{ ...good, size: 2 ** 40 }], 'FILE_TRUNCATED', /is declared as 1099511627776 bytes/],
    ['huge headers', [{ ...good, pax: { comment: 'x'.repeat(2 ** 20) } }], 'ARCHIVE_DAMAGED', /an extended header of/],
    ['too many', Array.from({ length: 10_001 }, (_, i) => ({ name: `${i}.txt` })), 'LIMIT_EXCEEDED', /more members/],
  ];
  for (const [title, members, code, message] of cases) {
    it(`refuses ${title}`, async () => {
      await expectFailure(() => openWeights(plain(...members)), code, message);
      await expectFailure(() => openWeights(packed(...members)), code, message);
      expect(existsSync(temporary('b'))).toBe(false);
    });
  }

  it('refuses sparse files as GNU tar writes them', async () => {
    await expectFailure(
      () => openWeights(join(files, 'sparse-gnu.tar')),
      'ARCHIVE_UNSUPPORTED',
      /"arrays\.npz" is a sparse/,
    );
    await expectFailure(
      () => openWeights(join(files, 'sparse-pax.tar')),
      'ARCHIVE_UNSUPPORTED',
      /"arrays\.npz" is a sparse/,
    );
  });

  it('refuses links and names alike in a zip', async () => {
    const tiny = fixture('tiny.safetensors');
    const zip = readFileSync(await zipFile({ 'a.safetensors': tiny }));
    const central = zip.lastIndexOf('PK\x01\x02');
    zip[central + 5] = 3; // made by Unix
    zip.writeUInt32LE((0o120777 << 16) >>> 0, central + 38);
    await expectFailure(() => openWeights(temporaryFile('link.zip', zip)), 'ARCHIVE_UNSAFE', /a link or a device/);
    const alike = await zipFile({ 'a.safetensors': tiny, 'A.safetensors': tiny });
    await expectFailure(() => openWeights(alike), 'ARCHIVE_UNSAFE', /the same as/);
    const windows = readFileSync(await zipFile({ 'a/b.safetensors': tiny }));
    for (let at = windows.indexOf('a/b'); at >= 0; at = windows.indexOf('a/b')) windows.write('a\\b', at);
    expect(await memberIn(temporaryFile('windows.zip', windows))).toBe('a/b.safetensors');
  });
});

describe('damaged archives', () => {
  it('refuses one that is cut off, anywhere', async () => {
    const ends = { 'slim-gnu.tar.gz': 0, 'tiny.safetensors.gz': 0, 'keras2.zip': 0, 'vgg.tar': 10 * 512 }; // up to its end
    for (const [name, end] of Object.entries(ends)) {
      const bytes = fixture(name);
      for (let length = 20; length < (end || bytes.length); length += Math.ceil(bytes.length / 43)) {
        const path = temporaryFile(`cut-${name}`, bytes.subarray(0, length));
        const failed = await openWeights(path).then(
          (source) => source.close().then(() => false),
          () => true,
        );
        expect(failed, `${name} cut to ${length} of ${bytes.length} bytes`).toBe(true);
      }
    }
  });

  it('says that it was cut off', async () => {
    const bytes = tarOf(safetensors('a.safetensors'));
    const cut = (length: number) => temporaryFile('cut.tar', bytes.subarray(0, length));
    await expectFailure(
      () => openWeights(cut(1500)),
      'FILE_TRUNCATED',
      /declared as \d+ bytes|in the middle of "a\.safetensors"/,
    );
    await expectFailure(() => openWeights(cut(bytes.length - END.length)), 'FILE_TRUNCATED', /has no end/);
    const gz = gzipSync(bytes);
    await expectFailure(
      () => openWeights(temporaryFile('c.tgz', gz.subarray(0, -1))),
      'FILE_TRUNCATED',
      /end too early/,
    );
    await expectFailure(() => openWeights(temporaryFile('e.gz', gzipSync(''))), 'FILE_EMPTY', /inside is empty/);
    const more = temporaryFile('more.tgz', Buffer.concat([gz, Buffer.from('and more')]));
    await expectFailure(() => openWeights(more), 'ARCHIVE_DAMAGED', /gzip: incorrect header check/);
  });

  it('gives the right numbers or an error whatever byte is changed, since gzip sums them up', async () => {
    const bytes = fixture('slim-gnu.tar.gz');
    const right = await withSource(join(files, 'saver-v2.ckpt'), numbersIn);
    let passed = 0;
    for (let at = 0; at < bytes.length; at += 13) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1 << (at % 8);
      const path = temporaryFile('flipped.tgz', changed);
      const found = await openWeights(path).then(
        async (source) => await numbersIn(source).finally(() => source.close()),
        () => undefined,
      );
      if (found !== undefined) passed++;
      expect([undefined, right], `byte ${at}`).toContain(found);
    }
    expect(passed).toBeLessThan(5); // bytes of the header that mean nothing: a time, a system
  });

  it('notices a damaged header of tar, and a damaged entry of a zip', async () => {
    const tar = gunzipSync(fixture('slim-gnu.tar.gz'));
    tar[700]! ^= 1; // in the second header
    await expectFailure(() => openWeights(temporaryFile('h.tar', tar)), 'ARCHIVE_DAMAGED', /tar: checksum failure/);
    const zip = await zipOf([['a.safetensors', Buffer.from(encodeNpy({ shape: [1], data: Float32Array.of(1) }))]]);
    zip[zip.indexOf('NUMPY')]! ^= 1;
    await expectFailure(() => openWeights(temporaryFile('z.zip', zip)), 'ZIP_DAMAGED', /checksum/);
  });
});
