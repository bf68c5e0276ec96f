/** What of a file is wanted: its running averages or its raw numbers, its classifier with or without the background. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { type ImportOptions, importWeights } from '../../src/weights/import.js';
import { openNpz } from '../../src/weights/numpy/npz.js';
import { type PlanOptions, type PlanRow, planWeights } from '../../src/weights/plan/plan.js';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';
import { folderOf } from '../../src/weights/store.js';
import { tl, writeGoldenWeights, writeInput } from '../cli/harness.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';
import { setHome } from '../support/home.js';

const name = 'mobilenet_v1_0.25';
const AVERAGE = '/ExponentialMovingAverage';
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tl-choices-'));
  setHome(join(folder, 'home'));
  const shape = [1, 49, 65, 3];
  writeInput(join(folder, 'x.npy'), shape);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const plan = (source: TensorSource, options: PlanOptions, backbone = name, publisher = 'slim') =>
  planWeights(source, findBackbone(backbone), findPublished(findBackbone(backbone), publisher), options);

const rowOf = (rows: readonly PlanRow[], path: string) => rows.find(({ parameter }) => parameter?.path === path)!;
const asideOf = (rows: readonly PlanRow[]) =>
  rows.flatMap(({ verdict, tensor, reason }) => (verdict === 'set_aside' ? [`${tensor!.name}: ${reason}`] : []));

describe('--ema', () => {
  const raw = generatedSource(readForwardGolden(name, 'slim').tensors, 'tf-checkpoint');
  const isTrained = ({ name: tensor }: TensorInfo) => !/moving_(mean|variance)$/.test(tensor);
  const withAverages = (of: (tensor: TensorInfo) => boolean): TensorSource => ({
    ...raw,
    tensors: [
      ...raw.tensors,
      ...raw.tensors.filter(of).map((tensor) => ({ ...tensor, name: `${tensor.name}${AVERAGE}` })),
    ],
  });
  const kernel = 'MobilenetV1/Conv2d_0/weights';

  test('auto takes the averages that there are, and says of each raw tensor why it is not taken', () => {
    const { rows } = plan(withAverages(isTrained), {});
    expect(rowOf(rows, 'stem.conv.kernel').tensor!.name).toBe(`${kernel}${AVERAGE}`);
    expect(rowOf(rows, 'stem.norm.mean').tensor!.name).toBe('MobilenetV1/Conv2d_0/BatchNorm/moving_mean');
    expect(asideOf(rows)).toContain(`${kernel}: its running average is taken`);
    expect(rows.every(({ verdict }) => verdict === 'ok' || verdict === 'set_aside')).toBe(true);
  });

  test('only demands one for all that is trained', () => {
    expect(plan(withAverages(isTrained), { average: 'only' }).rows.map((row) => row.verdict)).not.toContain('absent');
    const lacking = plan(
      withAverages((tensor) => isTrained(tensor) && tensor.name !== kernel),
      { average: 'only' },
    );
    const absent = lacking.rows.filter(({ verdict }) => verdict === 'absent');
    expect(absent.map(({ parameter, sought }) => [parameter!.path, sought])).toEqual([
      ['stem.conv.kernel', [`a running average of ${kernel}`]],
    ]);
    expect(asideOf(lacking.rows)).toContain(`${kernel}: raw numbers, where running averages were asked for`);
    const none = plan(raw, { average: 'only' }).rows.filter(({ verdict }) => verdict === 'absent');
    expect(none).toHaveLength(raw.tensors.filter(isTrained).length);
  });

  test('never takes the raw numbers', () => {
    const { rows } = plan(withAverages(isTrained), { average: 'never' });
    expect(rowOf(rows, 'stem.conv.kernel')).toMatchObject({ verdict: 'ok', tensor: { name: kernel } });
    expect(asideOf(rows)).toContain(`${kernel}${AVERAGE}: a running average, and raw numbers were asked for`);
  });

  test('a file of averages alone is one, whatever is chosen', () => {
    const alone = {
      ...raw,
      tensors: raw.tensors.map((each) => (isTrained(each) ? { ...each, name: `${each.name}${AVERAGE}` } : each)),
    };
    for (const average of ['auto', 'only', 'never'] as const) {
      const { rows } = plan(alone, { average });
      expect(
        rows.every(({ verdict }) => verdict === 'ok'),
        average,
      ).toBe(true);
    }
  });

  test('averages that lie apart, statistics among them', () => {
    const torch = generatedSource(readForwardGolden('resnet18', 'torch').tensors, 'torch');
    const pairs = torch.tensors.map((tensor) => [tensor.name, `state_dict_ema.${tensor.name}`] as const);
    const both: TensorSource = {
      ...torch,
      tensors: [...torch.tensors, ...torch.tensors.map((each) => ({ ...each, name: `state_dict_ema.${each.name}` }))],
      averages: new Map(pairs),
    };
    const taken = (options: PlanOptions) => {
      const { rows } = plan(both, options, 'resnet18', 'torch');
      expect(rows.filter(({ verdict }) => verdict !== 'ok' && verdict !== 'set_aside')).toEqual([]);
      return rows.flatMap(({ parameter, tensor }) => (parameter === undefined ? [] : [tensor!.name]));
    };
    expect(taken({}).every((each) => each.startsWith('state_dict_ema.'))).toBe(true);
    expect(taken({ average: 'only' })).toEqual(taken({}));
    expect(taken({ average: 'never' }).some((each) => each.startsWith('state_dict_ema.'))).toBe(false);
    expect(taken({ classifier: 'drop' })).toHaveLength(torch.tensors.length - 2);
  });

  test('the report says which were taken', async () => {
    const file = join(folder, 'averages.safetensors');
    const rows = readForwardGolden(name, 'slim').tensors;
    const trained = rows.filter(([tensor]) => !/moving_(mean|variance)$/.test(tensor));
    const averages = trained.map(([tensor, ...rest]): GoldenRow => [tensor + AVERAGE, ...rest]);
    await writeGoldenWeights(file, { tensors: [...rows, ...averages] });
    const said = async (options: ImportOptions) => {
      const report = await importWeights(file, { dryRun: true, ...options });
      return report.adaptations.filter(({ kind }) => kind === 'running_average').map(({ text }) => text);
    };
    expect(await said({})).toEqual([`running averages taken in the place of ${trained.length} tensors`]);
    expect(await said({ average: 'never' })).toEqual([
      `running averages of ${trained.length} tensors left alone, and the raw numbers taken`,
    ]);
    const ran = await tl(['import', file, '--ema', 'sometimes']);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('auto, only, never') as string });
    const plain = join(folder, 'plain.safetensors');
    await writeGoldenWeights(plain, { tensors: rows });
    const only = await tl(['import', plain, '--ema', 'only']);
    expect(only.code).toBe(1);
    expect(only.stderr).toContain(`looked for a running average of ${kernel}`);
  });
});

describe('--classifier', () => {
  let slim: string;
  beforeAll(async () => {
    slim = join(folder, 'slim.safetensors');
    const tensors = readForwardGolden(name, 'slim').tensors.map(
      ([tensor, shape, ...range]): GoldenRow => [
        tensor,
        tensor.includes('Logits') ? [...shape.slice(0, -1), 1001] : shape,
        ...range,
      ],
    );
    await writeGoldenWeights(slim, { tensors });
  });

  async function logits(weights: string): Promise<number[]> {
    const output = join(folder, 'y.npz');
    const argv = ['forward', '--backbone', name, '--source', 'slim', '--weights', weights];
    const ran = await tl([...argv, '--input', join(folder, 'x.npy'), '--output', output]);
    expect(ran).toMatchObject({ code: 0 });
    const arrays = await openNpz(output);
    const found = arrays.tensors.some((tensor) => tensor.name === 'logits') ? await arrays.read('logits') : [];
    await arrays.close();
    return [...found];
  }

  test('without-background leaves the same logits but the first', async () => {
    const all = await logits(slim);
    expect(all).toHaveLength(1001);
    const report = await importWeights(slim, { classifier: 'without-background' });
    expect(report).toMatchObject({ source: 'slim', classes: 1000 });
    expect(report.adaptations).toContainEqual({
      kind: 'background_dropped',
      tensors: ['MobilenetV1/Logits/Conv2d_1c_1x1/weights', 'MobilenetV1/Logits/Conv2d_1c_1x1/biases'],
      text: 'the background class, index 0 of 1001, dropped: 1000 classes are left',
    });
    const stored = join(folderOf(name, 'slim'), 'weights.safetensors');
    for (const weights of ['auto', stored]) {
      const kept = await logits(weights);
      expect(kept).toHaveLength(1000);
      expect(Math.max(...kept.map((value, i) => Math.abs(value - all[i + 1]!)))).toBeLessThan(1e-5);
    }
    const again = await importWeights(stored, { dryRun: true });
    expect(again).toMatchObject({ classes: 1000, adaptations: [] });
  });

  test('a store with all 1001 loses the background on its way through another import', async () => {
    const { folder: stored } = await importWeights(slim);
    const file = join(stored!, 'weights.safetensors');
    const report = await importWeights(file, { classifier: 'without-background', dryRun: true });
    expect(report).toMatchObject({ classes: 1000, adaptations: [{ kind: 'background_dropped' }] });
  });

  test('drop leaves the backbone, and names what was dropped', async () => {
    const report = await importWeights(slim, { classifier: 'drop' });
    expect(report).toMatchObject({ classes: null, totals: { set_aside: 2 } });
    expect(report.adaptations).toContainEqual({
      kind: 'classifier_dropped',
      tensors: ['MobilenetV1/Logits/Conv2d_1c_1x1/weights', 'MobilenetV1/Logits/Conv2d_1c_1x1/biases'],
      text: expect.stringMatching(/^the classifier of 1001 classes dropped: /) as string,
    });
    expect(await logits('auto')).toEqual([]);
  });

  test('there is no background in 1000 classes', async () => {
    const keras = join(folder, 'keras.safetensors');
    await writeGoldenWeights(keras, readForwardGolden(name, 'keras'));
    const ran = await tl(['import', keras, '--classifier', 'without-background']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('error[NO_BACKGROUND]');
    expect(ran.stderr).toContain('the file has a classifier of 1000 classes');
  });

  test('a representation layer goes with the classifier it belongs to', () => {
    const golden = readForwardGolden('r50_vit_b16', 'flax').tensors;
    const more: GoldenRow[] = [
      ['pre_logits/kernel', [768, 768], 0, 1],
      ['pre_logits/bias', [768], 0, 1],
    ];
    const source = generatedSource([...golden, ...more], 'npz');
    const { rows, graph } = plan(source, { classifier: 'drop' }, 'r50_vit_b16', 'flax');
    expect(graph.taps.has('logits')).toBe(false);
    expect(asideOf(rows).sort()).toEqual(
      ['head/bias', 'head/kernel', 'pre_logits/bias', 'pre_logits/kernel'].map(
        (each) => `${each}: of the classifier, which is dropped`,
      ),
    );
  });
});
