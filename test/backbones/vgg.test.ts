/** VGG: what golden fixtures cannot show. */
import { describe, expect, test } from 'vitest';
import { buildBackbone, findBackbone, findPublished, type Published } from '../../src/backbones/index.js';
import { analyse } from '../../src/engine/analysis.js';
import type { Graph } from '../../src/engine/graph.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { json, tl } from '../cli/harness.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';

const names = ['vgg11', 'vgg13', 'vgg16', 'vgg19'] as const;
const of = (name: string, source: string): Published => findPublished(findBackbone(name), source);
const build = (name: string, source: string, height = 224, width = height, classes?: number): Graph =>
  buildBackbone(of(name, source), { size: { height, width }, classes });

interface Listed {
  readonly name: string;
  readonly sources: readonly {
    readonly source: string;
    readonly trainable: number;
    readonly macs: number;
    readonly withoutClassifier: { readonly trainable: number };
  }[];
}

describe('counts', () => {
  // Simonyan 2014, table 2 (in millions); torchvision.models.VGG*_Weights: num_params, _ops
  const table = [
    ['vgg11', 132_863_336, 9_220_480, '7.61'],
    ['vgg13', 133_047_848, 9_404_992, '11.31'],
    ['vgg16', 138_357_544, 14_714_688, '15.47'],
    ['vgg19', 143_667_240, 20_024_384, '19.63'],
  ] as const;

  test('as tl backbones lists them, with the dense layers and without', async () => {
    const { backbones } = json<{ backbones: Listed[] }>(await tl(['backbones', '--json']));
    for (const [name, whole, headless, gmacs] of table) {
      const { sources } = backbones.find((each) => each.name === name)!;
      expect(sources.map(({ source }) => source)).toEqual(
        name === 'vgg16' || name === 'vgg19' ? ['keras', 'keras_notop', 'slim', 'torch', 'notes'] : ['torch', 'notes'],
      );
      for (const { source, trainable, macs, withoutClassifier } of sources) {
        expect(withoutClassifier.trainable, source).toBe(headless);
        if (source === 'keras_notop') expect(trainable).toBe(headless + 513_000);
        else {
          expect(trainable, source).toBe(whole);
          expect((macs / 1e9).toFixed(2), source).toBe(gmacs);
        }
      }
    }
    const { stdout } = await tl(['backbones']);
    expect(stdout).toMatch(/^demo_cnn +demo_cnn +28 +2,770,634 +320 /m);
    expect(stdout).toMatch(/^vgg16 +vgg +224 +138,357,544 +14,714,688 +15\.47\d* +keras keras_notop slim torch notes/m);
  });

  test.each(table)('%s_bn has two more numbers a channel to train, and two to keep', (name, whole) => {
    const { trainable, statistics } = analyse(build(`${name}_bn`, 'torch', 224, 224, 1000)).totals;
    const channels = { vgg11: 2752, vgg13: 2944, vgg16: 4224, vgg19: 5504 }[name];
    expect(trainable).toBe(whole + 2 * channels);
    expect(statistics).toBe(2 * channels);
  });
});

test("timm's files, whose dense layers are convolutions with names of their own, are complete", () => {
  const layers: Readonly<Record<string, string>> = { 0: 'pre_logits.fc1', 3: 'pre_logits.fc2', 6: 'head.fc' };
  const shapes: Readonly<Record<string, readonly number[]>> = {
    'pre_logits.fc1.weight': [4096, 512, 7, 7],
    'pre_logits.fc2.weight': [4096, 4096, 1, 1],
  };
  const rows = readForwardGolden('vgg11_bn', 'torch').tensors.map(([name, shape, ...rest]): GoldenRow => {
    const renamed = name.replace(/^classifier\.(\d)/, (_, place: string) => layers[place]!);
    return [renamed, shapes[renamed] ?? shape, ...rest];
  });
  const backbone = findBackbone('vgg11_bn');
  const plan = planWeights(generatedSource(rows, 'torch'), backbone, findPublished(backbone, 'torch'));
  expect(faultsOf(plan)).toEqual([]);
  const kernel = plan.rows.find(({ parameter }) => parameter?.path === 'fc1.kernel')!;
  expect(kernel.layout).toMatchObject({ shape: [4096, 512, 7, 7], permutation: [2, 3, 1, 0] });
});

describe('input sizes', () => {
  test.each(['keras', 'slim', 'notes'])('a flattened grid takes those that give 7x7: %s', (source) => {
    for (const side of [224, 255]) expect(() => build('vgg16', source, side)).not.toThrow();
    for (const side of [193, 223, 256]) {
      expect(() => build('vgg16', source, side)).toThrow(
        expect.objectContaining({
          code: 'INPUT_SIZE',
          message: expect.stringMatching(/trained on a grid of 7x7, and this input size gives [68]x[68]$/) as string,
          hint: 'give a height and width of 224 to 255',
        }),
      );
    }
  });

  test.each([
    ['torch', 4096],
    ['keras_notop', 512],
  ])('any from 32 on: %s', (source, units) => {
    for (const [height, width] of [
      [32, 32],
      [193, 257],
      [448, 64],
    ] as const) {
      expect(build('vgg19', source, height, width).taps.get('pre_logits')!.shape).toEqual([units]);
    }
    expect(() => build('vgg19', source, 31)).toThrow(expect.objectContaining({ code: 'INPUT_TOO_SMALL' }));
  });
});

describe('layers', () => {
  const dropouts = (source: string) =>
    build('vgg16', source).nodes.flatMap((node) =>
      node.operation.kind === 'dropout' ? [`${node.inputs[0]!.path} -> ${node.path}: ${node.operation.rate}`] : [],
    );

  test('dropout stands where its publisher has it', () => {
    expect(dropouts('keras')).toEqual([]);
    expect(dropouts('keras_notop')).toEqual([]);
    const after = ['fc1.relu -> fc1.dropout: 0.5', 'fc2.relu -> fc2.dropout: 0.5'];
    expect(dropouts('torch')).toEqual(after);
    expect(dropouts('slim')).toEqual(after);
    expect(dropouts('notes')).toEqual(['flat.reshape -> fc1.dropout: 0.5', 'fc1.relu -> fc2.dropout: 0.5']);
  });

  test('blocks are stages and dense layers', () => {
    const stages = ['stage1', 'stage2', 'stage3', 'stage4', 'stage5'];
    expect(build('vgg11', 'torch').blocks).toEqual([...stages, 'fc1', 'fc2']);
    expect(build('vgg16', 'keras_notop').blocks).toEqual(stages);
  });

  test('start as their publisher starts them', () => {
    const starts = (source: string) => {
      const { parameters } = build('vgg16', source);
      return ['stage1.conv1.kernel', 'fc2.kernel'].map(
        (path) => parameters.find((each) => each.path === path)!.initializer,
      );
    };
    expect(starts('notes')).toEqual([
      { kind: 'variance_scaling', scale: 2, mode: 'fan_out', distribution: 'truncated_normal' },
      { kind: 'variance_scaling', scale: 1 / 3, mode: 'fan_out', distribution: 'uniform' },
    ]);
    expect(starts('torch')).toEqual([{ kind: 'he_normal_fan_out' }, { kind: 'normal', deviation: 0.01 }]);
  });
});

describe('names in published files', () => {
  test("torchvision's places in a Sequential, without and with batch norms", () => {
    // print(torchvision.models.vgg16()), vgg16_bn(), vgg19()
    const [plain, norm] = [of('vgg16', 'torch').ownerNames, of('vgg16_bn', 'torch').ownerNames];
    const places = (names: typeof plain, paths: string[]) => paths.map((path) => names(path)[0]);
    const some = ['stage1.conv1', 'stage1.conv2', 'stage2.conv1', 'stage3.conv3', 'stage5.conv3', 'fc1', 'classifier'];
    expect(places(plain, some)).toEqual([
      ...['features.0', 'features.2', 'features.5', 'features.14', 'features.28', 'classifier.0', 'classifier.6'],
    ]);
    expect(places(norm, [...some, 'stage5.norm3', 'fc2'])).toEqual([
      ...['features.0', 'features.3', 'features.7', 'features.20', 'features.40', 'classifier.0', 'classifier.6'],
      ...['features.41', 'classifier.3'],
    ]);
    expect(of('vgg19', 'torch').ownerNames('stage5.conv4')).toEqual(['features.34']);
  });

  test("slim's and Keras' own", () => {
    expect(of('vgg16', 'slim').ownerNames('stage5.conv3')).toEqual(['vgg_16/conv5/conv5_3']);
    expect(of('vgg19', 'slim').ownerNames('fc1')).toEqual(['vgg_19/fc6']);
    expect(of('vgg19', 'slim').ownerNames('classifier')).toEqual(['vgg_19/fc8']);
    expect(of('vgg16', 'keras').ownerNames('stage4.conv2')).toEqual(['block4_conv2']);
    expect(of('vgg16', 'notes').ownerNames('stage2.conv1')).toEqual(['feature/conv2d_2', 'conv2d_2']);
    expect(of('vgg16', 'notes').ownerNames('classifier')).toEqual(['dense_2']);
  });

  test('every network has all its names', () => {
    for (const name of names) {
      const paths = new Set(build(name, 'torch', 224, 224, 10).nodes.flatMap((n) => n.parameters.map(() => n.path)));
      for (const { source, ownerNames } of findBackbone(name).published) {
        // timm has names of its own for the layers that it made convolutions; checkpoints tell no Sequential's name
        const hasTwo = (path: string) =>
          ['fc1', 'fc2', 'classifier'].includes(path) ? source === 'torch' : source === 'notes';
        for (const path of paths) {
          expect(ownerNames(path), `${name} ${source} ${path}`).toHaveLength(hasTwo(path) ? 2 : 1);
        }
        expect(ownerNames('stage1')).toEqual([]);
      }
    }
  });
});
