/** `.keras` archives: what is refused, what is unpacked, and that nothing of it stays behind. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openZip } from '../../src/weights/archive/zip.js';
import { openWeights } from '../../src/weights/source.js';
import { fixturesFolder, generateTensor } from '../support/golden.js';
import { setHome } from '../support/home.js';
import { expectFailure, temporaryFile, withSource } from './support/temporary.js';
import { zipOf } from './support/torch-writer.js';

const fixture = join(fixturesFolder, 'files', 'keras3-shared.keras');
const home = mkdtempSync(join(tmpdir(), 'tl-keras-home-'));

beforeAll(() => {
  setHome(home);
});
afterAll(() => {
  rmSync(home, { recursive: true, force: true });
});

const unpacked = (): string[] => (existsSync(join(home, 'tmp')) ? readdirSync(join(home, 'tmp')) : []);

async function entriesOf(path: string): Promise<Map<string, Buffer>> {
  const zip = await openZip(path);
  try {
    const found = new Map<string, Buffer>();
    for (const name of zip.entries.keys()) found.set(name, await zip.read(name));
    return found;
  } finally {
    await zip.close();
  }
}

/** The fixture with other entries; undefined takes one away. */
async function changed(name: string, change: Readonly<Record<string, string | Buffer | undefined>>, compress = false) {
  const entries = new Map<string, string | Buffer>(await entriesOf(fixture));
  for (const [entry, content] of Object.entries(change)) {
    if (content === undefined) entries.delete(entry);
    else entries.set(entry, content);
  }
  return temporaryFile(name, await zipOf([...entries], { compress }));
}

const config = async (change: (model: Record<string, unknown>) => void): Promise<string> => {
  const model = JSON.parse((await entriesOf(fixture)).get('config.json')!.toString()) as Record<string, unknown>;
  change(model);
  return JSON.stringify(model);
};

describe('a .keras archive', () => {
  it('says what it is, and keeps its weights unpacked until it is closed', async () => {
    await withSource(fixture, async (source) => {
      expect(source.path).toBe(fixture);
      expect(source.metadata).toMatchObject({ layout: 'keras3-archive', keras_version: '3.8.0' });
      expect(JSON.parse(source.metadata.model_config!)).toMatchObject({ class_name: 'Sequential' });
      expect(source.setAside?.every(({ reason }) => reason === 'state of the optimiser')).toBe(true);
      expect(source.setAside?.map(({ name }) => name)).toContain('optimizer/vars/0');
      expect(unpacked()).toHaveLength(1);
      const [folder] = unpacked();
      const weights = readFileSync(join(home, 'tmp', folder!, 'model.weights.h5'));
      expect(weights.equals((await entriesOf(fixture)).get('model.weights.h5')!)).toBe(true);
    });
    expect(unpacked()).toEqual([]);
  });

  it('of Keras 3.0 to 3.5, which puts no names beside the weights, has those of its configuration', async () => {
    const counted = readFileSync(join(fixturesFolder, 'files', 'keras3-counted.weights.h5')); // of the same model
    const path = await changed('old.keras', { 'model.weights.h5': counted });
    const tensorsOf = (of: string) => withSource(of, ({ tensors }) => tensors);
    expect(await tensorsOf(path)).toEqual(await tensorsOf(fixture));
  });

  // Keras 2.13.1: tiny_models.deep(keras, unique=False).save(...), so that variable i holds tensor `whole/i`
  it('of Keras 2.13, which counts every layer with weights twice, has the names and numbers of the model', async () => {
    const path = fileURLToPath(new URL('./fixtures/keras-2.13.keras', import.meta.url));
    await withSource(path, async (source) => {
      expect(source.metadata.keras_version).toBe('2.13.1');
      expect(source.tensors.map(({ name }) => name)).toEqual([
        'body/common/kernel',
        'body/common/bias',
        'body/first/own/kernel',
        'body/second/own/kernel',
        'body/norm/beta',
        'body/norm/moving_mean',
        'body/norm/moving_variance',
        'body/own/kernel',
        'body/own/bias',
        'dense/kernel',
        'dense/bias',
        'dense_1/kernel',
        'dense_1/bias',
      ]);
      for (const [i, { name, shape }] of source.tensors.entries()) {
        expect(await source.read(name), name).toEqual(generateTensor(`whole/${i}`, shape, 0.5, 0.5));
      }
    });
  });

  it('may be packed again, deflated', async () => {
    const names = await withSource(fixture, ({ tensors }) => tensors);
    expect(await withSource(await changed('packed.keras', {}, true), ({ tensors }) => tensors)).toEqual(names);
  });

  it('of a model that keeps its layers in attributes has the names that Keras 3.6 and later put beside the weights', async () => {
    const custom = JSON.stringify({ class_name: 'MyModel', config: { layers: [64, 128] }, module: null });
    const path = await changed('custom.keras', { 'config.json': custom });
    const names = await withSource(path, ({ tensors }) => tensors.map(({ name }) => name));
    expect(names).toEqual(expect.arrayContaining(['dense/kernel', 'body/own/kernel', 'body/first/own/kernel']));
  });

  for (const [title, change, code, message] of [
    [
      'in several files',
      { 'model.weights.h5': undefined, 'model.weights.json': '{}' },
      'KERAS_ARCHIVE',
      /model\.weights\.json/,
    ],
    [
      'in NumPy files',
      { 'model.weights.h5': undefined, 'model.weights.npz': 'PK' },
      'KERAS_ARCHIVE',
      /model\.weights\.npz/,
    ],
    ['with no HDF5 in it', { 'model.weights.h5': 'no HDF5' }, 'H5_DAMAGED', /\.keras: the file cannot be opened/],
    ['with a configuration that is no JSON', { 'config.json': '{"class' }, 'KERAS_CONFIG', /no JSON/],
    ['with a configuration of no model', { 'config.json': '[1]' }, 'KERAS_CONFIG', /names no class/],
    ['with a version that is none', { 'metadata.json': '{"keras_version": 3}' }, 'KERAS_ARCHIVE', /metadata\.json/],
  ] as const) {
    it(`${title} is refused, and nothing stays behind`, async () => {
      const path = await changed('refused.keras', change);
      await expectFailure(() => openWeights(path), code, message);
      expect(unpacked()).toEqual([]);
    });
  }

  it('whose weights do not match their checksum is refused while they are unpacked', async () => {
    const bytes = readFileSync(fixture);
    const at = bytes.indexOf(Buffer.from([0x89, 0x48, 0x44, 0x46])) + 4000; // within the HDF5 file
    bytes[at]! ^= 1;
    await expectFailure(() => openWeights(temporaryFile('flipped.keras', bytes)), 'ZIP_DAMAGED', /checksum/);
    expect(unpacked()).toEqual([]);
  });

  it('whose configuration calls a layer otherwise than its weights do is refused', async () => {
    const renamed = (await config(() => undefined))
      .replaceAll('"joined"', '"other"')
      .replaceAll('"norm"', '"standard"');
    const path = await changed('renamed.keras', { 'config.json': renamed });
    await expectFailure(() => openWeights(path), 'H5_LAYOUT', /"norm" beside its weights and "standard"/);
  });

  it('whose configuration nests models without end is refused', async () => {
    const nested = `${'{"class_name":"M","config":{"layers":['.repeat(70)}{"class_name":"Dense"}${']}}'.repeat(70)}`;
    const path = await changed('nested.keras', { 'config.json': nested });
    await expectFailure(() => openWeights(path), 'LIMIT_EXCEEDED', /models are nested 65 deep/);
  });

  it('with fewer layers in its configuration than in its weights keeps the names that it has', async () => {
    const path = await changed('fewer.keras', {
      'config.json': await config((model) => {
        (model.config as { layers: unknown[] }).layers = [];
      }),
    });
    const names = await withSource(path, ({ tensors }) => tensors.map(({ name }) => name));
    expect(names).toEqual(expect.arrayContaining(['dense/kernel', 'body/norm/vars/0']));
  });
});
