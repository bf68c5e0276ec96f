/** `tl finetune --backbone resnet50 --freeze ...` as it is typed, with data in data/ and weights in the local store. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSafetensors } from '../../src/weights/safetensors.js';
import { workplace, writeGoldenWeights, writePictures } from '../cli/harness.js';
import { readForwardGolden } from '../support/golden.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const place = workplace();
const inside = (...parts: string[]): string => join(place.folder, ...parts);
const project = inside('project');

/** `tl`, typed in the project's folder. */
const tl = (argv: readonly string[], home = place.home) =>
  spawnSync(process.execPath, [main, ...argv], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, TL_HOME: home },
  });

const stored = inside('home', 'weights', 'resnet50', 'keras', 'weights.safetensors');

beforeAll(async () => {
  await writePictures(join(project, 'data'), 5);
  await writeGoldenWeights(inside('published.safetensors'), readForwardGolden('resnet50', 'keras'));
});
afterAll(() => place.remove());

describe('without weights in the store', () => {
  test.each(['backbone', 'none', 'last:3', 'until:stage3'])('--freeze %s stops and says how to import', (freeze) => {
    const { status, stdout, stderr } = tl(['finetune', '--backbone', 'resnet50', '--freeze', freeze]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/^error\[WEIGHTS_NOT_FOUND\]: no weights of resnet50 have been imported/m);
    expect(stderr).toMatch(/^fix: run: tl pull resnet50 --source keras, or .*tl import FILE --backbone resnet50/m);
    expect(readdirSync(project)).toEqual(['data']);
    expect(existsSync(inside('home', 'weights'))).toBe(false);
  });
});

/** What is trained besides the head, of the parameters that a step may move at all. */
const strategies = [
  { freeze: 'backbone', moves: () => false },
  { freeze: 'none', moves: () => true },
  { freeze: 'last:3', moves: (path: string) => path.startsWith('stage4.') },
  { freeze: 'until:stage3', moves: (path: string) => path.startsWith('stage4.') },
];

describe('with weights in the store', () => {
  beforeAll(() => {
    const { status, stderr } = tl(['import', inside('published.safetensors'), '--backbone', 'resnet50']);
    expect(status, stderr).toBe(0);
    rmSync(inside('published.safetensors'));
    expect(existsSync(stored)).toBe(true);
  });

  test.each(strategies)('--freeze $freeze trains that, and leaves a whole run', async ({ freeze, moves }) => {
    const run = join(project, 'runs', 'finetune-1');
    rmSync(join(project, 'runs'), { recursive: true, force: true });
    const quick = ['--epochs', '1', '--input-size', '64', '--json'];
    const { status, stdout, stderr } = tl(['finetune', '--backbone', 'resnet50', '--freeze', freeze, ...quick]);
    expect(status, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ runFolder: join('runs', 'finetune-1'), stopped: false });

    const files = [
      ...['args.json', 'best', 'class_indices.json', 'confusion_matrix.png', 'curves.png', 'history.csv', 'last'],
      ...['metrics.json', 'report.html', 'top_losses.png', 'train_batch.png', 'val_predictions.png'],
    ];
    expect(readdirSync(run).sort()).toEqual(expect.arrayContaining(files));
    for (const folder of ['best', 'last'])
      expect(readdirSync(join(run, folder))).toEqual(expect.arrayContaining(['model.json', 'weights.safetensors']));
    expect(readFileSync(join(run, 'curves.png')).subarray(1, 4).toString()).toBe('PNG');
    expect(JSON.parse(readFileSync(join(run, 'class_indices.json'), 'utf8'))).toEqual({
      0: 'blue',
      1: 'green',
      2: 'red',
    });
    expect(JSON.parse(readFileSync(join(run, 'args.json'), 'utf8'))).toMatchObject({
      settings: { freeze, weights: 'auto', data: 'data' },
      resolved: { backbone: 'resnet50', source: 'keras' },
    });
    expect(readFileSync(join(run, 'history.csv'), 'utf8').trim().split('\n')).toHaveLength(2);

    const { moved, kept } = await compared(join(run, 'last', 'weights.safetensors'));
    expect(kept.filter(moves)).toEqual([]);
    expect(moved.filter((path) => !moves(path))).toEqual([]);
  });
});

/**
 * Parameters of the backbone that differ from the store's in any bit, and those that don't. A bias that batch norm
 * takes away again has no gradient but rounding, so that it counts as neither.
 */
async function compared(file: string): Promise<{ moved: string[]; kept: string[] }> {
  const [trained, original] = [await openSafetensors(file), await openSafetensors(stored)];
  const [moved, kept]: [string[], string[]] = [[], []];
  try {
    for (const { name } of original.tensors) {
      if (name.startsWith('classifier') || /conv\w*\.bias$/.test(name)) continue;
      const [a, b] = [await trained.read(name), await original.read(name)];
      const same = Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(
        Buffer.from(b.buffer, b.byteOffset, b.byteLength),
      );
      (same ? kept : moved).push(name);
    }
  } finally {
    await trained.close();
    await original.close();
  }
  expect(moved.length + kept.length).toBeGreaterThan(200);
  return { moved, kept };
}
