/** Pictures of one and of four channels, from published weights that saw three. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { encodeNpy } from '../../src/weights/npy.js';
import { openNpz } from '../../src/weights/npz.js';
import { generateTensor, readForwardGolden } from '../support/golden.js';
import { json, type Ran, tl, workplace, writeGoldenWeights } from './harness.js';

const name = 'mobilenet_v1_0.25';
const place = workplace();
const inside = (...parts: string[]): string => join(place.folder, ...parts);
const before = process.env.TL_HOME;

beforeAll(async () => {
  process.env.TL_HOME = place.home;
  await writeGoldenWeights(inside('published.safetensors'), readForwardGolden(name, 'keras'));
  ok(await tl(['import', inside('published.safetensors'), '--quiet']));
});
afterAll(() => {
  if (before === undefined) delete process.env.TL_HOME;
  else process.env.TL_HOME = before;
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
    const said = json<{ adaptations: string[] }>(ok(await tl(argv)));
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
      'stem.conv.kernel: summed over its 3 input channels for pictures of one channel',
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
    expect(four.adaptations).toEqual(['stem.conv.kernel: its 3 input channels repeated for pictures of 4, times 3/4']);
  });
});
