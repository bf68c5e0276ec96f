/** `tl lr-find` on pictures: what it writes, what it refuses, and that nothing depends on it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { ToolkitError } from '../../src/errors.js';
import { findLearningRate } from '../../src/train/lr-find.js';
import { json, tl } from '../cli/harness.js';
import { options, pictureFolder, temporary } from './support/training.js';

let data: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 6, 1);
});

const small = ['--backbone', 'mobilenet_v1_0.25', '--source', 'keras', '--weights', 'none', '--input-size', '64'];

test('the command writes the curve and its numbers, and says which rate to take', async () => {
  const out = temporary('found');
  const argv = ['lr-find', ...small, '--data', data, '--batch-size', '6', '--steps', '40', '--out', out, '--seed', '3'];
  const ran = await tl([...argv, '--optimizer', 'sgd', '--json']);
  expect(ran.code, ran.stderr).toBe(0);
  const found = json<{ steps: number; suggestions: { steep: number; valley: number }; ended: string }>(ran);
  expect(readdirSync(out).sort()).toEqual(['lr_find.csv', 'lr_find.png']);
  const [header, ...rows] = readFileSync(join(out, 'lr_find.csv'), 'utf8').trim().split('\n');
  expect(header).toBe('step,lr,loss,smoothed_loss');
  expect(rows).toHaveLength(found.steps);
  const rates = rows.map((row) => Number(row.split(',')[1]));
  expect(rates[0]).toBe(1e-7);
  expect(rates[20]! / rates[10]!).toBeCloseTo(10 ** 2, 6); // a fourth of eight decades
  for (const rate of Object.values(found.suggestions)) expect(rates).toContain(rate);

  const again = await tl([...argv, '--optimizer', 'sgd']);
  expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining('error[RUN_EXISTS]') });
  const text = await tl([...argv, '--optimizer', 'sgd', '--overwrite']);
  expect(text.code, text.stderr).toBe(0);
  expect(text.stdout).toContain(`--lr ${Number(found.suggestions.valley.toPrecision(2))}`); // the same once more
});

test('rates that do not grow are refused, and so is a setting that means nothing to a test', async () => {
  const bad = await tl(['lr-find', ...small, '--data', data, '--from', '1', '--to', '0.1']);
  expect(bad).toMatchObject({ code: 2, stderr: expect.stringMatching(/error\[BAD_OPTION\].*--from 1 --to 0.1/s) });
  const unknown = await tl(['lr-find', ...small, '--data', data, '--lr', '0.1']);
  expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('--lr') });
});

test('a test that is stopped writes nothing', async () => {
  const out = temporary('stopped');
  const controller = new AbortController();
  const { engine, ...settings } = options({ data });
  const { overwrite: _, resume: __, ...given } = settings;
  const failed = await findLearningRate(
    { ...given, ...(engine === undefined ? {} : { engine }), out, signal: controller.signal },
    {
      ...{ info: () => {}, warn: () => {}, epochStart: () => {}, step: () => {}, epoch: () => {} },
      rateTest: ({ step }) => step === 3 && controller.abort(),
    },
  ).catch((error: ToolkitError) => error);
  expect(failed).toMatchObject({ code: 'STOPPED' });
  expect(existsSync(out)).toBe(false);
});
