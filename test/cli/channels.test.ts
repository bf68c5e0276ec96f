/** Pictures of one and of four channels, from published weights that saw three. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decodeImage } from '../../src/data/decode.js';
import type { Adapted } from '../../src/weights/adapt.js';
import { encodeNpy } from '../../src/weights/numpy/npy.js';
import { openNpz } from '../../src/weights/numpy/npz.js';
import { generateTensor, readForwardGolden } from '../support/golden.js';
import { setHome } from '../support/home.js';
import { json, type Ran, tl, workplace, writeGoldenWeights, writePictures } from './harness.js';

const name = 'mobilenet_v1_0.25';
const place = workplace();
const inside = (...parts: string[]): string => join(place.folder, ...parts);

beforeAll(async () => {
  setHome(place.home);
  await writeGoldenWeights(inside('published.safetensors'), readForwardGolden(name, 'keras'));
  ok(await tl(['import', inside('published.safetensors'), '--quiet']));
});
afterAll(() => {
  place.remove();
});

function ok(ran: Ran): Ran {
  if (ran.code !== 0) throw new Error(`exit code ${ran.code}\n${ran.stderr}`);
  return ran;
}

describe('forward', () => {
  const [height, width] = [33, 47];
  const plane = (channel: string): Float32Array => generateTensor(channel, [height * width]);

  /** Interleaves planes to `[1, height, width, planes]`, runs them, and gives the logits and what was said. */
  async function forward(planes: readonly Float32Array[]) {
    const data = Float32Array.from(
      { length: height * width * planes.length },
      (_, i) => planes[i % planes.length]![Math.floor(i / planes.length)]!,
    );
    writeFileSync(inside('x.npy'), encodeNpy({ shape: [1, height, width, planes.length], data }));
    const argv = ['forward', '--backbone', name, '--input', inside('x.npy'), '--output', inside('y.npz'), '--json'];
    const said = json<Pick<Adapted, 'adaptations'>>(ok(await tl(argv)));
    const file = await openNpz(inside('y.npz'));
    const logits = await file.read('logits');
    await file.close();
    return { logits, ...said };
  }

  const worst = (a: Float32Array, b: Float32Array): number =>
    Math.max(...a.map((value, i) => Math.abs(value - b[i]!))) / Math.max(...b.map(Math.abs));

  test('a grey picture gives what it gave as red, green and blue', async () => {
    const grey = await forward([plane('grey')]);
    const three = await forward([plane('grey'), plane('grey'), plane('grey')]);
    expect(worst(grey.logits, three.logits)).toBeLessThan(1e-5);
    expect(grey.adaptations).toEqual([
      {
        kind: 'channels',
        tensors: ['stem.conv.kernel'],
        text: 'stem.conv.kernel: summed over its 3 input channels for pictures of one channel',
      },
    ]);
    expect(three.adaptations).toEqual([]);
  });

  test('a fourth channel is added to the first, and all are times 3/4', async () => {
    const planes = ['red', 'green', 'blue', 'alpha'].map(plane) as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    const [red, green, blue, alpha] = planes;
    const four = await forward(planes);
    const sum = red.map((value, i) => value + alpha[i]!);
    const three = await forward([sum, green, blue].map((each) => each.map((value) => 0.75 * value)));
    expect(worst(four.logits, three.logits)).toBeLessThan(1e-5);
    expect(four.adaptations.map(({ text }) => text)).toEqual([
      'stem.conv.kernel: its 3 input channels repeated for pictures of 4, times 3/4',
    ]);
  });
});

describe('a grey run', () => {
  const run = inside('run');

  test('is asked for with --channels, at a height and width of its own', async () => {
    await writePictures(inside('data'), 4);
    const what = ['--backbone', name, '--data', inside('data'), '--channels', '1', '--input-size', '40x48'];
    const { stderr } = ok(await tl(['finetune', ...what, '--epochs', '1', '--out', run]));
    expect(stderr).toContain('weights adapted: stem.conv.kernel: summed over its 3 input channels');
    const args = JSON.parse(readFileSync(join(run, 'args.json'), 'utf8')) as { settings: object };
    expect(args.settings).toMatchObject({ channels: 1, inputSize: { height: 40, width: 48 } });
  });

  test('predicts colour pictures as grey ones', async () => {
    const colour = inside('data', 'red', '0.png');
    const { data, width, height } = await decodeImage(colour, 1);
    await sharp(data, { raw: { width, height, channels: 1 } })
      .toColourspace('b-w')
      .png()
      .toFile(inside('grey.png'));
    const predicted = async (path: string) => {
      const { top } = json<{ top: object[] }>(ok(await tl(['predict', '--model', run, path, '--json'])));
      return top;
    };
    const top = await predicted(colour);
    expect(top).toHaveLength(3);
    expect(await predicted(inside('grey.png'))).toEqual(top);
  });

  test('forward takes tensors of its own channels only, at any size', async () => {
    const forward = async (shape: number[]) => {
      writeFileSync(inside('x.npy'), encodeNpy({ shape, data: generateTensor('x', shape) }));
      return await tl(['forward', '--model', run, '--input', inside('x.npy'), '--output', inside('y.npz'), '--json']);
    };
    expect(json(ok(await forward([2, 33, 57, 1])))).toMatchObject({ arrays: { logits: [2, 3] } });
    const wrong = await forward([1, 40, 48, 3]);
    expect(wrong).toMatchObject({ code: 1, stdout: '' });
    expect(wrong.stderr).toContain('expected [N, H, W, 1] for this model, received [1, 40, 48, 3]');
  });

  test.each([
    ['--channels', '2', 'Expected 1, 3 or 4.'],
    ['--input-size', '40x48x3', 'Expected N, or HxW, with sides of 1 to 65536.'],
    ['--input-size', '40x', 'Expected N, or HxW, with sides of 1 to 65536.'],
    ['--input-size', '0', 'Expected N, or HxW, with sides of 1 to 65536.'],
  ])('%s %s is wrong usage', async (option, value, message) => {
    const ran = await tl(['finetune', '--backbone', name, '--data', inside('data'), option, value]);
    expect(ran).toMatchObject({ code: 2, stdout: '' });
    expect(ran.stderr).toContain(message);
  });

  test('summary shows the network of a run', async () => {
    const ran = ok(await tl(['summary', name, '--channels', '4', '--size', '64x96', '--json']));
    const { layers, ...said } = json<{ layers: { path: string; tensors: { shape: number[] }[] }[] }>(ran);
    expect(said).toMatchObject({
      channels: 4,
      inputSize: { height: 64, width: 96 },
      preprocessing: { mean: [1, 1, 1, 1] },
    });
    expect(layers.find(({ path }) => path === 'stem.conv')!.tensors[0]!.shape).toEqual([3, 3, 4, 8]);
  });
});

describe('an input size that a network cannot take', () => {
  const hint = 'fix: give a height and width of at least 29';

  test('stops a run before anything is written', async () => {
    await writePictures(inside('few'), 2);
    const what = ['--backbone', 'densenet121', '--weights', 'none', '--data', inside('few'), '--input-size', '28x96'];
    const ran = await tl(['finetune', ...what, '--out', inside('none')]);
    expect(ran).toMatchObject({ code: 2, stdout: '' });
    expect(ran.stderr).toContain('error[INPUT_TOO_SMALL]: densenet121 (source keras) cannot take pictures of 28x96: ');
    expect(ran.stderr).toContain(hint);
    expect(existsSync(inside('none'))).toBe(false);
  });

  test('is named by summary', async () => {
    expect((await tl(['summary', 'densenet121', '--size', '28x96'])).stderr).toContain(hint);
    const { code, stderr } = await tl(['summary', 'vgg16', '--size', '193x257']);
    expect(code).toBe(2);
    expect(stderr).toContain('error[INPUT_SIZE]: vgg16 (source keras) cannot take pictures of 193x257: ');
    expect(stderr).toContain('fix: give a height and width of 224 to 255');
  });
});
