/** Parameters read whole and piece by piece are the same; a tensor that holds several is read once; faults are named. */
import { expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { numbersOf } from '../../src/weights/plan/planned-numbers.js';
import type { TensorSource } from '../../src/weights/source.js';
import { generatedSource, readForwardGolden } from '../support/golden.js';
import { expectFailure } from './support/temporary.js';

function open(name: string, source: string, change: (tensor: string, values: Float32Array) => void = () => {}) {
  const backbone = findBackbone(name);
  const file = generatedSource(readForwardGolden(name, source).tensors, 'safetensors');
  const asked: string[] = [];
  const noting: TensorSource = {
    ...file,
    read: async (tensor) => {
      asked.push(tensor);
      const values = await file.read(tensor);
      change(tensor, values);
      return values;
    },
  };
  const rows = planWeights(file, backbone, findPublished(backbone, source)).rows.filter((row) => row.parameter);
  return { rows, asked, ...numbersOf(noting, rows) };
}

async function joined(pieces: AsyncIterable<Float32Array>): Promise<Float32Array> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(Buffer.from(piece.slice().buffer)); // before it is overwritten
  return new Float32Array(new Uint8Array(Buffer.concat(all)).buffer);
}

test('fused queries, keys and values are read once, and every parameter is what it is when read whole', async () => {
  const { rows, asked, read, pieces } = open('vit_ti16', 'torch');
  const block = rows.map(({ parameter }) => parameter!.path).filter((path) => path.startsWith('block1.'));
  for (const path of block) expect(await joined(pieces(path))).toEqual(await read(path));
  asked.length = 0;
  for (const path of block) await read(path);
  expect(asked.filter((name) => name === 'blocks.0.attn.qkv.weight')).toHaveLength(1);
  expect(new Set(asked).size).toBe(asked.length);
});

test('numbers that are none, and variances below zero, are named with their place', async () => {
  const broken = open('mobilenet_v1_0.25', 'keras', (tensor, values) => {
    if (tensor === 'conv_pw_1/kernel') values[77] = Number.NaN;
    if (tensor === 'conv_pw_1_bn/moving_variance') values[3] = -1;
  });
  const kernel = broken.rows.find(({ tensor }) => tensor?.name === 'conv_pw_1/kernel')!.parameter!.path;
  const variance = broken.rows.find(({ tensor }) => tensor?.name === 'conv_pw_1_bn/moving_variance')!.parameter!.path;
  const at77 = /conv_pw_1\/kernel .* holds NaN at position 77 /;
  await expectFailure(() => broken.read(kernel), 'NOT_FINITE', at77);
  await expectFailure(() => joined(broken.pieces(kernel)), 'NOT_FINITE', at77);
  await expectFailure(() => broken.read(variance), 'NEGATIVE_VARIANCE', /holds -1 at position 3 /);
});
