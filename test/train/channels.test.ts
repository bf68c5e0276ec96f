/** Runs on grey and on RGBA pictures, from published weights that saw three channels, to prediction and export. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { evaluate } from '../../src/train/evaluate.js';
import { finetune } from '../../src/train/finetune.js';
import type { FinetuneOptions } from '../../src/train/options.js';
import { predict } from '../../src/train/predict.js';
import { type ModelRecord, openModelFolder } from '../../src/weights/model-folder.js';
import { options, pictureFolder, silent, startingWeights, temporary, train } from './support/training.js';

let engine: Engine;
beforeAll(async () => {
  engine = await loadEngine({ engine: 'tensorflow' });
});

/** Class folders of pictures of one channel or four that only their light, or only their alpha, tells apart. */
async function plainFolder(name: string, channels: 1 | 4): Promise<string> {
  const folder = temporary(name);
  for (const [className, value] of Object.entries({ dark: 40, light: 210 })) {
    mkdirSync(join(folder, className), { recursive: true });
    for (let i = 0; i < 6; i++) {
      const pixel = channels === 1 ? [value + i] : [90 + i, 120 - i, 100, value];
      const data = Uint8Array.from({ length: 30 * 30 * channels }, (_, k) => pixel[k % channels]!);
      const picture = sharp(data, { raw: { width: 30, height: 30, channels } });
      await (channels === 1 ? picture.toColourspace('b-w') : picture).png().toFile(join(folder, className, `${i}.png`));
    }
  }
  return folder;
}

async function readModel(folder: string): Promise<ModelRecord> {
  const model = await openModelFolder(folder);
  await model.close();
  return model.record;
}

describe.each([
  ['mobilenet_v1_0.25', 'keras', 1],
  ['mobilenet_v1_0.25', 'keras', 4],
  ['resnet18', 'torch', 1],
] as const)('%s from %s on pictures of %i channels', (backbone, source, channels) => {
  let data: string;
  let run: string;
  const said: string[] = [];
  beforeAll(async () => {
    data = await plainFolder(`${backbone}-${channels}`, channels);
    const settings = { data, backbone, source, channels, weights: await startingWeights(backbone, source) };
    const changes: Partial<FinetuneOptions> = { freeze: 'last:1', epochs: 2, valSplit: 0.34, inputSize: 48 };
    const info = (line: string): void => void said.push(line);
    run = (await train({ ...settings, ...changes, augment: 'flip' }, { info })).runFolder;
  });

  test('says how the weights were adapted, in words and in args.json', () => {
    const { resolved } = JSON.parse(readFileSync(join(run, 'args.json'), 'utf8')) as {
      resolved: { adaptations: string[]; channels: number };
    };
    expect(resolved).toMatchObject({ channels, adaptations: [expect.stringMatching(/^stem\.conv\.kernel: /)] });
    expect(said.join('\n')).toContain(`weights adapted: ${resolved.adaptations[0]}`);
  });

  test('keeps channels and preprocessing in the model, from which everything goes on', async () => {
    const model = await openModelFolder(run);
    try {
      expect(model.record.channels).toBe(channels);
      expect(model.record.preprocessing.mean).toHaveLength(channels);
      expect(model.graph.input.shape).toEqual([48, 48, channels]);
      const evaluation = await evaluate(model, engine, { data, split: 'all' });
      expect(evaluation.pictures).toBe(12);
      for await (const each of predict(model, [join(data, 'dark', '0.png')], engine, { top: 2 })) {
        if ('error' in each) throw new Error(each.error);
        expect(each.guesses.reduce((sum, { probability }) => sum + probability, 0)).toBeCloseTo(1, 5);
      }
      if (backbone === 'resnet18') return; // its export takes long, and shows nothing more
      const out = temporary(`${backbone}-${channels}-tfjs`);
      const { check } = await exportModel(model, { format: 'tfjs', out }, engine);
      expect(check.maxDifference).toBeLessThan(1e-4);
      const { signature } = JSON.parse(readFileSync(join(out, 'model.json'), 'utf8')) as {
        signature: { inputs: { input: { tensorShape: { dim: { size: string }[] } } } };
      };
      const dims = signature.inputs.input.tensorShape.dim.map(({ size }) => Number(size));
      expect(dims).toEqual([-1, 48, 48, channels]);
      expect(readFileSync(join(out, 'README.md'), 'utf8')).toContain(`[N, 48, 48, ${channels}]`);
    } finally {
      await model.close();
    }
  });
});

test('a network made for grey pictures takes them as they lie in their folder', async () => {
  const data = await plainFolder('digits', 1);
  const changes: Partial<FinetuneOptions> = {
    backbone: 'demo_cnn',
    source: 'notes',
    freeze: 'none',
    valSplit: 0,
    lr: 1e-3,
  };
  const { inputSize: _, ...published } = options({ ...changes, data, out: temporary('demo'), epochs: 5 });
  const { runFolder, metrics } = await finetune(published, silent);
  const { channels, inputSize, preprocessing } = await readModel(runFolder);
  expect({ channels, inputSize }).toEqual({ channels: 1, inputSize: { height: 28, width: 28 } });
  expect(preprocessing.mean).toHaveLength(1);
  expect(metrics.trainLoss).toBeLessThan(0.9 * Math.log(2));
});

test('alpha alone tells classes apart where it is seen', async () => {
  const data = await plainFolder('alpha', 4);
  const network = { backbone: 'demo_cnn', source: 'notes', weights: 'none', inputSize: 28 };
  const settings = { ...network, data, freeze: 'none', epochs: 10, lr: 1e-3, valSplit: 0 };
  const seen = await train({ ...settings, channels: 4 });
  expect(seen.metrics.trainLoss).toBeLessThan(0.2);
  const blind = await train({ ...settings, channels: 3 });
  expect(blind.metrics.trainLoss).toBeGreaterThan(0.4);
});

describe('a grey model as starting weights', () => {
  let data: string;
  let grey: string;
  beforeAll(async () => {
    data = await pictureFolder('colours', 3, 2);
    const changes = { data, channels: 1 as const, inputSize: { height: 40, width: 48 }, epochs: 1 };
    grey = (await train(changes)).runFolder;
  });

  test('goes on grey, unless other channels are asked for', async () => {
    expect(await readModel(grey)).toMatchObject({ channels: 1, inputSize: { height: 40, width: 48 } });
    const again = await train({ data, weights: grey, epochs: 1 });
    expect(await readModel(again.runFolder)).toMatchObject({ channels: 1 });
    const colour = await train({ data, weights: grey, channels: 3, epochs: 1 });
    expect(await readModel(colour.runFolder)).toMatchObject({ channels: 3 });
  });

  test('its record has to agree with its preprocessing', async () => {
    const copy = temporary('disagreeing');
    cpSync(join(grey, 'best'), copy, { recursive: true });
    const record = JSON.parse(readFileSync(join(copy, 'model.json'), 'utf8')) as ModelRecord;
    writeFileSync(join(copy, 'model.json'), JSON.stringify({ ...record, channels: 4 }));
    await expect(openModelFolder(copy)).rejects.toMatchObject({
      code: 'MODEL_INVALID',
      message: expect.stringContaining('channels: as many as preprocessing has means') as string,
    });
  });
});
