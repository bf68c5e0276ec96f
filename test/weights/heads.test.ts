/** Whole classifiers as Keras saves them: the layers of whoever fine-tuned a backbone come along with it. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import type { ToolkitError } from '../../src/errors.js';
import { formatHead } from '../../src/heads/heads.js';
import { importWeights } from '../../src/weights/import.js';
import { type ModelRecord, openModelFolder } from '../../src/weights/model-folder.js';
import { encodeNpy } from '../../src/weights/numpy/npy.js';
import { openNpz } from '../../src/weights/numpy/npz.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { headConfigOf } from '../../src/weights/plan/head-config.js';
import { planCanonical, planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';
import { tl } from '../cli/harness.js';
import { generatedSource, generateTensor, readForwardGolden } from '../support/golden.js';
import { setHome } from '../support/home.js';

interface Case {
  readonly file: string;
  readonly files: readonly string[];
  readonly hidden: readonly number[];
  /** Whether the file says which activations it has. */
  readonly stated: boolean;
  /** [2, classes], up to a constant in each row; float32 in base64. */
  readonly logits: string;
}

const fixtures = new URL('../golden/fixtures/files/heads/', import.meta.url);
const golden = JSON.parse(readFileSync(new URL('heads.json', fixtures), 'utf8')) as {
  readonly input: readonly number[];
  readonly classes: number;
  readonly cases: readonly Case[];
};
const name = 'mobilenet_v1_0.25';
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tl-heads-'));
  setHome(join(folder, 'home'));
  for (const file of golden.cases.flatMap(({ files }) => files)) {
    writeFileSync(join(folder, file), gunzipSync(readFileSync(new URL(`${file}.gz`, fixtures))));
  }
  const shape = [...golden.input];
  writeFileSync(join(folder, 'x.npy'), encodeNpy({ shape, data: generateTensor('input', shape, 0, 1) }));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Logits of a run of `tl forward`, each row without its mean. */
async function forward(...network: string[]): Promise<number[]> {
  const output = join(folder, 'y.npz');
  const ran = await tl(['forward', ...network, '--input', join(folder, 'x.npy'), '--output', output]);
  expect(ran.stderr + ran.stdout).not.toContain('error[');
  const arrays = await openNpz(output);
  const logits = await arrays.read('logits');
  await arrays.close();
  return centred([...logits]);
}

function centred(values: readonly number[]): number[] {
  const { classes } = golden;
  return values.map((value, i) => {
    const row = values.slice(i - (i % classes), i - (i % classes) + classes);
    return value - row.reduce((a, b) => a + b, 0) / classes;
  });
}

const expected = ({ logits }: Case): number[] => {
  const bytes = Buffer.from(logits, 'base64');
  return centred(Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i)));
};

function expectClose(values: readonly number[], wanted: readonly number[]): void {
  const most = Math.max(...wanted.map(Math.abs));
  expect(Math.max(...values.map((value, i) => Math.abs(value - wanted[i]!))) / most).toBeLessThan(1e-4);
}

describe.each(golden.cases)('$file, as Keras wrote it', (each) => {
  const { file, hidden, stated } = each;

  test('is imported with its head, which gives the logits that Keras gives', async () => {
    const path = join(folder, file);
    const report = await importWeights(path);
    const head = `${formatHead({ hidden, dropout: 0 })} of ${golden.classes} classes`;
    expect(report).toMatchObject({ backbone: name, source: 'keras', classes: null, head });
    expect(Object.keys(report.totals)).toEqual(['ok']);
    expect(report.file.parts?.map((part) => part.name) ?? []).toEqual(each.files.slice(1));
    for (const part of report.file.parts ?? []) {
      const bytes = readFileSync(join(folder, part.name));
      expect(part).toMatchObject({ size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
    }
    const said = report.adaptations.find(({ kind }) => kind === 'head')!;
    expect(said.tensors).toHaveLength(2 * hidden.length + 2);
    expect(/ReLU is taken for granted/.test(said.text)).toBe(!stated);
    const wanted = expected(each);
    expectClose(await forward('--backbone', name, '--weights', path), wanted);
    expectClose(await forward('--backbone', name), wanted); // the store
    const stored = await resolveWeights({ backbone: name, weights: 'auto' });
    expect(stored.head).toMatchObject({ hidden, classes: golden.classes });
    expect(stored.parameters.some((parameter) => parameter.path.startsWith('head.'))).toBe(false);
    await stored.close();
  });
});

describe('a model folder', () => {
  const whole = 'notes-whole.h5';
  const named = { 0: 'daisy', 1: 'dandelion', 2: 'roses', 3: 'sunflowers', 4: 'tulips' };

  test('of a file with a head computes what the file computes, under the names of its classes', async () => {
    const indices = join(folder, 'class_indices.json');
    writeFileSync(indices, JSON.stringify(named));
    const out = join(folder, 'flowers');
    const argv = ['import', join(folder, whole), '--out', out, '--class-indices', indices];
    const ran = await tl(argv);
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stdout).toContain(`stored in: ${out}`);
    const model = await openModelFolder(out);
    expect(model.record).toMatchObject({
      backbone: name,
      source: 'keras',
      head: { hidden: [12], dropout: 0.5 },
      classes: Object.values(named),
    });
    await model.close();
    expectClose(await forward('--model', out), expected(golden.cases.find(({ file }) => file === whole)!));
    expect(await tl(argv)).toMatchObject({ code: 2, stderr: expect.stringContaining('OUT_EXISTS') as string });
    expect(await tl([...argv, '--overwrite'])).toMatchObject({ code: 0 });
    // the notes' own generators write names first
    writeFileSync(indices, JSON.stringify(Object.fromEntries(Object.entries(named).map(([i, n]) => [n, Number(i)]))));
    await importWeights(join(folder, whole), { out, classIndices: indices, overwrite: true });
    const again = await openModelFolder(out);
    expect(again.record.classes).toEqual(Object.values(named));
    await again.close();
  });

  test('names that do not fit the classes are listed', async () => {
    const indices = join(folder, 'wrong.json');
    writeFileSync(indices, JSON.stringify({ 0: 'daisy', 1: 'roses', 3: 'tulips', 7: 'oaks' }));
    const ran = await tl(['import', join(folder, whole), '--out', join(folder, 'no'), '--class-indices', indices]);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('CLASS_INDICES');
    for (const fault of ['index 7 ("oaks") is beyond', 'index 2 has no name', 'index 4 has no name']) {
      expect(ran.stderr).toContain(fault);
    }
  });

  test('can be imported again, and has the size of its pictures', async () => {
    const out = join(folder, 'again');
    const small = join(folder, 'small');
    const { files } = golden.cases.find((each) => each.file === whole)!;
    await importWeights(join(folder, files[0]!), { out: small });
    const record = JSON.parse(readFileSync(join(small, 'model.json'), 'utf8')) as ModelRecord;
    writeFileSync(join(small, 'model.json'), JSON.stringify({ ...record, inputSize: { height: 64, width: 96 } }));
    const report = await importWeights(join(small, 'weights.safetensors'), { out });
    expect(report).toMatchObject({ head: 'mlp:12 of 5 classes', adaptations: [{ kind: 'head' }] });
    const model = await openModelFolder(out);
    expect(model.record).toMatchObject({
      inputSize: { height: 64, width: 96 },
      channels: 3,
      classes: ['0', '1', '2', '3', '4'],
    });
    await model.close();
    expectClose(await forward('--model', out), expected(golden.cases.find(({ file }) => file === whole)!));
    const unused = await tl(['import', join(folder, whole), '--class-indices', 'x.json']);
    expect(unused).toMatchObject({ code: 2, stderr: expect.stringContaining('CLASS_INDICES_UNUSED') as string });
  });

  test('of a backbone alone is refused', async () => {
    const ran = await tl(['import', join(folder, whole), '--classifier', 'drop', '--out', join(folder, 'no')]);
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('NO_CLASSIFIER') as string });
  });
});

test('a head is dropped where the user says so, by either option', async () => {
  const path = join(folder, 'functional-whole.h5');
  const dropped = await importWeights(path, { classifier: 'drop', dryRun: true });
  expect(dropped).toMatchObject({ head: null, classes: null, totals: { ok: 135, set_aside: 6 } });
  expect(dropped.adaptations).toContainEqual({
    kind: 'classifier_dropped',
    tensors: expect.arrayContaining(['second/kernel', 'zeroth/bias']) as string[],
    text: 'the head dropped: second/kernel and 5 others',
  });
  const ignored = await importWeights(path, { ignore: ['zeroth/*'], dryRun: true });
  expect(ignored).toMatchObject({ head: null, totals: { ok: 135, ignored: 6 } });
});

// ---- chains told by names and shapes ---------------------------------------------------------------------------------

const float = (tensor: string, ...shape: number[]): TensorInfo => ({ name: tensor, dtype: 'float32', shape });
const dense = (layer: string, from: number, to: number): TensorInfo[] => [
  float(`${layer}/kernel`, from, to),
  float(`${layer}/bias`, to),
];
const linear = (layer: string, from: number, to: number): TensorInfo[] => [
  float(`${layer}.weight`, to, from),
  float(`${layer}.bias`, to),
];

/** A fixture without its classifier, and with other tensors behind it. */
function headed(publisher: string, more: readonly TensorInfo[], metadata: Record<string, string> = {}): TensorSource {
  const file = generatedSource(readForwardGolden(name, publisher).tensors, 'keras-h5');
  const classifier = /^conv_preds\//;
  return { ...file, tensors: [...file.tensors.filter((tensor) => !classifier.test(tensor.name)), ...more], metadata };
}

function planned(file: TensorSource) {
  const backbone = findBackbone(name);
  return planWeights(file, backbone, findPublished(backbone, 'keras'));
}

const chain = (file: TensorSource): string[] =>
  planned(file).rows.flatMap(({ parameter, tensor }) =>
    parameter?.path.startsWith('head.') && parameter.role === 'dense.kernel' ? [tensor!.name] : [],
  );

describe('a chain of dense layers', () => {
  test('is told by its shapes, whatever it is called', () => {
    const file = headed('keras', [...dense('out', 64, 7), ...dense('top/hidden', 256, 64)]);
    expect(chain(file)).toEqual(['top/hidden/kernel', 'out/kernel']);
    expect(planned(file).head).toMatchObject({ hidden: [64], classes: 7, stated: false });
    expect(recognise(file)[0]).toMatchObject({ backbone: { name }, published: { source: 'keras' } });
  });

  test('of layers that are counted, by their numbers where shapes leave it open', () => {
    const counted = [...dense('dense_10', 256, 256), ...dense('dense_9', 256, 256), ...dense('dense_11', 256, 4)];
    expect(chain(headed('keras', counted))).toEqual(['dense_9/kernel', 'dense_10/kernel', 'dense_11/kernel']);
    const named = [...dense('b', 256, 256), ...dense('a', 256, 256), ...dense('c', 256, 4)];
    const plan = planned(headed('keras', named));
    expect(plan.head).toBeUndefined();
    expect(faultsOf(plan)[0]).toContain('their order cannot be told from shapes and names');
  });

  test.each([
    ['on other numbers', dense('dense', 12_544, 5), 'no chain of dense layers on the 256 numbers of pre_logits'],
    ['with a gap', [...dense('dense', 256, 64), ...dense('dense_1', 65, 5)], 'no chain of dense layers'],
    [
      'beside a norm',
      [...dense('dense', 256, 64), float('bn/gamma', 64), ...dense('dense_1', 64, 5)],
      'beside dense layers stands bn/gamma',
    ],
    ['without a bias', [float('dense/kernel', 256, 5)], undefined],
  ])('%s is none, and every tensor is a fault', (_, tensors, reason) => {
    const plan = planned(headed('keras', tensors));
    expect(plan.head).toBeUndefined();
    const faults = faultsOf(plan);
    expect(faults).toHaveLength(tensors.length);
    if (reason !== undefined) expect(faults[0]).toContain(reason);
  });

  test("PyTorch's, in a Sequential in the place of the last layer, or behind it", () => {
    const file = (publisher: string, tensors: (kept: readonly TensorInfo[]) => readonly TensorInfo[]) => {
      const source = generatedSource(readForwardGolden('mobilenet_v2_1.0', publisher).tensors, 'torch');
      const backbone = findBackbone('mobilenet_v2_1.0');
      const kept = source.tensors.filter((tensor) => !tensor.name.startsWith('classifier.'));
      return planWeights({ ...source, tensors: tensors(kept) }, backbone, findPublished(backbone, publisher));
    };
    const outputs = (plan: ReturnType<typeof file>) => [plan.classes, plan.head?.hidden, plan.head?.classes];
    const two = file('torch', (kept) => [
      ...kept,
      ...linear('classifier.1', 1280, 64),
      ...linear('classifier.4', 64, 7),
    ]);
    expect(outputs(two)).toEqual([undefined, [64], 7]);
    expect(faultsOf(two)).toEqual([]);
    const one = file('torch', (kept) => [...kept, ...linear('classifier.1', 1280, 7)]);
    expect(outputs(one)).toEqual([7, undefined, undefined]);
    const strange = file('torch', (kept) => [
      ...kept,
      ...linear('classifier.1', 1280, 1000),
      ...linear('top', 1000, 7),
    ]);
    expect(outputs(strange)).toEqual([1000, undefined, undefined]);
    expect(faultsOf(strange)).toHaveLength(2);
  });

  test('our own files name it', () => {
    const backbone = findBackbone(name);
    const published = findPublished(backbone, 'keras');
    const { graph } = planned(headed('keras', dense('dense', 256, 5)));
    const own = graph.parameters.map(({ path, shape }) => float(path, ...shape));
    const plan = (tensors: TensorInfo[]) => planCanonical({ ...headed('keras', []), tensors }, backbone, published);
    expect(plan(own).head).toMatchObject({ hidden: [], classes: 5, stated: true });
    const torn = plan(own.filter((tensor) => tensor.name !== 'head.logits.bias'));
    expect(torn.head).toBeUndefined();
    expect(torn.rows.at(-1)).toMatchObject({ verdict: 'set_aside', reason: 'part of a head that is not whole' });
  });
});

describe("what Keras' configuration says", () => {
  const layer = (className: string, config: object = {}) => ({ class_name: className, config });
  const d = (layerName: string, activation: unknown) => layer('Dense', { name: layerName, activation });
  const of = (...layers: object[]) => JSON.stringify(layer('Sequential', { name: 's', layers }));
  const read = (json: string) => headConfigOf('x.h5', json, ['dense', 'dense_1']);

  test('of the share that is dropped, and the order', () => {
    const half = layer('Dropout', { rate: 0.5 });
    const config = of(half, d('dense_1', 'relu'), half, d('dense', 'linear'), layer('Softmax'));
    expect(read(config)).toEqual({ order: ['dense_1', 'dense'], dropout: 0.5 });
    expect(read(of(half, d('dense', 'relu'), d('dense_1', 'softmax')))).toMatchObject({ dropout: 0 });
    const function_ = { class_name: 'function', config: 'relu' };
    expect(read(of(d('dense', function_), d('dense_1', null)))).toMatchObject({ dropout: 0 });
    const apart = of(d('dense', 'linear'), layer('Activation', { activation: 'relu' }), d('dense_1', null));
    expect(read(apart)).toMatchObject({ order: ['dense', 'dense_1'] });
    expect(read(of(d('other', 'relu')))).toBeUndefined();
  });

  test.each([
    ['another activation', [d('dense', 'tanh'), d('dense_1', 'softmax')], 'Dense dense is followed by tanh'],
    ['none', [d('dense', 'linear'), d('dense_1', 'softmax')], 'Dense dense is followed by no activation'],
    ['a sigmoid at the end', [d('dense', 'relu'), d('dense_1', 'sigmoid')], 'Dense dense_1 is followed by sigmoid'],
    [
      'a limit',
      [d('dense', 'linear'), layer('ReLU', { max_value: 6 }), d('dense_1', 'softmax')],
      'a ReLU with a slope or a limit',
    ],
    [
      'a norm',
      [d('dense', 'relu'), layer('UnitNormalization', { name: 'unit' }), d('dense_1', 'softmax')],
      'UnitNormalization unit stands behind Dense dense',
    ],
    [
      'maxima',
      [layer('GlobalMaxPooling2D', { name: 'max' }), d('dense', 'relu'), d('dense_1', 'softmax')],
      'GlobalMaxPooling2D max',
    ],
  ])('%s is refused by name', (_, layers, fault) => {
    expect(read(of(...layers))).toEqual({ fault: expect.stringContaining(fault) as string });
    const file = headed('keras', [...dense('dense', 256, 64), ...dense('dense_1', 64, 5)], {
      model_config: of(...layers),
    });
    expect(faultsOf(planned(file))[0]).toContain(fault);
  });
});

test('a fault of a file with a head is one of the import', async () => {
  const error = await importWeights(join(folder, 'notes-whole.h5'), { source: 'slim' }).catch(
    (reason: unknown) => reason,
  );
  expect((error as ToolkitError).code).toBe('NOT_RECOGNISED');
});
