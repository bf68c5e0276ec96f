/** The commands at work: weights go in, numbers, a model and predictions come out. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openNpz } from '../../src/weights/numpy/npz.js';
import { readForwardGolden, worstDifference } from '../support/golden.js';
import { setHome } from '../support/home.js';
import { json, type Ran, tl, workplace, writeGoldenWeights, writeInput, writePictures } from './harness.js';

const name = 'mobilenet_v1_0.25';
const golden = readForwardGolden(name, 'keras');
const place = workplace();
const inside = (...parts: string[]): string => join(place.folder, ...parts);
const published = inside('published.safetensors');

beforeAll(async () => {
  setHome(place.home);
  await writeGoldenWeights(published, golden);
  await writePictures(inside('data'), 8);
});
afterAll(() => {
  place.remove();
});

const ok = (ran: Ran): Ran => {
  if (ran.code !== 0) throw new Error(`exit code ${ran.code}\n${ran.stderr}`);
  return ran;
};

describe('import', () => {
  test('weights says what a file is', async () => {
    const found = json<{ tensors: unknown[] }>(ok(await tl(['weights', published, '--json'])));
    expect(found).toMatchObject({
      format: 'safetensors',
      parameters: 475_544,
      recognised: [{ backbone: name, source: 'keras', classes: 1000 }],
    });
    expect(found.tensors).toHaveLength(golden.tensors.length);
    const { stdout } = ok(await tl(['weights', published]));
    expect(stdout).toMatch(/^conv1\/kernel +float32 +3x3x3x8$/m);
    expect(stdout).toContain(`recognised: ${name} from keras, 1000 classes`);
  });

  test('a dry run shows the plan and keeps nothing', async () => {
    const { stdout } = ok(await tl(['import', published, '--dry-run']));
    expect(stdout).toMatch(/^stem\.conv\.kernel +conv1\/kernel +ok +3x3x3x8 +3x3x3x8 +float32$/m);
    expect(stdout).toContain('nowhere: this was a dry run');
    expect(existsSync(join(place.home, 'weights'))).toBe(false);
  });

  test('keeps the weights, and backbones marks them', async () => {
    const { stdout, stderr } = ok(await tl(['import', published]));
    expect(stderr).toBe('');
    expect(stdout).toContain(`${name} from keras, with a classifier of 1000 classes`);
    expect(stdout).toMatch(/^sha256: +[0-9a-f]{64}$/m);
    expect(stdout).toContain('1x1 convolution read as a dense layer');
    expect(stdout).toContain(join(place.home, 'weights', name, 'keras'));
    expect(ok(await tl(['backbones'])).stdout).toMatch(/^mobilenet_v1_0\.25 .*keras\*/m);
    expect(json(await tl(['doctor', '--json']))).toMatchObject({ weights: [{ backbone: name, source: 'keras' }] });
  });

  test('lists every fault, and an idle --ignore is wrong usage', async () => {
    const wrong = await tl(['import', published, '--backbone', 'mobilenet_v1_0.5', '--source', 'keras']);
    expect(wrong).toMatchObject({ code: 1, stdout: '' });
    expect(wrong.stderr).toContain('wrong shape: conv1/kernel is [3, 3, 3, 8], stem.conv.kernel expects [3, 3, 3, 16]');
    expect(wrong.stderr).toContain(`fix: this file fits --backbone ${name} --source keras`);
    const idle = await tl(['import', published, '--ignore', 'nothing*', '--ignore', 'else']);
    expect(idle.code).toBe(2);
    expect(idle.stderr).toContain('--ignore nothing*, else');
  });
});

test('an interrupted import keeps the store as it was', async () => {
  const controller = new AbortController();
  controller.abort();
  const ran = await tl(['import', published], { signal: controller.signal });
  expect(ran).toEqual({ code: 130, stdout: '', stderr: 'stopped; nothing was written under a final name\n' });
  expect(ok(await tl(['backbones'])).stdout).toContain('keras*');
});

describe('forward', () => {
  const each = golden.cases[1]!;
  const [input, output] = [inside('x.npy'), inside('y.npz')];
  const network = ['--backbone', name, '--input', input, '--output', output];
  beforeAll(() => writeInput(input, each.inputShape));

  async function arrays(): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
    const source = await openNpz(output);
    const found = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    for (const { name: key, shape } of source.tensors) found.set(key, { shape, data: await source.read(key) });
    await source.close();
    return found;
  }

  test('agrees with the reference, taps and all, and batches do not matter', async () => {
    const [tap] = [...each.taps.keys()] as [string];
    const said = json(ok(await tl(['forward', ...network, '--tap', tap, '--json'])));
    expect(said).toMatchObject({
      backbone: name,
      source: 'keras',
      output,
      arrays: { pre_logits: [each.inputShape[0], 256], logits: [each.inputShape[0], 1000] },
    });
    const found = await arrays();
    expect([...found.keys()]).toEqual(['pre_logits', 'logits', tap]);
    expect(worstDifference(each.preLogits, found.get('pre_logits')!.data)).toBeLessThan(2.5e-4);
    expect(worstDifference(each.logits, found.get('logits')!.data)).toBeLessThan(2.5e-4);
    expect(worstDifference(each.taps.get(tap)!, found.get(tap)!.data)).toBeLessThan(5e-4);
    ok(await tl(['forward', ...network, '--weights', published, '--batch-size', '1', '--quiet']));
    const single = await arrays();
    expect([...single.keys()]).toEqual(['pre_logits', 'logits']);
    const worst = Math.max(...single.get('logits')!.data.map((v, i) => Math.abs(v - found.get('logits')!.data[i]!)));
    expect(worst).toBeLessThan(1e-4 * each.logits.max);
  });

  test('says what is wrong with the input', async () => {
    const wrong = async (shape: number[], ...more: string[]) => {
      writeInput(inside('wrong.npy'), shape);
      const ran = await tl([
        'forward',
        '--backbone',
        name,
        '--input',
        inside('wrong.npy'),
        '--output',
        output,
        ...more,
      ]);
      expect(ran.stdout).toBe('');
      return ran;
    };
    expect((await wrong([32, 32, 3])).stderr).toContain('expected four dimensions [N, H, W, C], received [32, 32, 3]');
    expect((await wrong([1, 3, 32, 32])).stderr).toContain('x.transpose(0, 2, 3, 1)');
    expect((await wrong([1, 32, 32, 2])).stderr).toContain('expected 1, 3 or 4 channels');
    expect((await wrong([0, 32, 32, 3])).stderr).toContain('at least one picture');
    expect(await wrong([1, 32, 32, 3], '--tap', 'stem,foo')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/no tap called "foo"\nfix: its taps are: stem, block1/) as string,
    });
    expect((await wrong([1, 32, 32, 3], '--weights', 'none')).stderr).toContain('error[NO_WEIGHTS]');
    expect((await wrong([1, 32, 32, 3], '--model', 'x')).stderr).toContain('both --model and --backbone');
  });
});

describe('a run', () => {
  const run = inside('run');
  const options = ['--backbone', name, '--data', inside('data'), '--input-size', '64', '--epochs', '3'];
  const settings = [...options, '--batch-size', '6', '--out', run];

  test('finetune trains a head, an epoch a line, and says where the model is', async () => {
    const ran = ok(await tl(['finetune', ...settings, '--head', 'mlp:8', '--lr', '0.01', '--seed', '3']));
    expect(ran.stderr).toContain('TensorFlow');
    expect(
      ran.stderr.match(/^epoch \d\/3: loss \d\.\d{4}, accuracy .* validation loss .* [\d.]+ % waiting for pictures/gm),
    ).toHaveLength(3);
    expect(ran.stdout).toMatch(/^run folder: .*run$/m);
    expect(ran.stdout).toContain(`tl predict --model ${run}`);
    for (const file of ['args.json', 'history.csv', 'metrics.json', 'class_indices.json', 'best', 'last'])
      expect(readdirSync(run)).toContain(file);
    const { settings: written } = JSON.parse(readFileSync(join(run, 'args.json'), 'utf8')) as { settings: object };
    expect(written).toMatchObject({
      backbone: name,
      inputSize: { height: 64, width: 64 },
      epochs: 3,
      batchSize: 6,
      head: 'mlp:8',
      headDropout: 0,
      lr: 0.01,
      seed: 3,
      augment: 'flip',
      skipBadImages: false,
    });
  });

  test('finetune refuses the folder of a run, unless told to replace it; --json and --quiet', async () => {
    const refused = await tl(['finetune', ...settings]);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain('--overwrite');
    const ran = ok(await tl(['finetune', ...settings, '--lr', '0.02', '--overwrite', '--json', '--quiet']));
    expect(ran.stderr).toBe('');
    expect(json(ran)).toMatchObject({
      runFolder: run,
      stopped: false,
      resume: null,
      metrics: { epochs: 3, classes: 3, trainPictures: 18, valPictures: 6 },
    });
  });

  test('a terminal gets a bar, and the lines stay', async () => {
    const ran = ok(await tl(['finetune', ...settings, '--overwrite'], { terminal: true }));
    expect(ran.stderr).toContain('epoch 1/3 [');
    expect(ran.stderr).toMatch(/epoch 3\/3: loss/);
    expect(ran.stdout).toMatch(/^run folder: /);
  });

  test('a stopped run says how to go on, and going on ends where it would have', async () => {
    const controller = new AbortController();
    const stopped = inside('stopped');
    const whole = ok(await tl(['finetune', ...options, '--out', inside('whole'), '--json', '--quiet']));
    const work = tl(['finetune', ...options, '--out', stopped], { signal: controller.signal });
    const wait = setInterval(() => {
      if (existsSync(join(stopped, 'last'))) controller.abort();
    }, 1);
    const ran = await work.finally(() => clearInterval(wait));
    if (ran.code === 130) {
      expect(ran.stdout).toContain(`tl finetune --resume ${stopped}`);
      ok(await tl(['finetune', '--resume', stopped, '--json', '--quiet']));
    }
    const metrics = (folder: string) => {
      const { seconds, ...rest } = JSON.parse(readFileSync(join(folder, 'metrics.json'), 'utf8')) as {
        seconds: number;
      };
      return rest;
    };
    expect(metrics(stopped)).toEqual(metrics(inside('whole')));
    expect(json(whole)).toMatchObject({ stopped: false });
  });

  test('forward takes the model of a run', async () => {
    writeInput(inside('m.npy'), [2, 64, 64, 3]);
    const argv = ['forward', '--model', run, '--input', inside('m.npy'), '--output', inside('m.npz'), '--json'];
    expect(json(ok(await tl(argv)))).toMatchObject({
      backbone: name,
      arrays: { pre_logits: [2, 256], logits: [2, 3] },
    });
  });

  test('predict takes pictures, folders and patterns, and each picture once', async () => {
    const red = inside('data', 'red');
    const ran = ok(await tl(['predict', '--model', run, red, join(red, '0.png'), inside('data', '*', '1.png')]));
    const lines = ran.stdout.trim().split('\n');
    expect(lines).toHaveLength(8 + 2);
    expect(lines[0]).toMatch(/^.*\/red\/0\.png {2}(red|green|blue) \d+\.\d %( {2}(red|green|blue) \d+\.\d %){2}$/);
    expect(lines.slice(8).map((line) => line.split('  ')[0])).toEqual([
      inside('data', 'blue', '1.png'),
      inside('data', 'green', '1.png'),
    ]);
  });

  test('predict goes on after a damaged picture, and ends with 1', async () => {
    const damaged = inside('damaged.jpg');
    writeFileSync(damaged, 'this is no picture');
    const good = inside('data', 'green', '2.png');
    const ran = await tl(['predict', '--model', run, damaged, inside('nowhere.png'), good, '--json', '--top', '1']);
    expect(ran.code).toBe(1);
    const lines = ran.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines).toMatchObject([
      { path: damaged, error: expect.any(String) as string },
      { path: inside('nowhere.png'), error: expect.stringContaining('no such file') as string },
      { path: good, class: expect.any(String) as string, probability: expect.any(Number) as number },
    ]);
    expect(lines[2]!.top).toHaveLength(1);
    expect(ran.stderr).toContain(`warning: ${damaged}: `);
    expect(ran.stderr).toContain('2 of 3 pictures could not be read');
  });

  test('predict refuses a folder and a pattern without pictures', async () => {
    for (const nothing of [join(place.home, 'weights'), inside('data', '*', 'x*.png')]) {
      const ran = await tl(['predict', '--model', run, nothing]);
      expect(ran).toMatchObject({ code: 1, stdout: '' });
      expect(ran.stderr).toContain('error[NO_PICTURES]');
    }
  });

  test('evaluate counts every picture once', async () => {
    const argv = ['evaluate', '--model', run, '--data', inside('data'), '--split', 'all'];
    const evaluation = json<{ confusion: number[][]; top1: number }>(ok(await tl([...argv, '--json'])));
    expect(evaluation).toMatchObject({ runtime: 'tensorflow', split: 'all', pictures: 24, top5: 1 });
    const counts = evaluation.confusion.flat().reduce((a, b) => a + b, 0);
    expect(counts).toBe(24);
    const { stdout } = ok(await tl(argv));
    expect(stdout).toMatch(/^computed by: +tensorflow$/m);
    expect(stdout).toMatch(/^top-1: +\d+\.\d %$/m);
    expect(stdout).toMatch(/^class +pictures +precision +recall +F1 +specificity$/m);
    expect(stdout).toMatch(/^2 red +\d +\d +\d$/m);
    expect(stdout).toMatch(/^top-5: +100\.0 %, as there are 3 classes$/m);
    expect(stdout).toMatch(/^macro mean +24 +\d+\.\d % /m);
    expect((await tl(['evaluate', '--model', run, '--data', inside('nowhere')])).code).toBe(1);
  });

  test('predict and evaluate take --tta, and say the same of its views', async () => {
    // Stripes that are neither their own mirror image nor the same in every corner.
    const pixels = Uint8Array.from({ length: 90 * 70 * 3 }, (_, i) => ((i % 270) * 3 + Math.floor(i / 270) ** 2) % 256);
    const paths = ['red', 'blue'].map((label) => inside('views', label, '0.png'));
    for (const path of paths) {
      mkdirSync(dirname(path), { recursive: true });
      await sharp(pixels, { raw: { width: 90, height: 70, channels: 3 } })
        .png()
        .toFile(path);
    }
    const said: number[] = [];
    for (const tta of [[], ['--tta', 'flip'], ['--tta', 'crops']]) {
      const argv = ['--model', run, '--json', ...tta];
      const evaluated = ok(await tl(['evaluate', '--data', inside('views'), '--split', 'all', ...argv]));
      const { loss } = json<{ loss: number }>(evaluated);
      const { top } = json<{ top: { class: string; probability: number }[] }>(
        ok(await tl(['predict', paths[0]!, ...argv])),
      );
      const logOf = (label: string) => Math.log(top.find((guess) => guess.class === label)!.probability);
      expect(-(logOf('red') + logOf('blue')) / 2).toBeCloseTo(loss, 5);
      said.push(loss);
    }
    expect(new Set(said).size).toBe(3);
    expect((await tl(['predict', paths[0]!, '--model', run, '--tta', 'twice'])).code).toBe(2);
  });

  test('evaluate writes a row for each picture, and its figures as JSON', async () => {
    const csv = inside('figures', 'pictures.csv');
    const ran = ok(
      await tl(['evaluate', '--model', run, '--data', inside('data'), '--split', 'all', '--csv', csv, '--json']),
    );
    expect(json(ran)).toMatchObject({
      macro: { precision: expect.any(Number), specificity: expect.any(Number) },
      weighted: { recall: json<{ top1: number }>(ran).top1, f1: expect.any(Number) },
      calibration: { ece: expect.any(Number) },
    });
    expect(json(ran)).not.toHaveProperty('outcomes');
    const lines = readFileSync(csv, 'utf8').trimEnd().split('\n');
    expect(lines[0]).toMatch(/^path,label,prediction,correct,loss,label_probability,class_1,probability_1,/);
    expect(lines).toHaveLength(25);
    const right = lines.slice(1).filter((line) => line.split(',')[3] === '1').length;
    expect(right / 24).toBe(json<{ top1: number }>(ran).top1);
    const folder = await tl(['evaluate', '--model', run, '--data', inside('data'), '--csv', inside('data')]);
    expect(folder.code).toBe(1);
    expect(folder.stderr).toContain('error[FILE_NOT_WRITTEN]');
  });

  test('what computes takes --precision; an engine without bfloat16 refuses it', async () => {
    writeInput(inside('p.npy'), [2, 64, 64, 3]);
    const out = inside('bfloat16');
    for (const argv of [
      ['predict', '--model', run, inside('data', 'red', '0.png')],
      ['evaluate', '--model', run, '--data', inside('data')],
      ['forward', '--model', run, '--input', inside('p.npy'), '--output', inside('p.npz')],
      ['finetune', ...options, '--out', out],
    ]) {
      const { code, stderr } = await tl([...argv, '--engine', 'wasm', '--precision', 'bfloat16']);
      expect({ argv, code, error: /error\[(\w+)\]/.exec(stderr)?.[1] }).toEqual({
        argv,
        code: 1,
        error: 'PRECISION_UNSUPPORTED',
      });
    }
    expect(existsSync(out)).toBe(false);
  });

  test('export writes a checked model, and refuses to write over another', async () => {
    const out = inside('exported');
    const argv = ['export', '--model', run, '--format', 'tfjs', '--out', out, '--quantize', 'float16'];
    expect(json(ok(await tl([...argv, '--json', '--quiet'])))).toMatchObject({
      format: 'tfjs',
      out,
      quantize: 'float16',
      bound: 'probabilities within 0.01',
      difference: null,
      check: { given: true, source: { accuracy: expect.any(Number) as number } }, // the run's own pictures
    });
    expect(
      json(ok(await tl(['evaluate', '--model', out, '--data', inside('data'), '--json', '--quiet']))),
    ).toMatchObject({
      runtime: expect.stringMatching(/^tfjs \d+\.\d+\.\d+ wasm$/) as string,
      pictures: expect.any(Number) as number,
    });
    expect(readdirSync(out)).toContain('model.json');
    const again = await tl(argv);
    expect(again).toMatchObject({ code: 2, stdout: '' });
    expect(again.stderr).toContain('--overwrite');
    const { stdout } = ok(await tl([...argv, '--overwrite']));
    expect(stdout).toMatch(/^weights: +\d+\.\d kB \(float16\), \d\d\.\d % of the model's in float32$/m);
    expect(stdout).toMatch(/^checked: +\d+ pictures, tfjs .* probabilities differ by at most \d/m);
  });
});
