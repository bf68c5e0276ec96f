/** What holds for every command: help, exit codes, errors, JSON, colours. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backbones } from '../../src/backbones/index.js';
import { setHome } from '../support/home.js';
import { json, tl, workplace, writeInput } from './harness.js';

const place = workplace();
beforeAll(() => {
  setHome(place.home);
});
afterAll(() => {
  place.remove();
});

const commands = [
  'setup',
  'doctor',
  'backbones',
  'summary',
  'weights',
  'import',
  'pull',
  'forward',
  'finetune',
  'lr-find',
  'predict',
  'evaluate',
  'compare',
  'export',
];

describe('help', () => {
  test('lists every command', async () => {
    const { code, stdout, stderr } = await tl(['--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  });

  test.each(commands)('of %s names the options that every command has', async (command) => {
    const { code, stdout } = await tl([command, '--help']);
    expect(code).toBe(0);
    for (const option of ['--json', '--quiet', '--debug', '--help']) expect(stdout).toContain(option);
    expect((await tl(['help', command])).stdout).toBe(stdout);
  });

  test.each(['forward', 'finetune', 'predict', 'evaluate', 'export'])('of %s names what computes', async (command) => {
    const { stdout } = await tl([command, '--help']);
    for (const option of ['--engine', '--device', '--threads', '--precision']) expect(stdout).toContain(option);
  });

  test('of finetune states the defaults that training has', async () => {
    const { stdout } = await tl(['finetune', '--help']);
    const words = stdout.replace(/\s+/g, ' ');
    for (const text of [
      '(default: 20)',
      '(default: 16)',
      '(default: backbone; none with --two-stage and --gradual)',
      'default: 0.001 for a head alone',
    ])
      expect(words).toContain(text);
  });

  test('without a command is wrong usage, and goes to stderr', async () => {
    const { code, stdout, stderr } = await tl([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('Usage: tl <command>');
  });

  test('the version is that of the package', async () => {
    const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(await tl(['--version'])).toEqual({ code: 0, stdout: `${manifest.version}\n`, stderr: '' });
  });
});

describe('wrong usage ends with 2, and says how to mend it', () => {
  const file = ['--input', 'x.npy', '--output', 'y.npz'];
  test.each<[string, string[], string, RegExp]>([
    ['an unknown command', ['sumary', 'x'], 'UNKNOWN_COMMAND', /did you mean summary\?/],
    ['an unknown option', ['backbones', '--jsn'], 'UNKNOWN_OPTION', /did you mean --json\?.*tl backbones --help/],
    ['no argument', ['summary'], 'MISSING_ARGUMENT', /tl summary --help/],
    ['too many arguments', ['summary', 'a', 'b'], 'EXCESS_ARGUMENTS', /tl summary --help/],
    ['an option without its value', ['summary', 'resnet50', '--size'], 'MISSING_VALUE', /tl summary --help/],
    ['no required option', ['predict', 'x.png'], 'MISSING_OPTION', /tl predict --help/],
    ['a number that is none', ['summary', 'resnet50', '--size', '12x'], 'BAD_VALUE', /tl summary --help/],
    ['a number below 1', ['forward', ...file, '--batch-size', '0'], 'BAD_VALUE', /tl forward --help/],
    ['a share above 1', ['finetune', '--val-split', '1.5'], 'BAD_VALUE', /tl finetune --help/],
    ['an empty number', ['finetune', '--lr', ''], 'BAD_VALUE', /tl finetune --help/],
    ['a value that is no choice', ['finetune', '--augment', 'some'], 'BAD_VALUE', /tl finetune --help/],
    ['names with nothing between', ['forward', ...file, '--tap', 'a,,b'], 'BAD_VALUE', /tl forward --help/],
    ['options that exclude each other', ['finetune', '--manifest', 'a', '--data', 'b'], 'CONFLICTING_OPTIONS', /./],
    ['an unknown backbone', ['summary', 'resnet5'], 'UNKNOWN_BACKBONE', /did you mean resnet50 or/],
    ['an unknown source', ['summary', 'resnet50', '--source', 'flax'], 'UNKNOWN_SOURCE', /keras, torch, slim/],
    ['no network', ['finetune'], 'MISSING_OPTION', /--backbone NAME; `tl backbones`/],
    ['a head that is none', ['finetune', '--backbone', 'resnet50', '--head', 'x'], 'BAD_HEAD', /--head mlp:1024/],
    [
      'a precision of exports',
      ['export', '--model', 'm', '--out', 'o', '--precision', 'bfloat16'],
      'BAD_OPTIONS',
      /leave --precision out/,
    ],
    ['a format that is none', ['export', '--model', 'm', '--out', 'o', '--format', 'xyz'], 'BAD_VALUE', /tl export/],
    ['a model that is none', ['predict', '--model', 'nowhere', 'x.png'], 'MODEL_NOT_FOUND', /tl finetune/],
    ['settings beside --resume', ['finetune', '--resume', 'r', '--epochs', '3'], 'RESUME_SETTINGS', /--weights r/],
    ['another precision', ['finetune', '--resume', 'r', '--precision', 'bfloat16'], 'RESUME_SETTINGS', /--weights r/],
    ['another way to train', ['finetune', '--resume', 'r', '--recompute'], 'RESUME_SETTINGS', /--weights r/],
    ['a run that is none', ['finetune', '--resume', 'nowhere'], 'RUN_NOT_FOUND', /tl finetune/],
  ])('%s', async (_, argv, code, hint) => {
    const ran = await tl(argv);
    expect(ran.stderr).toMatch(new RegExp(`^error\\[${code}\\]: .+`));
    expect(ran.stderr).toMatch(/\nfix: .+\n$/s);
    expect(ran.stderr.slice(ran.stderr.indexOf('fix: '))).toMatch(hint);
    expect(ran).toMatchObject({ code: 2, stdout: '' });
  });
});

describe('failed work ends with 1', () => {
  test('weights that were not imported', async () => {
    const input = join(place.folder, 'x.npy');
    writeInput(input, [1, 32, 32, 3]);
    const argv = ['forward', '--backbone', 'resnet50', '--input', input, '--output', join(place.folder, 'y.npz')];
    const { code, stdout, stderr } = await tl(argv);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('error[WEIGHTS_NOT_FOUND]: no weights of resnet50 have been imported');
    expect(stderr).toContain('tl import FILE --backbone resnet50');
    expect(stderr).toContain('keras: storage.googleapis.com');
  });

  test.each([
    ['nothing', ''],
    ['text', 'these are no weights\n'.repeat(20)],
    ['a cut safetensors header', '\u0040\0\0\0\0\0\0\0{"a":{"dtype":"F32"'],
    ['a cut HDF5 file', '\u0089HDF\r\n\u001a\n'.padEnd(64, '\0')],
    ['a cut zip', 'PK\u0003\u0004'.padEnd(64, 'x')],
  ])('a file of %s', async (name, content) => {
    const file = join(place.folder, `${name.replaceAll(' ', '-')}.bin`);
    writeFileSync(file, Buffer.from(content, 'latin1'));
    for (const command of ['weights', 'import']) {
      const { code, stdout, stderr } = await tl([command, file]);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(/^error\[[A-Z_0-9]+\]: /);
      expect(stderr).toContain(file);
      expect(stderr).toContain('\nfix: ');
      expect(stderr).not.toContain('INTERNAL');
    }
  });

  test('a file that is not there', async () => {
    const { code, stderr } = await tl(['weights', join(place.folder, 'nowhere.h5')]);
    expect(code).toBe(1);
    expect(stderr).toContain('no such file');
  });

  test('a stack only with --debug', async () => {
    const plain = await tl(['weights', 'nowhere.h5']);
    const debug = await tl(['weights', 'nowhere.h5', '--debug']);
    expect(plain.stderr).not.toMatch(/\n\s+at /);
    expect(debug.stderr).toMatch(/\n\s+at /);
    expect(debug.stderr.startsWith(plain.stderr)).toBe(true);
    expect((await tl(['--debug', 'weights', 'nowhere.h5'])).stderr).toMatch(/\n\s+at /);
  });
});

describe('--json', () => {
  test('backbones: one object, with the counts of every source', async () => {
    const ran = await tl(['backbones', '--json']);
    const listed = json<{ backbones: { name: string; sources: object[] }[] }>(ran).backbones;
    expect(ran.stderr).toBe('');
    expect(listed.map(({ name }) => name)).toEqual(backbones.map(({ name }) => name));
    const resnet50 = listed.find(({ name }) => name === 'resnet50')!;
    expect(resnet50).toMatchObject({ family: 'resnet', inputSize: 224 });
    expect(resnet50.sources[0]).toMatchObject({
      source: 'keras',
      classes: 1000,
      trainable: 25_583_592,
      parameters: 25_636_712,
      withoutClassifier: { parameters: 23_587_712 },
      imported: false,
    });
    expect(json(await tl(['--json', 'backbones']))).toEqual(json(ran));
  });

  test('summary: a row a layer, taps, cuts and totals', async () => {
    const summary = json<{
      layers: { path: string; output: number[]; macs: number; taps: string[] }[];
      totals: object;
      cuts: string[];
    }>(await tl(['summary', 'mobilenet_v2_0.35', '--size', '96', '--classes', '7', '--json']));
    expect(summary).toMatchObject({ backbone: 'mobilenet_v2_0.35', source: 'keras', classes: 7 });
    expect(summary.layers[1]).toMatchObject({ path: 'stem.conv', output: [48, 48, 16], macs: 27 * 16 * 48 * 48 });
    expect(summary.layers.at(-1)).toMatchObject({ path: 'classifier', output: [7], taps: ['logits'] });
    expect(summary.cuts).toContain('block5');
    const none = json<{ layers: { taps: string[] }[] }>(
      await tl(['summary', 'mobilenet_v2_0.35', '--classes', '0', '--json']),
    );
    expect(none.layers.at(-1)?.taps).toEqual(['pre_logits']);
  });

  test('doctor: what is found, and exit code 0 where something can train', async () => {
    const ran = await tl(['doctor', '--json']);
    expect(ran.code).toBe(0);
    expect(json(ran)).toMatchObject({
      ok: true,
      engine: { name: 'tensorflow', trains: 'everything', device: 'cpu' },
      nodeVersion: process.versions.node,
      precision: { float32: true, bfloat16: expect.any(Boolean) as boolean },
      store: join(place.home, 'weights'),
      weights: [],
    });
  });
});

describe('text', () => {
  test('backbones: aligned columns', async () => {
    const { stdout } = await tl(['backbones']);
    const lines = stdout.split('\n');
    expect(lines[0]).toMatch(/^backbone +family +input +parameters +no classifier +GMACs +sources$/);
    expect(stdout).toMatch(/^resnet50 +resnet +224 +25,583,592 +23,534,592 +3\.858 +keras torch slim keras_v1 notes$/m);
    expect(lines.slice(1, 1 + backbones.length).map((line) => line.split(' ')[0])).toEqual(
      backbones.map(({ name }) => name),
    );
  });

  test('summary ends with the totals and what can be frozen', async () => {
    const { stdout } = await tl(['summary', 'resnet50', '--source', 'torch']);
    expect(stdout).toContain('parameters 25,610,152 (25,557,032 trainable, 53,120 statistics), 4.089 GMACs');
    expect(stdout).toMatch(/cuts .*stage3 .*pre_logits/);
    expect(stdout).toMatch(
      /^stage4\.block3\.conv3x3\.conv +conv 3x3 pad 1 +7x7x512 +2,359,296 +115,605,504 +\d+ +32$/m,
    );
  });

  test('doctor names the engine and the store', async () => {
    const { code, stdout } = await tl(['doctor']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^engine: +TensorFlow \d/m);
    expect(stdout).toContain(`${join(place.home, 'weights')} (none imported)`);
  });
});

describe('colours', () => {
  const csi = '\u001b[';
  test('on a terminal, unless NO_COLOR or TERM says otherwise', async () => {
    expect((await tl(['backbones'])).stdout).not.toContain(csi);
    expect((await tl(['backbones'], { terminal: true })).stdout).toContain(csi);
    expect((await tl(['backbones'], { terminal: true, env: { NO_COLOR: '1' } })).stdout).not.toContain(csi);
    expect((await tl(['backbones'], { terminal: true, env: { TERM: 'dumb' } })).stdout).not.toContain(csi);
    expect((await tl(['backbones', '--json'], { terminal: true })).stdout).not.toContain(csi);
    const wrong = await tl(['summary', 'x'], { terminal: true });
    expect(wrong.stderr).toContain(`${csi}31merror[UNKNOWN_BACKBONE]`);
    expect((await tl(['summary', 'x'], { terminal: true, env: { NO_COLOR: '1' } })).stderr).not.toContain(csi);
  });
});
