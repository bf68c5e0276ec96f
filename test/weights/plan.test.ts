/** The planner: which tensor becomes which parameter, and everything that can be wrong with a file, listed at once. */
import { describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { UsageError, WeightsError } from '../../src/errors.js';
import { dialectOf, relay } from '../../src/weights/plan/dialects.js';
import { assertComplete, faultsOf } from '../../src/weights/plan/faults.js';
import { type Plan, planCanonical, planWeights, readPlanned, type Verdict } from '../../src/weights/plan/plan.js';
import { chooseVariant, recognise } from '../../src/weights/plan/variants.js';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';
import { generatedSource, listForwardGoldens, readForwardGolden } from '../support/golden.js';

/** A fixture's file. */
function fixture(name: string, publisher: string): TensorSource {
  return generatedSource(readForwardGolden(name, publisher).tensors, 'safetensors');
}

/** The same file with other tensors in it. */
function changed(source: TensorSource, change: (tensor: TensorInfo) => TensorInfo | undefined): TensorSource {
  return { ...source, tensors: source.tensors.flatMap((tensor) => change(tensor) ?? []) };
}

const renamed = (source: TensorSource, rename: (name: string) => string): TensorSource =>
  changed(source, (tensor) => ({ ...tensor, name: rename(tensor.name) }));

const without = (source: TensorSource, gone: RegExp): TensorSource =>
  changed(source, (tensor) => (gone.test(tensor.name) ? undefined : tensor));

const and = (source: TensorSource, ...more: TensorInfo[]): TensorSource => ({
  ...source,
  tensors: [...source.tensors, ...more],
});

function planned(source: TensorSource, name: string, publisher: string, ignore: string[] = []): Plan {
  const backbone = findBackbone(name);
  return planWeights(source, backbone, findPublished(backbone, publisher), { ignore });
}

const names = (plan: Plan, verdict: Verdict) =>
  plan.rows.filter((row) => row.verdict === verdict).map((row) => row.tensor?.name ?? row.parameter!.path);

function thrown(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  return undefined;
}

const mobilenet = 'mobilenet_v1_0.25';
const keras = fixture(mobilenet, 'keras');

describe.each(listForwardGoldens())('$backbone as $source names it', ({ backbone: name, source: publisher }) => {
  const { source } = readForwardGolden(name, publisher);

  test('every tensor of the publisher finds its parameter, once', () => {
    const file = fixture(name, publisher);
    const plan = planned(file, name, source);
    expect(faultsOf(plan)).toEqual([]);
    assertComplete(plan, 'file');
    expect(plan.classes).toBeGreaterThanOrEqual(10);
    expect(plan.wrapper).toBe('');
    const used = plan.rows.filter((row) => row.verdict === 'ok');
    expect(used.map((row) => row.parameter!.path)).toEqual(plan.graph.parameters.map((parameter) => parameter.path));
    const partsOf = used.map(({ tensor, layout }) => `${tensor!.name} part ${layout!.part?.index ?? 'whole'}`);
    expect(new Set(partsOf).size).toBe(used.length);
    for (const { tensor, layout } of used) {
      const { length } = partsOf.filter((each) => each.startsWith(`${tensor!.name} part `));
      expect(length, tensor!.name).toBe(layout!.part?.of ?? 1);
    }
    const tensors = new Set(used.map((row) => row.tensor!.name));
    expect(tensors.size + names(plan, 'set_aside').length).toBe(file.tensors.length);
  });

  test('the file tells what it is', () => {
    const fits = recognise(fixture(name, publisher)).map((fit) => [fit.backbone.name, fit.published.source]);
    // timm's own MobileNets v3 and those it took over from Google have the same names and shapes
    const alike = source.startsWith('timm') ? fits.filter((fit) => fit[1]!.startsWith('timm')) : [[name, source]];
    expect(fits).toEqual(alike);
    expect(fits).toContainEqual([name, source]);
    const file = fixture(name, publisher);
    const ofClassifier = planned(file, name, source).rows.filter((row) =>
      row.parameter?.path.startsWith('classifier.'),
    );
    const headless = changed(file, (tensor) =>
      ofClassifier.some((row) => row.tensor === tensor) ? undefined : tensor,
    );
    expect(recognise(headless).map((fit) => [fit.backbone.name, fit.published.source])).toEqual(alike);
    expect(planned(headless, name, source).classes).toBeUndefined();
    expect(faultsOf(planned(headless, name, source))).toEqual([]);
  });
});

test('no two parameters of any variant look for the same name', () => {
  for (const backbone of backbones) {
    for (const published of backbone.published) {
      const size = { height: backbone.inputSize, width: backbone.inputSize };
      const { parameters } = buildBackbone(published, { size, classes: 10 });
      const empty = { ...keras, tensors: [] };
      const sought = planWeights(empty, backbone, published).rows.flatMap((row) => {
        const { path } = row.parameter!;
        const part = published.part?.(path.slice(0, path.lastIndexOf('.')))?.index;
        return row.sought.map((name) => `${name} ${part ?? ''}`);
      });
      expect(new Set(sought).size, `${backbone.name} ${published.source}`).toBe(sought.length);
      const owners = parameters.map(({ path }) => published.ownerNames(path.slice(0, path.lastIndexOf('.'))));
      expect(owners.filter((each) => each.length === 0)).toEqual([]);
    }
  }
});

describe('faults', () => {
  test('absent, extra, mis-shaped and mistyped tensors are listed at once', () => {
    const broken = and(
      changed(without(keras, /^conv1\/kernel|^conv_pw_3_bn\/beta/), (tensor) => {
        if (tensor.name === 'conv_dw_2/depthwise_kernel') return { ...tensor, shape: [5, 5, 16, 1] };
        if (tensor.name === 'conv_pw_5/kernel') return { ...tensor, dtype: 'int8' };
        return tensor;
      }),
      { name: 'extra_layer/kernel', dtype: 'float32', shape: [7] },
    );
    const plan = planned(broken, mobilenet, 'keras');
    expect(faultsOf(plan)).toEqual([
      'absent: stem.conv.kernel [3, 3, 3, 8], looked for conv1/kernel or conv1/conv1_W or alike',
      'wrong shape: conv_dw_2/depthwise_kernel is [5, 5, 16, 1], block2.depthwise.conv.kernel expects [3, 3, 16, 1]',
      'absent: block3.pointwise.norm.beta [32], looked for conv_pw_3_bn/beta or conv_pw_3_bn/conv_pw_3_bn_beta or alike',
      'wrong number type: conv_pw_5/kernel is int8, block5.pointwise.conv.kernel expects a float type',
      'extra: extra_layer/kernel [7] belongs to no parameter',
    ]);
    const error = thrown(() => assertComplete(plan, 'x.h5')) as WeightsError;
    expect(error).toBeInstanceOf(WeightsError);
    expect(error.code).toBe('WEIGHTS_MISMATCH');
    expect(error.message).toContain('x.h5 does not fit mobilenet_v1_0.25 (source keras): 5 faults');
    for (const fault of faultsOf(plan)) expect(error.message).toContain(fault);
    expect(error.hint).toContain('--ignore');
  });

  test('a classifier with no bias is an extra tensor, not a network without classifier', () => {
    const plan = planned(without(keras, /conv_preds\/bias/), mobilenet, 'keras');
    expect(faultsOf(plan)).toEqual(['extra: conv_preds/kernel [1, 1, 256, 1000] belongs to no parameter']);
  });

  test('another width is no match, and the hint says what the file fits', () => {
    expect(recognise(keras).map((fit) => fit.backbone.name)).toEqual([mobilenet]);
    const plan = planned(keras, 'mobilenet_v1_0.5', 'keras');
    expect(faultsOf(plan).length).toBeGreaterThan(100);
    const error = thrown(() => assertComplete(plan, 'x.h5', recognise(keras))) as WeightsError;
    expect(error.hint).toBe('this file fits --backbone mobilenet_v1_0.25 --source keras');
    expect(error.message).toMatch(/\.\.\. and \d+ more/);
  });
});

describe('names that vary', () => {
  test('a wrapping model', () => {
    const plan = planned(
      renamed(keras, (name) => `mobilenet_0.25_224/${name}`),
      mobilenet,
      'keras',
    );
    expect(plan.wrapper).toBe('mobilenet_0.25_224/');
    expect(faultsOf(plan)).toEqual([]);
    const parallel = renamed(fixture('resnet50', 'torch'), (name) => `module.${name}`);
    expect(planned(parallel, 'resnet50', 'torch')).toMatchObject({ wrapper: 'module.' });
    expect(recognise(parallel)).toHaveLength(1);
  });

  test('of several prefixes, that with most of the network behind it', () => {
    const torch = fixture('resnet18', 'torch');
    const torn = without(torch, /^conv1\./); // every block has a conv1, and none of them is the first
    expect(faultsOf(planned(torn, 'resnet18', 'torch'))).toEqual([
      'absent: stem.conv.kernel [7, 7, 3, 64], looked for conv1.weight',
    ]);
    const some = torch.tensors.slice(0, 9).map((tensor) => ({ ...tensor, name: `teacher.${tensor.name}` }));
    const student = renamed(torch, (name) => `student.${name}`);
    const both = planned({ ...student, tensors: [...some, ...student.tensors] }, 'resnet18', 'torch');
    expect(both.wrapper).toBe('student.');
    expect(names(both, 'extra')).toHaveLength(some.filter(({ name }) => !name.endsWith('num_batches_tracked')).length);
  });

  test('beside a wrapped model, layers of the outer one that make no head are extra', () => {
    const outer = and(
      renamed(keras, (name) => `base/${name}`),
      { name: 'dense/kernel', dtype: 'float32', shape: [255, 5] },
      { name: 'dense/bias', dtype: 'float32', shape: [5] },
    );
    expect(names(planned(outer, mobilenet, 'keras'), 'extra')).toEqual(['dense/kernel', 'dense/bias']);
    expect(faultsOf(planned(outer, mobilenet, 'keras', ['dense/*']))).toEqual([]);
    expect(recognise(outer)[0]?.backbone.name).toBe(mobilenet);
  });

  test('Keras 3 calls a depthwise kernel kernel; Keras 1 repeats the layer in the name', () => {
    const keras3 = renamed(keras, (name) => name.replace('depthwise_kernel', 'kernel'));
    expect(faultsOf(planned(keras3, mobilenet, 'keras'))).toEqual([]);
    const leafs: Record<string, string> = {
      kernel: 'W_1',
      bias: 'b_1',
      gamma: 'gamma_1',
      beta: 'beta_1',
      moving_mean: 'running_mean_1',
      moving_variance: 'running_std_1',
    };
    const keras1 = renamed(fixture('resnet50', 'keras_v1'), (name) => {
      const [layer, leaf] = name.split('/') as [string, string];
      return `${layer}/${layer}_${leafs[leaf]}`;
    });
    expect(faultsOf(planned(keras1, 'resnet50', 'keras_v1'))).toEqual([]);
  });

  test('the top layers of Keras have two names', () => {
    const probs = renamed(fixture('resnet50', 'keras'), (name) => name.replace('predictions', 'probs'));
    expect(planned(probs, 'resnet50', 'keras').classes).toBe(1000);
  });

  test('bookkeeping is set aside, with its name', () => {
    const slim = and(
      fixture(mobilenet, 'slim'),
      { name: 'global_step', dtype: 'int64', shape: [] },
      { name: 'MobilenetV1/Conv2d_0/weights/Momentum', dtype: 'float32', shape: [3, 3, 3, 8] },
      { name: 'MobilenetV1/Conv2d_0/weights/RMSProp_1', dtype: 'float32', shape: [3, 3, 3, 8] },
    );
    const plan = planned(slim, mobilenet, 'slim');
    expect(faultsOf(plan)).toEqual([]);
    expect(names(plan, 'set_aside').slice(-3)).toEqual(slim.tensors.slice(-3).map((tensor) => tensor.name));
    const torch = and(fixture('resnet50', 'torch'), { name: 'bn1.num_batches_tracked', dtype: 'int64', shape: [] });
    expect(names(planned(torch, 'resnet50', 'torch'), 'set_aside')).toContain('bn1.num_batches_tracked');
  });

  test('running averages are taken where slim kept them, and their variables set aside', () => {
    const plain = fixture(mobilenet, 'slim');
    const averages = plain.tensors
      .filter(({ name }) => !name.endsWith('biases'))
      .map((tensor) => ({ ...tensor, name: `${tensor.name}/ExponentialMovingAverage` }));
    const plan = planned(and(plain, ...averages), mobilenet, 'slim');
    expect(faultsOf(plan)).toEqual([]);
    const kernel = plan.rows.find((row) => row.parameter?.path === 'stem.conv.kernel')!;
    expect(kernel.tensor!.name).toBe('MobilenetV1/Conv2d_0/weights/ExponentialMovingAverage');
    expect(kernel.averaged!.name).toBe('MobilenetV1/Conv2d_0/weights');
    const bias = plan.rows.find((row) => row.parameter?.path === 'classifier.bias')!;
    expect(bias.tensor!.name).toBe('MobilenetV1/Logits/Conv2d_1c_1x1/biases');
    expect(names(plan, 'ok')).toHaveLength(plain.tensors.length);
    expect(names(plan, 'set_aside')).toEqual(averages.map(({ name }) => name.replace('/ExponentialMovingAverage', '')));
  });

  test('a running average of another shape is a fault, and one of nothing is set aside', () => {
    const bent = and(fixture(mobilenet, 'slim'), {
      name: 'MobilenetV1/Conv2d_0/weights/ExponentialMovingAverage',
      dtype: 'float32',
      shape: [3, 3, 3, 9],
    });
    expect(faultsOf(planned(bent, mobilenet, 'slim'))).toEqual([
      'wrong shape: MobilenetV1/Conv2d_0/weights/ExponentialMovingAverage is [3, 3, 3, 9], stem.conv.kernel expects [3, 3, 3, 8]',
    ]);
    const lone = and(fixture(mobilenet, 'slim'), {
      name: 'MobilenetV1/AuxLogits/weights/ExponentialMovingAverage',
      dtype: 'float32',
      shape: [1],
    });
    expect(names(planned(lone, mobilenet, 'slim'), 'set_aside')).toEqual([lone.tensors.at(-1)!.name]);
  });

  test('a classifier of any number of classes', () => {
    const ten = changed(keras, (tensor) =>
      tensor.name === 'conv_preds/kernel'
        ? { ...tensor, shape: [1, 1, 256, 10] }
        : tensor.name === 'conv_preds/bias'
          ? { ...tensor, shape: [10] }
          : tensor,
    );
    expect(planned(ten, mobilenet, 'keras').classes).toBe(10);
    expect(faultsOf(planned(ten, mobilenet, 'keras'))).toEqual([]);
  });
});

describe('--ignore', () => {
  const extra = and(keras, { name: 'aux+head/kernel', dtype: 'float32', shape: [1] });

  test('takes names of tensors and of parameters, and * for any run of characters', () => {
    expect(names(planned(extra, mobilenet, 'keras', ['aux+head/*']), 'ignored')).toEqual(['aux+head/kernel']);
    const lacking = without(extra, /conv_pw_3_bn\/beta/);
    const plan = planned(lacking, mobilenet, 'keras', ['*head*', 'block3.*.beta']);
    expect(names(plan, 'ignored')).toEqual(['block3.pointwise.norm.beta', 'aux+head/kernel']);
    expect(faultsOf(plan)).toEqual([]);
  });

  test('characters of regular expressions stand for themselves', () => {
    const error = thrown(() => planned(extra, mobilenet, 'keras', ['aux.head/kernel']));
    expect(error).toBeInstanceOf(UsageError);
    expect((error as UsageError).code).toBe('IGNORE_MATCHES_NOTHING');
  });

  test('never hides what is right, and a pattern without effect is an error that names it', () => {
    const error = thrown(() => planned(extra, mobilenet, 'keras', ['aux*', 'conv1/*', 'typo*'])) as UsageError;
    expect(error.message).toContain('--ignore conv1/*, typo*');
    expect(error.message).not.toContain('aux*');
  });
});

describe('choosing the variant', () => {
  const other = { ...keras, tensors: [{ name: 'foo', dtype: 'float32', shape: [1] }] as const };

  test('what the user names wins; what is left open, the file decides', () => {
    expect(chooseVariant(keras, {})).toMatchObject({ backbone: { name: mobilenet }, published: { source: 'keras' } });
    expect(chooseVariant(keras, { backbone: findBackbone(mobilenet) }).published.source).toBe('keras');
    expect(chooseVariant(keras, { source: 'keras' }).backbone.name).toBe(mobilenet);
    const forced = chooseVariant(keras, { backbone: findBackbone('resnet50'), source: 'torch' });
    expect(forced).toMatchObject({ backbone: { name: 'resnet50' }, published: { source: 'torch' } });
  });

  test('a file with faults goes to the source of which it has most', () => {
    const torn = without(fixture('resnet50', 'slim'), /block2\/unit_3/);
    expect(recognise(torn)).toEqual([]);
    expect(chooseVariant(torn, { backbone: findBackbone('resnet50') }).published.source).toBe('slim');
  });

  test('a file of something else is refused', () => {
    const error = thrown(() => chooseVariant(other, {})) as WeightsError;
    expect(error.code).toBe('NOT_RECOGNISED');
    expect(error.message).toContain('1 tensors');
    expect(thrown(() => chooseVariant(keras, { source: 'torch' }))).toMatchObject({ code: 'NOT_RECOGNISED' });
  });
});

describe('our own names', () => {
  const backbone = findBackbone(mobilenet);
  const published = findPublished(backbone, 'slim');
  const graph = buildBackbone(published, { size: { height: 224, width: 224 }, classes: 3 });
  const own: TensorSource = {
    ...keras,
    tensors: graph.parameters.map(({ path, shape }) => ({ name: path, dtype: 'float32', shape })),
  };

  test('are planned as they are; a head of other classes is set aside', () => {
    const model = and(own, { name: 'head.logits.kernel', dtype: 'float32', shape: [256, 5] });
    const plan = planCanonical(model, backbone, published);
    expect(plan.classes).toBe(3);
    expect(faultsOf(plan)).toEqual([]);
    expect(names(plan, 'set_aside')).toEqual(['head.logits.kernel']);
  });

  test('have faults too', () => {
    const broken = and(
      changed(without(own, /^block4\.depthwise\.norm\.mean$/), (tensor) =>
        tensor.name === 'stem.norm.beta' ? { ...tensor, shape: [9] } : tensor,
      ),
      { name: 'stage9.x', dtype: 'float32', shape: [] },
    );
    expect(faultsOf(planCanonical(broken, backbone, published))).toEqual([
      'wrong shape: stem.norm.beta is [9], stem.norm.beta expects [8]',
      'absent: block4.depthwise.norm.mean [32], looked for block4.depthwise.norm.mean',
      'extra: stage9.x [] belongs to no parameter',
    ]);
  });
});

describe('layouts', () => {
  test("torch's OIHW becomes ours, number by number", async () => {
    const file = fixture('resnet50', 'torch');
    const plan = planned(file, 'resnet50', 'torch');
    const row = plan.rows.find((each) => each.parameter?.path === 'stem.conv.kernel')!;
    const [theirs, ours] = [await file.read('conv1.weight'), await readPlanned(file, row)];
    const [O, I, H, W] = [64, 3, 7, 7];
    for (const [o, i, h, w] of [
      [0, 0, 0, 0],
      [63, 2, 6, 6],
      [17, 1, 3, 5],
      [40, 0, 6, 2],
    ] as const) {
      expect(ours[((h * W + w) * I + i) * O + o]).toBe(theirs[((o * I + i) * H + h) * W + w]);
    }
  });

  test('rows of a flattened picture are the same numbers as a dense layer and as a convolution', () => {
    const [h, w, channels, out] = [2, 3, 4, 5];
    const parameter = {
      role: 'dense.kernel',
      shape: [h * w * channels, out],
      unflattened: [h, w, channels, out],
    } as const;
    const layouts = dialectOf('torch').layouts(parameter);
    expect(layouts.map(({ shape }) => shape)).toEqual([
      [out, h * w * channels],
      [out, channels, h, w],
    ]);
    const file = Float32Array.from({ length: h * w * channels * out }, (_, i) => i);
    const [dense, convolution] = layouts.map((layout) => relay(file, layout));
    expect(dense).toEqual(convolution);
    const at = (y: number, x: number, c: number, o: number) => dense![((y * w + x) * channels + c) * out + o];
    expect(at(1, 2, 3, 4)).toBe(((4 * channels + 3) * h + 1) * w + 2);
    expect(at(0, 1, 2, 0)).toBe((2 * h + 0) * w + 1);
  });
});

describe('checkpoints of big_vision', () => {
  const of = fixture('vit_ti16', 'flax');
  const info = (name: string, shape: readonly number[] = []): TensorInfo => ({ name, dtype: 'float32', shape });
  const slots = of.tensors.map(({ name, shape }) => info(`opt/0/mu/${name}`, shape));

  test('have their parameters under params/, beside the optimiser and a stopwatch, which are set aside', () => {
    const beside = [info('opt/0/count'), ...slots, info('chrono/accum_train_time'), info('chrono/accum_pause_time')];
    const source = and(
      renamed(of, (name) => `params/${name}`),
      ...beside,
    );
    const plan = planned(source, 'vit_ti16', 'flax');
    expect(plan.wrapper).toBe('params/');
    expect(faultsOf(plan)).toEqual([]);
    expect(names(plan, 'ok')).toHaveLength(of.tensors.length);
    expect(names(plan, 'set_aside')).toEqual(beside.map(({ name }) => name));
    expect(recognise(source)[0]?.backbone.name).toBe('vit_ti16');
  });

  test('had them under opt/target/ when flax had optimisers', () => {
    const source = and(
      renamed(of, (name) => `opt/target/${name}`),
      info('opt/state/step'),
    );
    const plan = planned(source, 'vit_ti16', 'flax');
    expect({ wrapper: plan.wrapper, faults: faultsOf(plan) }).toEqual({ wrapper: 'opt/target/', faults: [] });
    expect(names(plan, 'set_aside')).toEqual(['opt/state/step']);
  });

  test('of two towers are refused by the names that belong to the other tower', () => {
    const source = and(
      renamed(of, (name) => `params/img/${name}`),
      info('params/txt/head/kernel', [4, 4]),
      info('params/t', [1]),
    );
    expect(faultsOf(planned(source, 'vit_ti16', 'flax'))).toEqual([
      expect.stringMatching(/^extra: params\/txt\/head\/kernel/),
      expect.stringMatching(/^extra: params\/t /),
    ]);
  });
});
