/** Weights written for the code of their publishers, read again, and the lines of Python that load them. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { withChannels } from '../../src/augment/preprocessing.js';
import { backbones, findBackbone, findPublished } from '../../src/backbones/index.js';
import { exportWeights } from '../../src/export/weights/weights.js';
import { variantToWrite, type WeightsDialect } from '../../src/export/weights/weights-dialects.js';
import { loadingOf } from '../../src/export/weights/weights-loading.js';
import { graphToWrite, type NetworkToWrite, networkOfModel } from '../../src/export/weights/weights-network.js';
import { graphOf, type ModelRecord, saveModelFolder } from '../../src/weights/model-folder.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { openWeights } from '../../src/weights/source.js';
import { tl } from '../cli/harness.js';
import { generateTensor } from '../support/golden.js';
import { temporary } from '../weights/support/temporary.js';

let outs = 0;
const newOut = (): string => temporary(`out${outs++}`);

const classes = ['daisy', 'dandelion', 'roses', 'sunflowers', 'tulips'];

interface Made {
  readonly hidden?: readonly number[];
  readonly height?: number;
  readonly width?: number;
  readonly channels?: 1 | 3 | 4;
}

function recordFor(name: string, source: string, made: Made = {}): ModelRecord {
  const backbone = findBackbone(name);
  const { preprocessing } = findPublished(backbone, source);
  const { hidden = [], height = backbone.inputSize, width = height, channels = 3 } = made;
  return {
    ...{ formatVersion: 1, backbone: name, source, classes, channels, inputSize: { height, width } },
    head: { hidden, dropout: 0.2 },
    preprocessing: withChannels(preprocessing, channels),
    weights: { origin: 'generated', license: 'none' },
    data: { fingerprint: 'none', valSplit: 0.2, seed: 1 },
    toolkit: 'test',
  };
}

/** A trained model whose numbers follow from the parameters' names. */
function modelOf(name: string, source: string, made: Made = {}) {
  const record = recordFor(name, source, made);
  const shapes = new Map(graphOf(record).parameters.map(({ path, shape }) => [path, shape]));
  return { record, read: async (path: string) => generateTensor(path, shapes.get(path)!, 1, 0.5) };
}

const networkFor = (name: string, source: string, made: Made = {}): NetworkToWrite =>
  networkOfModel(modelOf(name, source, made));

/** What is written of a network: the report, and the file's tensors. */
async function written(network: NetworkToWrite, dialect?: WeightsDialect) {
  const out = newOut();
  const report = await exportWeights(network, { dialect, out, overwrite: false });
  const { file } = JSON.parse(readFileSync(join(out, 'loading.json'), 'utf8')) as { file: string };
  const source = await openWeights(join(out, file));
  const plan = planWeights(source, network.backbone, findPublished(network.backbone, report.writtenAs));
  const shapes = Object.fromEntries(source.tensors.map((tensor) => [tensor.name, [...tensor.shape]]));
  await source.close();
  return { out, report, plan, shapes };
}

describe('a trained classifier under the names of its publisher', () => {
  test.each([
    [
      'mobilenet_v1_0.25',
      'keras',
      'keras-h5',
      { 'conv_preds/kernel': [1, 1, 256, 5], 'conv_dw_1/depthwise_kernel': [3, 3, 8, 1] },
    ],
    ['mobilenet_v2_0.35', 'slim', 'slim-ckpt', { 'MobilenetV2/Logits/Conv2d_1c_1x1/weights': [1, 1, 1280, 5] }],
    ['vit_ti16', 'flax', 'flax-npz', { 'head/kernel': [192, 5], cls: [1, 1, 192] }],
    ['vit_ti16', 'torch', 'torch-safetensors', { 'head.weight': [5, 192], 'blocks.0.attn.qkv.weight': [576, 192] }],
    [
      'mobilenet_v2_0.35',
      'torch',
      'torch-safetensors',
      { 'classifier.weight': [5, 1280], 'bn1.num_batches_tracked': [] },
    ],
  ] as const)('%s from %s', async (name, source, dialect, some) => {
    const { out, report, plan, shapes } = await written(networkFor(name, source));
    expect(report).toMatchObject({ format: 'weights', dialect, source, writtenAs: source, check: { rounded: 0 } });
    expect(shapes).toMatchObject(some);
    expect(plan.classes).toBe(5);
    expect(plan.rows.filter(({ verdict }) => verdict !== 'ok' && verdict !== 'set_aside')).toEqual([]);
    expect(report.check.parameters).toBe(plan.graph.parameters.length);
    const files = report.files.map((file) => file.name);
    expect(files).toEqual(readdirSync(out).sort());
    expect(files).toEqual(
      expect.arrayContaining(['README.md', 'class_indices.json', 'loading.json', 'preprocessing.json']),
    );
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain(report.loading.python.join('\n'));
  });

  test("slim's constant in the gates of MobileNet v3 is divided out, where float32 can", async () => {
    const { report } = await written(networkFor('mobilenet_v3_small_0.75', 'slim'));
    expect(report.check.rounded).toBeGreaterThan(0);
    expect(report.check.rounded).toBeLessThan(report.check.numbers / 10_000);
  });

  test("a layer of Keras' own that normalises pictures does what the record says", async () => {
    const { out, report, shapes } = await written(networkFor('efficientnet_b0', 'keras'));
    expect(shapes).toMatchObject({
      'normalization/mean': [3],
      'normalization/variance': [3],
      'normalization/count': [],
    });
    const source = await openWeights(join(out, 'efficientnet_b0.h5'));
    expect(await source.read('normalization/mean')).toEqual(Float32Array.of(0.485, 0.456, 0.406));
    expect(await source.read('normalization/variance')).toEqual(Float32Array.of(0.229 ** 2, 0.224 ** 2, 0.225 ** 2));
    await source.close();
    expect(report.loading.input).toContain('pixels of 0 to 255');
  });
});

describe('a head that the publisher has not', () => {
  test.each([
    [
      'mobilenet_v1_0.25',
      'keras',
      [7, 6],
      { 'head_dense1/kernel': [256, 7], 'head_dense2/bias': [6], 'head_logits/kernel': [6, 5] },
    ],
    ['mobilenet_v2_0.35', 'slim', [7], { 'head/dense1/weights': [1280, 7], 'head/logits/biases': [5] }],
    ['vit_ti16', 'flax', [7], { 'head/dense1/kernel': [192, 7], 'head/logits/bias': [5] }],
    ['mobilenet_v2_0.35', 'torch', [7], { 'classifier.dense1.weight': [7, 1280], 'classifier.logits.bias': [5] }],
    ['mobilenet_v3_small_minimalistic', 'keras_notop', [], { 'Logits/kernel': [576, 5] }],
  ] as const)('%s from %s, hidden layers %j', async (name, source, hidden, some) => {
    const { report, shapes } = await written(networkFor(name, source, { hidden }));
    expect(shapes).toMatchObject(some);
    expect(report.check.parameters).toBe(graphOf(recordFor(name, source, { hidden })).parameters.length);
    const python = report.loading.python.join('\n');
    if (source !== 'flax') for (const units of [...hidden, 5]) expect(python).toMatch(new RegExp(`[ (]${units}\\b`));
    else expect(python).toContain('params["head"]["dense1"]["kernel"]');
  });
});

describe('which dialects a network can be written in', () => {
  test('another publisher of the same function', () => {
    const as = (name: string, source: string, dialect?: WeightsDialect) =>
      variantToWrite(networkFor(name, source), dialect).source;
    expect(as('mobilenet_v3_small_1.0', 'keras', 'torch-safetensors')).toBe('timm');
    expect(as('mobilenet_v3_small_1.0', 'timm', 'slim-ckpt')).toBe('slim');
    expect(as('mobilenet_v2_1.0', 'slim', 'keras-h5')).toBe('keras');
    expect(as('efficientnet_b0', 'timm', 'keras-h5')).toBe('keras');
    expect(as('vgg16', 'keras', 'slim-ckpt')).toBe('slim');
    expect(as('resnet50', 'keras')).toBe('keras');
    expect(as('vgg16', 'notes')).toBe('keras'); // whose code is published
    expect(as('vgg11', 'notes')).toBe('notes');
    expect(as('resnet50', 'keras_v1')).toBe('keras_v1');
  });

  test.each([
    ['resnet50', 'keras', 'torch-safetensors', 'from torch it is another function', 'keras-h5'],
    ['mobilenet_v2_1.0', 'torch', 'keras-h5', 'from keras it is another function', 'torch-safetensors'],
    ['vit_b16', 'flax', 'torch-safetensors', 'from timm and torch it is another function', 'flax-npz'],
    ['vit_b16', 'flax', 'slim-ckpt', 'nobody publishes', 'flax-npz'],
    ['mobilenet_v3_small_1.0', 'timm', 'flax-npz', 'nobody publishes', 'torch-safetensors or --dialect keras-h5'],
  ] as const)('%s from %s as %s is refused', (name, source, dialect, why, possible) => {
    const fault = {
      code: 'DIALECT_DIFFERS',
      message: expect.stringContaining(why),
      hint: expect.stringContaining(possible),
    };
    expect(() => variantToWrite(networkFor(name, source), dialect)).toThrow(expect.objectContaining(fault));
  });

  test('what the code of the publisher cannot be told is refused', () => {
    const fault = expect.objectContaining({ code: 'PART_UNKNOWN' });
    expect(() => variantToWrite(networkFor('vit_b16', 'torch', { height: 224, width: 192 }))).toThrow(fault);
    expect(variantToWrite(networkFor('vit_b16', 'timm', { height: 224, width: 192 })).source).toBe('timm');
    const represented = { ...networkFor('vit_b16', 'timm'), parts: { representation: true } };
    expect(() => variantToWrite(represented)).toThrow(fault);
  });
});

describe('the lines of Python', () => {
  const linesFor = (network: NetworkToWrite, dialect?: WeightsDialect): readonly string[] => {
    const published = variantToWrite(network, dialect);
    return loadingOf(network, published, graphToWrite(network, published), 'x.file').python;
  };

  test('name the classes, and load what was written', () => {
    expect(linesFor(networkFor('resnet50', 'keras'))).toEqual([
      'import keras',
      'model = keras.applications.ResNet50(weights=None, classes=5, classifier_activation=None, input_shape=(224, 224, 3))',
      'model.load_weights("x.file")',
    ]);
    expect(linesFor(networkFor('vgg11', 'torch'))).toEqual([
      'import torch',
      'import torchvision',
      'from safetensors.torch import load_file',
      'model = torchvision.models.vgg11(num_classes=5)',
      'model.load_state_dict(load_file("x.file"))',
      'model.eval()',
    ]);
    expect(linesFor(networkFor('mobilenet_v2_0.5', 'slim'))).toContain(
      '    logits, ends = mobilenet_v2.mobilenet(x, num_classes=5, depth_multiplier=0.5, finegrain_classification_mode=True)',
    );
    expect(linesFor(networkFor('r50_vit_b16', 'flax'))).toContain(
      "model = models.VisionTransformer(num_classes=5, **models_config.MODEL_CONFIGS['R50+ViT-B_16'])",
    );
    expect(linesFor(networkFor('resnet34', 'notes'))).toEqual([]); // nobody publishes its code
  });

  test('have other inputs where the network has', () => {
    const grey = { height: 96, channels: 1 } as const;
    expect(linesFor(networkFor('resnet18', 'torch', grey))).toContain(
      'model.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)',
    );
    expect(linesFor(networkFor('googlenet', 'torch', { channels: 4 }))).toEqual(
      expect.arrayContaining([
        'model = torchvision.models.googlenet(init_weights=False, num_classes=5, aux_logits=False)',
        'model.conv1.conv = torch.nn.Conv2d(4, 64, 7, stride=2, padding=3, bias=False)',
      ]),
    );
    expect(linesFor(networkFor('vit_ti16', 'torch', grey))).toContain(
      "model = timm.create_model('vit_tiny_patch16_224', num_classes=5, in_chans=1, img_size=96)",
    );
    expect(linesFor(networkFor('mobilenet_v3_small_1.0', 'keras', grey))[1]).toContain(
      'include_preprocessing=False, input_shape=(96, 96, 1)',
    );
  });

  test('are there for every network whose code is published', () => {
    for (const { name, published } of backbones) {
      for (const { source, reference } of published) {
        if (reference === undefined) continue;
        const python = linesFor(networkFor(name, source)).join('\n');
        expect(python, `${name} ${source}`).toContain(reference.call);
        expect(python, `${name} ${source}`).not.toMatch(/undefined|\[object|, ,|\(,/);
        const head = linesFor(networkFor(name, source, { hidden: [77] })).join('\n');
        expect(head, `${name} ${source}`).toMatch(/dense1/);
      }
    }
  });
});

describe('the folder', () => {
  test('is never overwritten unless asked for, and whole or not there', async () => {
    const network = networkFor('mobilenet_v1_0.25', 'slim');
    const out = newOut();
    await exportWeights(network, { out, overwrite: false });
    await expect(exportWeights(network, { out, overwrite: false })).rejects.toMatchObject({ code: 'OUT_EXISTS' });
    const before = readdirSync(out);
    const failing = { ...network, read: () => Promise.reject(new Error('no numbers')) };
    await expect(exportWeights(failing, { out, overwrite: true })).rejects.toThrow('no numbers');
    expect(readdirSync(out)).toEqual(before);
    await exportWeights(network, { out, overwrite: true });
    const fresh = newOut();
    await expect(exportWeights(failing, { out: fresh, overwrite: false })).rejects.toThrow('no numbers');
    expect(existsSync(fresh)).toBe(false);
  });

  test('is not kept where the file has other numbers than the model', async () => {
    const network = networkFor('mobilenet_v1_0.25', 'slim');
    let reads = 0;
    const read = async (path: string) => {
      const values = await network.read(path);
      if (path === 'block3.pointwise.conv.kernel' && reads++ > 0) values[5]! += 2 ** -22;
      return values;
    };
    const out = newOut();
    await expect(exportWeights({ ...network, read }, { out, overwrite: false })).rejects.toMatchObject({
      code: 'EXPORT_DIFFERS',
      message: expect.stringContaining('block3.pointwise.conv.kernel has other numbers') as string,
    });
    expect(existsSync(out)).toBe(false);
  });

  test('of other sizes and channels is checked as well', async () => {
    const { report } = await written(networkFor('mobilenet_v1_0.25', 'keras', { height: 128, channels: 1 }));
    expect(report.check.parameters).toBeGreaterThan(80);
    const wide = await written(networkFor('vit_ti16', 'torch', { height: 32, width: 64 }));
    expect(wide.shapes.pos_embed).toEqual([1, 1 + 2 * 4, 192]);
  });
});

describe('tl export --format weights', () => {
  test('writes a model folder, prints what lies where, and says wrong options', async () => {
    const { record, read } = modelOf('mobilenet_v1_0.25', 'slim');
    const model = temporary('model');
    await saveModelFolder(model, record, read);
    const out = newOut();
    const ran = await tl(['export', '--format', 'weights', '--model', model, '--out', out, '--json']);
    expect(ran.stderr).toBe('');
    const report = JSON.parse(ran.stdout) as Record<string, unknown>;
    expect(report).toMatchObject({ dialect: 'slim-ckpt', backbone: 'mobilenet_v1_0.25', check: { rounded: 0 } });
    expect((report.files as { name: string }[]).map(({ name }) => name)).toContain('mobilenet_v1_0.25.ckpt.index');

    // what it wrote is a published file, from which it is written again
    const again = newOut();
    const weights = ['--weights', out, '--backbone', 'mobilenet_v1_0.25', '--source', 'slim'];
    const text = await tl(['export', '--format', 'weights', ...weights, '--out', again, '--dialect', 'slim-ckpt']);
    expect(text.stderr).toBe('');
    expect(text.stdout).toContain("bit for bit the model's");
    expect(text.stdout).toContain('tf.compat.v1.train.Saver().restore(session, "mobilenet_v1_0.25.ckpt")');
    const name = 'mobilenet_v1_0.25.ckpt.data-00000-of-00001';
    expect(readFileSync(join(again, name)).equals(readFileSync(join(out, name)))).toBe(true);

    for (const [argv, said] of [
      [['--format', 'weights', '--quantize', 'uint8', '--model', model], '--format weights has no --quantize'],
      [['--dialect', 'keras-h5', '--model', model], '--format tfjs has no --dialect'],
      [['--format', 'weights'], 'expected one of --model DIR'],
      [['--format', 'weights', '--model', model, '--source', 'slim'], 'belong to --backbone'],
      [
        ['--format', 'weights', '--model', model, '--dialect', 'torch-safetensors'],
        'cannot be written as torch-safetensors',
      ],
      [['--format', 'weights', '--backbone', 'vgg11', '--weights', 'none'], 'nothing to write'],
    ] as const) {
      const failed = await tl(['export', ...argv, '--out', newOut()]);
      expect(failed.code, said).toBe(2);
      expect(failed.stderr).toContain(said);
    }
  });
});
