/** `tl compare`: what is in the folders of runs, side by side. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { formatHistory } from '../../src/train/history.js';
import type { HistoryRow } from '../../src/train/options.js';
import { json, tl } from './harness.js';

const folder = mkdtempSync(join(tmpdir(), 'tl-compare-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const out = join(folder, 'compare.png');

const rows = (valLosses: readonly number[]): HistoryRow[] => {
  let lowest = Number.POSITIVE_INFINITY;
  return valLosses.map((valLoss, i) => {
    const best = valLoss < lowest;
    lowest = Math.min(lowest, valLoss);
    const losses = { trainLoss: 1 / (i + 1), trainAccuracy: 0.9, valLoss, valAccuracy: 1 - valLoss / 10 };
    return { epoch: i + 1, ...losses, lr: 1e-3, seconds: 2, imagesPerSecond: 100, best };
  });
};

interface Given {
  readonly settings?: object;
  readonly resolved?: object;
  readonly history?: readonly HistoryRow[] | undefined;
  readonly metrics?: object | undefined;
}

/** A run folder as `tl finetune` leaves it, without its models. */
function runFolder(name: string, { settings, resolved, history = rows([1, 0.5, 0.4]), metrics }: Given = {}): string {
  const path = join(folder, name);
  mkdirSync(path, { recursive: true });
  const args = {
    settings: { backbone: 'resnet50', freeze: 'backbone', epochs: 3, optimizer: 'adam', head: 'linear', ...settings },
    resolved: { backbone: 'resnet50', source: 'keras', lr: 0.001, weightDecay: 0, dataFingerprint: 'a', ...resolved },
    versions: {},
  };
  writeFileSync(join(path, 'args.json'), JSON.stringify(args));
  if (history.length > 0) writeFileSync(join(path, 'history.csv'), formatHistory(history));
  if (metrics !== undefined) writeFileSync(join(path, 'metrics.json'), JSON.stringify(metrics));
  return path;
}

describe('compare', () => {
  test('gives a row a run, the settings that differ, and their curves', async () => {
    const one = runFolder('one', { metrics: { trainableParameters: 20_490, parameters: 23_608_202 } });
    const two = runFolder('two', {
      settings: { freeze: 'last:3', epochs: 8, optimizer: 'sgd', mixup: 0.2 },
      resolved: { lr: 0.01 },
      history: rows([1, 0.4, 0.3, 0.5, 0.6, 0.7]),
    });
    const ran = await tl(['compare', one, two, '--out', out]);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout).toMatch(
      /^one +resnet50 \(keras\) +backbone +3 +3 +96\.0 % +0\.4000 +20,490 +23,608,202 +6\.0 s +-$/m,
    );
    expect(ran.stdout).toMatch(/^two +resnet50 \(keras\) +last:3 +6 of 8 +3 +97\.0 % +0\.3000 +- +- +12 s +3$/m);
    const [, differing = ''] = ran.stdout.split('\n\n');
    expect(differing.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      ['setting', 'one', 'two'],
      ['freeze', 'backbone', 'last:3'],
      ['epochs', '3', '8'],
      ['optimizer', 'adam', 'sgd'],
      ['lr', '0.001', '0.01'],
      ['mixup', '-', '0.2'],
    ]);
    expect(ran.stdout).toContain(`curves: ${out}`);
    expect(await sharp(out).metadata()).toMatchObject({ format: 'png', width: 1200 });
    const parsed = json(await tl(['compare', one, two, '--out', out, '--json']));
    expect(parsed).toMatchObject({
      runs: [
        { folder: one, name: 'one', bestEpoch: 3, valLoss: 0.4, parameters: 23_608_202, overfitsSince: null },
        { folder: two, name: 'two', bestEpoch: 3, valLoss: 0.3, parameters: null, overfitsSince: 3 },
      ],
      samePictures: true,
      curves: out,
    });
  });

  test('runs of one name are told apart, equal settings are said to be equal', async () => {
    const [a, b] = [runFolder(join('a', 'run')), runFolder(join('b', 'run'))];
    const { stdout } = await tl(['compare', a, b, '--out', out]);
    expect(stdout).toContain(`${a} `);
    expect(stdout).toContain(`${b} `);
    expect(stdout).toContain('no setting differs');
  });

  test('says that figures on other pictures do not compare', async () => {
    const [a, b] = [runFolder('here'), runFolder('elsewhere', { resolved: { dataFingerprint: 'b' } })];
    const ran = await tl(['compare', a, b, '--out', out]);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain('warning: the runs were not trained and validated on the same pictures');
  });

  test('runs without validation pictures have dashes, and ten runs have ten curves', async () => {
    const bare = runFolder('bare', { history: rows([Number.NaN, Number.NaN]) });
    const many = Array.from({ length: 9 }, (_, i) => runFolder(`run-${i}`, { history: rows([1, 0.5 + i / 20]) }));
    const { stdout, code } = await tl(['compare', bare, ...many, '--out', out]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^bare +resnet50 \(keras\) +backbone +2 of 3 +2 +- +- +- +- +4\.0 s +-$/m);
    const { data, info } = await sharp(out).removeAlpha().raw().toBuffer({ resolveWithObject: true });
    const colours = new Set<string>();
    for (let i = 0; i < data.length; i += info.channels) colours.add(data.subarray(i, i + 3).toString('hex'));
    for (const colour of ['0072b2', 'd55e00', '009e73', 'cc79a7', 'e69f00', '56b4e9', 'f0e442']) {
      expect(colours).toContain(colour);
    }
  });

  test('every folder that holds no run is named, and nothing is drawn', async () => {
    const good = runFolder('good');
    const early = runFolder('early', { history: [] });
    const broken = runFolder('broken');
    writeFileSync(join(broken, 'history.csv'), 'epoch,loss\n1,2\n');
    const target = join(folder, 'never.png');
    const ran = await tl(['compare', good, join(folder, 'nowhere'), early, broken, '--out', target]);
    expect(ran).toMatchObject({ code: 2, stdout: '' });
    expect(ran.stderr).toContain('error[RUN_NOT_COMPARED]');
    for (const word of ['nowhere holds no run', 'early: the run has no finished epoch', 'broken/history.csv']) {
      expect(ran.stderr).toContain(word);
    }
    expect(() => readFileSync(target)).toThrow('ENOENT');
  });

  test.each([[['one']], [['one', 'one/']]])('%j is too few', async (names) => {
    runFolder('one');
    const ran = await tl(['compare', ...names.map((name) => join(folder, name))]);
    expect(ran).toMatchObject({ code: 2, stdout: '' });
    expect(ran.stderr).toContain('error[COMPARE_TOO_FEW]');
  });
});
