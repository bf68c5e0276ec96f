/** Models of TensorFlow.js, of layers and of graphs: what their converter stored, and what a bad one is told. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openWeights } from '../../src/weights/source.js';
import { readFileFixtures } from '../support/golden.js';
import { expectFailure, withSource } from './support/temporary.js';

const fixtures = readFileFixtures('tfjs');
const fixture = (folder: string) => dirname(fixtures.find(({ file }) => file.startsWith(`${folder}/`))!.path);
const folder = mkdtempSync(join(tmpdir(), 'tl-tfjs-model-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let made = 0;

/** A model of one group, its shards by name. */
function write(json: unknown, shards: Readonly<Record<string, Uint8Array>> = {}): string {
  const at = join(folder, String(made++));
  mkdirSync(at);
  for (const [name, bytes] of Object.entries(shards)) {
    mkdirSync(dirname(join(at, name)), { recursive: true });
    writeFileSync(join(at, name), bytes);
  }
  writeFileSync(join(at, 'model.json'), typeof json === 'string' ? json : JSON.stringify(json));
  return at;
}

const bytesOf = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

/** A layers model whose manifest is one group. */
const layers = (paths: readonly string[], weights: readonly object[]) => ({
  format: 'layers-model',
  modelTopology: { keras_version: '2.15.0', model_config: { class_name: 'Sequential' } },
  weightsManifest: [{ paths, weights }],
});

const float = (name: string, shape: readonly number[]) => ({ name, shape, dtype: 'float32' });

describe('what the converter wrote', () => {
  test.each([
    ['tfjs-layers', 'tfjs-layers', {}],
    ['tfjs-layers-groups', 'tfjs-layers', { quantized: 'float16, uint8, uint16' }],
    ['tfjs-layers-nested', 'tfjs-layers', {}],
    ['tfjs-graph', 'tfjs-graph', { quantized: 'uint8' }],
    ['tfjs-manifest', 'tfjs-graph', { quantized: 'uint8' }],
  ])('%s is found by its folder, as %s', async (name, format, metadata) => {
    await withSource(fixture(name), (source) => {
      expect(source.format).toBe(format);
      expect(source.metadata).toMatchObject(metadata);
      if (name.startsWith('tfjs-layers')) expect(source.metadata).toHaveProperty('model_config');
    });
  });

  test('any file name does, since files are told by what is in them', async () => {
    const at = join(folder, 'renamed');
    cpSync(fixture('tfjs-layers'), at, { recursive: true });
    cpSync(join(at, 'model.json'), join(at, 'weights'));
    await withSource(join(at, 'weights'), (source) => {
      expect(source.tensors).toHaveLength(15);
    });
  });

  test('texts and complex numbers, and constants that are no weights, are set aside with the reason', async () => {
    await withSource(fixture('tfjs-manifest'), ({ setAside }) => {
      expect(setAside).toEqual([
        { name: 'words', reason: 'text' },
        { name: 'waves', reason: 'complex numbers' },
        ...['axes', 'flags', 'long', 'bytes', 'scalar'].map((name) => ({ name, reason: 'a constant of the graph' })),
      ]);
    });
    await withSource(fixture('tfjs-graph'), ({ setAside }) => {
      expect(setAside).toEqual([
        { name: 'StatefulPartitionedCall/tiny/pool/Mean/reduction_indices', reason: 'a constant of the graph' },
      ]);
    });
  });
});

describe('what a browser or Node saved', () => {
  test('lies beside the model or in a folder below, and names the optimiser apart', async () => {
    const json = layers(
      ['./weights.bin', 'more/rest.bin'],
      [float('dense/kernel', [2, 1]), { ...float('dense/kernel_m', [2]), group: 'optimizer' }],
    );
    const model = write(json, { 'weights.bin': bytesOf(1, 2, 3), 'more/rest.bin': bytesOf(4) });
    await withSource(model, async (source) => {
      expect(await source.read('dense/kernel')).toEqual(Float32Array.of(1, 2));
      expect(await source.read('dense/kernel_m')).toEqual(Float32Array.of(3, 4)); // across two files
      expect(source.setAside).toEqual([{ name: 'dense/kernel_m', reason: 'state of the optimiser' }]);
    });
  });

  test('is described as a converted one is', async () => {
    const model = { class_name: 'Sequential', config: { name: 'sequential_1', layers: [] } };
    const modelTopology = { ...model, keras_version: 'tfjs-layers 4.22.0', backend: 'tensor_flow.js' };
    const at = write(
      { modelTopology, weightsManifest: [{ paths: ['a'], weights: [float('dense/kernel', [1, 1])] }] },
      {
        a: bytesOf(1),
      },
    );
    await withSource(at, ({ format, metadata }) => {
      expect(format).toBe('tfjs-layers');
      expect(metadata).toMatchObject({ keras_version: 'tfjs-layers 4.22.0', backend: 'tensor_flow.js' });
      expect(JSON.parse(metadata.model_config!)).toEqual(model);
    });
  });

  test('whole numbers may be stored as fewer bits, and are whole again', async () => {
    const quantization = { dtype: 'uint16', scale: 0.5, min: -3.2 };
    const model = write(layers(['a'], [{ name: 'n', shape: [2], dtype: 'int32', quantization }]), {
      a: new Uint8Array(Uint16Array.of(0, 1000).buffer),
    });
    await withSource(model, async (source) => {
      expect(source.tensors).toEqual([{ name: 'n', dtype: 'int32', shape: [2] }]);
      expect(await source.read('n')).toEqual(Float32Array.of(-3, 497));
    });
  });
});

describe('a bad model', () => {
  const bad = (json: unknown, code: string, message: RegExp, shards?: Readonly<Record<string, Uint8Array>>) => {
    const at = write(json, shards);
    return expectFailure(() => openWeights(join(at, 'model.json')), code, message);
  };

  test.each([
    ['../weights.bin', /leaves the folder/],
    ['a/../../weights.bin', /leaves the folder/],
    ['/etc/passwd', /no relative path/],
    ['..\\weights.bin', /no relative path/],
    ['https://example.com/weights.bin', /an address/],
    ['file:///etc/passwd', /an address/],
    ['', /empty/],
  ])('whose weights are said to lie in %j', async (path, message) => {
    await bad(layers([path], [float('a', [1])]), 'SHARD_PATH', message);
  });

  test('whose files are absent, too long or too short', async () => {
    const json = layers(['a'], [float('a', [2])]);
    await bad(json, 'FILE_NOT_READ', /that .*model\.json names/);
    await bad(json, 'SHARD_LENGTH', /take 8 bytes.*\(a\) have 4/, { a: bytesOf(1) });
    await bad(json, 'SHARD_LENGTH', /take 8 bytes.*\(a\) have 12/, { a: bytesOf(1, 2, 3) });
  });

  test('with numbers that cannot be told', async () => {
    const one = (spec: object) => layers(['a'], [{ ...float('a', [1]), ...spec }]);
    const quantized = (dtype: string, more = {}) => one({ quantization: { dtype, ...more } });
    await bad(quantized('uint8', { scale: 1 }), 'TFJS_MANIFEST', /"scale" and its "min"/, { a: Buffer.of(1) });
    await bad(quantized('uint4', { scale: 1, min: 0 }), 'DTYPE_UNSUPPORTED', /stored as "uint4"/, { a: Buffer.of(1) });
    await bad(one({ dtype: 'float8' }), 'DTYPE_UNSUPPORTED', /number type "float8"/, { a: Buffer.of(1) });
    await bad(one({ dtype: 'bool', quantization: { dtype: 'uint8', scale: 1, min: 0 } }), 'DTYPE_UNSUPPORTED', /bool/, {
      a: Buffer.of(1),
    });
  });

  test('with sizes that no file covers, before anything is allocated', async () => {
    await bad(layers(['a'], [float('a', [2 ** 40])]), 'LIMIT_EXCEEDED', /has 1099511627776 numbers/, { a: bytesOf(1) });
    await bad(layers(['a'], [float('a', [-1])]), 'TENSOR_SHAPE', /-1/, { a: bytesOf(1) });
    await bad(layers(['a'], [float('a', [0.5])]), 'TENSOR_SHAPE', /0.5/, { a: bytesOf(1) });
    const text = layers(['a'], [{ name: 't', shape: [1000], dtype: 'string' }]);
    await bad(text, 'TFJS_MANIFEST', /1000 texts of "t" do not fit the 4 bytes/, { a: Buffer.alloc(4) });
    await bad(text, 'TFJS_MANIFEST', /1000 texts/, { a: Buffer.of(255, 255, 255, 255) });
    await bad(layers(['a'], [float('a', [1]), float('a', [1])]), 'TENSOR_TWICE', /"a"/, { a: bytesOf(1, 2) });
  });

  test('that is no model, or one without its weights', async () => {
    await bad({ modelTopology: {} }, 'TFJS_NO_WEIGHTS', /names no weights/);
    await bad({ weightsManifest: [{ paths: 'a' }] }, 'TFJS_MODEL', /weightsManifest\.0\.paths/);
    await bad({ format: 'graph-model', modelTopology: {}, weightsManifest: [] }, 'TFJS_MODEL', /no graph/);
    await bad('{"modelTopology": {', 'JSON_INVALID', /not valid JSON/);
    await bad({ anything: 'else' }, 'FORMAT_UNKNOWN', /JSON/);
  });

  test('whose graph is cut off still lists its tensors', async () => {
    const json = JSON.parse(readFileSync(join(fixture('tfjs-graph'), 'model.json'), 'utf8'));
    json.modelTopology.node = [
      { name: 'loop', op: 'Identity', input: ['loop'] },
      { name: 'c', op: 'Conv2D', input: ['x', 'loop'] },
    ];
    const at = join(folder, 'cut');
    cpSync(fixture('tfjs-graph'), at, { recursive: true });
    writeFileSync(join(at, 'model.json'), JSON.stringify(json));
    await withSource(at, (source) => {
      expect(source.tensors).toHaveLength(9);
    });
  });
});
