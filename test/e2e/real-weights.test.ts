/** Weights files that packages ship: what they are is told, and they are imported by name. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asset } from '../../tools/assets.mjs';
import { tl, workplace } from '../cli/harness.js';
import { setHome } from '../support/home.js';

let place: ReturnType<typeof workplace>;
const paths = new Map<string, string>();
beforeAll(async () => {
  for (const { name } of files) paths.set(name, await asset(name));
  place = workplace();
  setHome(place.home);
});
afterAll(() => {
  place.remove();
});

const files = [
  { name: 'mobilenet_v2-b0353104.pth', format: 'torch', tensors: 314, backbone: 'mobilenet_v2_1.0', source: 'torch' },
  { name: 'mobilenet_v1_1.0_224.pb', format: 'tf-graph', tensors: 139, backbone: 'mobilenet_v1_1.0', source: 'slim' },
  { name: 'nsfwjs-mobilenet_v2', format: 'tfjs-layers', tensors: 266, backbone: 'mobilenet_v2_1.0', source: 'keras' },
  { name: 'nsfwjs-mobilenet_v2_mid', format: 'tfjs-graph', tensors: 108, backbone: 'mobilenet_v2_1.4', source: 'tfjs' },
  { name: 'nsfwjs-inception_v3', format: 'tfjs-layers', tensors: 382, backbone: undefined, source: undefined },
];

test.each(files)('tl weights $name', async ({ name, format, tensors, backbone, source }) => {
  const { stdout, code } = await tl(['weights', paths.get(name)!, '--json']);
  expect(code).toBe(0);
  const found = JSON.parse(stdout);
  expect(found.format).toBe(format);
  expect(found.tensors).toHaveLength(tensors);
  expect(found.recognised.slice(0, 1)).toMatchObject(backbone === undefined ? [] : [{ backbone, source }]);
});

test.each([
  { name: 'nsfwjs-mobilenet_v2', backbone: 'mobilenet_v2', source: 'keras', ignore: [], parameters: 2_619_461 },
  {
    name: 'nsfwjs-mobilenet_v2_mid',
    backbone: 'mobilenet_v2_1.4',
    source: 'tfjs',
    ignore: ['--ignore', 'Func/*'], // the layers behind the backbone have no names in this graph
    parameters: 4_291_808,
  },
  {
    name: 'mobilenet_v1_1.0_224.pb',
    backbone: 'mobilenet_v1',
    source: 'slim',
    ignore: ['--ignore', 'final_training_ops/*'], // of another classifier, behind the logits
    parameters: 4_254_889,
  },
])('tl import $name', async ({ name, backbone, source, ignore, parameters }) => {
  const path = paths.get(name)!;
  const { stdout, stderr, code } = await tl([
    'import',
    path,
    '--backbone',
    backbone,
    '--source',
    source,
    ...ignore,
    '--json',
  ]);
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ source, parameters });
});
