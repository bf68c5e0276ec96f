/** `tl import` and `tl weights`: what they print, what it can be used for, and how they end. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { choices } from '../../src/cli/commands/import.js';
import type { ImportReport } from '../../src/weights/import.js';
import { averageChoices, classifierChoices } from '../../src/weights/plan/plan.js';
import { writeSafetensors } from '../../src/weights/safetensors.js';
import { folderOf } from '../../src/weights/store.js';
import { type GoldenRow, generateTensor, readForwardGolden } from '../support/golden.js';
import { setHome } from '../support/home.js';
import { json, tl } from './harness.js';

const name = 'mobilenet_v1_0.25';
const network = ['--backbone', name, '--source', 'keras'];
let folder: string;
let published: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tl-import-'));
  setHome(join(folder, 'home'));
  published = await written('published', (tensor) => tensor);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Keras' file under other names; `undefined` leaves a tensor out. */
async function written(file: string, rename: (tensor: string) => string | undefined, more: readonly GoldenRow[] = []) {
  const path = join(folder, `${file}.safetensors`);
  const entries = [...readForwardGolden(name, 'keras').tensors, ...more].flatMap((row) => {
    const renamed = rename(row[0]);
    return renamed === undefined ? [] : [{ name: renamed, shape: row[1], read: () => generateTensor(...row) }];
  });
  await writeSafetensors(path, entries);
  return path;
}

const stored = (): Buffer => readFileSync(join(folderOf(name, 'keras'), 'weights.safetensors'));

describe('--dry-run', () => {
  test('prints a table that --map takes as it is', async () => {
    expect((await tl(['import', published])).code).toBe(0);
    const whole = stored();
    const ran = await tl(['import', published, ...network, '--dry-run']);
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const lines = ran.stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^parameter +tensor +verdict +shape +in the file +type +what of it$/);
    expect(lines[1]).toMatch(/^stem\.conv\.kernel +conv1\/kernel +ok +3x3x3x8 +3x3x3x8 +float32$/);
    expect(ran.stdout).toMatch(
      /^classifier\.kernel +conv_preds\/kernel +adapted +256x1000 +1x1x256x1000 .*1x1 convolution/m,
    );
    expect(lines.slice(lines.indexOf('')).every((line) => line === '' || line.startsWith('# '))).toBe(true);
    const map = join(folder, 'names.txt');
    writeFileSync(map, ran.stdout);
    rmSync(folderOf(name, 'keras'), { recursive: true });
    expect(await tl(['import', published, ...network, '--map', map])).toMatchObject({ code: 0 });
    expect(stored().equals(whole)).toBe(true);
  });

  test('of a file with private names has every row, ends in the error, and can be filled in', async () => {
    expect((await tl(['import', published])).code).toBe(0);
    const whole = stored();
    const secret = await written('secret', (tensor) => `net, "${tensor.replaceAll('/', ' ')}"`);
    const ran = await tl(['import', secret, ...network, '--dry-run']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('error[WEIGHTS_MISMATCH]');
    expect(ran.stderr).toContain('--map FILE');
    expect(ran.stdout).toMatch(/^stem\.conv\.kernel +- +absent +3x3x3x8 +- +- +looked for conv1\/kernel or /m);
    expect(ran.stdout).toMatch(/^- +"net, \\"conv1 kernel\\"" +extra +- +3x3x3x8 +float32 +belongs to no parameter$/m);
    expect(ran.stdout).toMatch(/^# tensors: +135 absent, 137 extra$/m);
    // by hand: the name of each tensor that is left goes to the parameter that it is
    const names = [...ran.stdout.matchAll(/^- +("(?:[^"\\]|\\.)*")/gm)].map((match) => match[1]!);
    let next = 0;
    const filled = ran.stdout
      .replaceAll(/^# (?=classifier\.)/gm, '')
      .replaceAll(/^([a-z]\S+\.\S+ +)-/gm, (_, parameter: string) => `${parameter}${names[next++]}`);
    expect(next).toBe(137);
    const map = join(folder, 'secret.txt');
    writeFileSync(map, filled);
    const full = await tl(['import', secret, ...network, '--map', map]);
    expect(full).toMatchObject({ code: 0, stderr: '' });
    expect(stored().equals(whole)).toBe(true);
  });

  test('--json has both names, both shapes, and what became of each', async () => {
    const torn = await written('torn', (tensor) => (tensor === 'conv_pw_1_bn/gamma' ? undefined : tensor), [
      ['stray', [2], 0, 1],
    ]);
    const ran = await tl(['import', torn, ...network, '--dry-run', '--json']);
    expect(ran.code).toBe(1);
    const report = JSON.parse(ran.stdout) as ImportReport;
    expect(report).toMatchObject({
      backbone: name,
      folder: null,
      totals: { ok: 135, adapted: 1, absent: 1, extra: 1 },
      file: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
    });
    const rows = report.rows.filter(({ verdict }) => verdict !== 'ok');
    const nothing = { parameter: null, parameterShape: null, tensor: null, shape: null, dtype: null };
    expect(rows).toEqual([
      {
        ...nothing,
        verdict: 'absent',
        parameter: 'block1.pointwise.norm.gamma',
        parameterShape: [16],
        adaptation: null,
        reason: expect.stringContaining('looked for conv_pw_1_bn/gamma') as string,
      },
      {
        verdict: 'adapted',
        parameter: 'classifier.kernel',
        parameterShape: [256, 1000],
        tensor: 'conv_preds/kernel',
        shape: [1, 1, 256, 1000],
        dtype: 'float32',
        adaptation: '1x1 convolution read as a dense layer',
        reason: null,
      },
      {
        ...nothing,
        verdict: 'extra',
        tensor: 'stray',
        shape: [2],
        dtype: 'float32',
        adaptation: null,
        reason: 'belongs to no parameter',
      },
    ]);
  });
});

describe('--map', () => {
  test('needs a network, and a table that is one', async () => {
    const map = join(folder, 'wrong.txt');
    writeFileSync(map, 'stem.conv.kernel conv1/kernel\nalone\nno.such.parameter conv1_bn/beta\n');
    const bare = await tl(['import', published, '--map', map]);
    expect(bare).toMatchObject({ code: 2, stderr: expect.stringContaining('MAP_NEEDS_NETWORK') as string });
    const half = await tl(['import', published, '--backbone', name, '--map', map]);
    expect(half.code).toBe(2);
    const wrong = await tl(['import', published, ...network, '--map', map]);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toContain('line 2: expected a parameter and a tensor, received "alone"');
    expect(wrong.stderr).toContain('line 3: the network has no parameter no.such.parameter');
    const absent = await tl(['import', published, ...network, '--map', join(folder, 'none.txt')]);
    expect(absent).toMatchObject({ code: 1, stderr: expect.stringContaining('FILE_NOT_FOUND') as string });
  });
});

test('the help tells how a table is written, and its choices are those of the planner', async () => {
  const { stdout } = await tl(['import', '--help']);
  expect(stdout).toContain('--dry-run > names.txt');
  expect(stdout).toMatch(/stem\.norm\.beta +- +the file has none/);
  expect(choices).toEqual({ ema: averageChoices, classifier: classifierChoices });
});

test('a file in an archive is imported as it is, and the report names it', async () => {
  const packed = join(folder, 'packed.gz');
  writeFileSync(packed, gzipSync(readFileSync(published)));
  const report = json<ImportReport>(await tl(['import', packed, '--json']));
  expect(report.file).toMatchObject({ name: 'packed.gz', member: expect.stringContaining('packed') as string });
  expect(report.file.sha256).toBe(createHash('sha256').update(readFileSync(packed)).digest('hex'));
  const inside = stored();
  await tl(['import', published]);
  expect(inside.equals(stored())).toBe(true);
  expect((await tl(['weights', packed])).stdout).toMatch(/^packed\S*: 137 tensors/m);
  const plain = await tl(['import', published, '--member', 'x']);
  expect(plain).toMatchObject({ code: 2, stderr: expect.stringContaining('NOT_AN_ARCHIVE') as string });
});

test('our own files need no names', async () => {
  await tl(['import', published]);
  const map = join(folder, 'own.txt');
  writeFileSync(map, 'stem.conv.kernel conv1/kernel\n');
  const own = await tl(['import', join(folderOf(name, 'keras'), 'weights.safetensors'), ...network, '--map', map]);
  expect(own).toMatchObject({ code: 2, stderr: expect.stringContaining('MAP_OF_OWN_FILE') as string });
});

test('what is in a file is listed, and what it is', async () => {
  const ran = await tl(['weights', published]);
  expect(ran.code).toBe(0);
  expect(ran.stdout).toMatch(/^conv1\/kernel +float32 +3x3x3x8$/m);
  expect(ran.stdout.trimEnd().split('\n').at(-1)).toBe(`recognised: ${name} from keras, 1000 classes`);
  const headed = await written('headed', (tensor) => (tensor.startsWith('conv_preds') ? undefined : tensor), [
    ['mine/kernel', [256, 3], 0, 1],
    ['mine/bias', [3], 0, 1],
  ]);
  const own = await tl(['weights', headed]);
  expect(own.stdout).toContain(`recognised: ${name} from keras, a head, linear of 3 classes`);
});

test('what is set aside is said with its reason', async () => {
  const file = await written('trained', (tensor) => tensor, [['optimizer/vars/3', [4], 0, 1]]);
  const ran = await tl(['import', file, '--dry-run']);
  expect(ran.code).toBe(0);
  expect(ran.stdout).toMatch(/^# set aside: +optimizer\/vars\/3: of the optimiser$/m);
  expect(ran.stdout).toMatch(/^- +optimizer\/vars\/3 +set_aside +- +4 +float32 +of the optimiser$/m);
});
