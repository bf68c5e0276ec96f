/** The built command as a process: what it loads, signals, closed pipes, and a clean stdout. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readForwardGolden } from '../support/golden.js';
import { workplace, writeGoldenWeights, writeInput, writePictures } from './harness.js';

const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
const main = join(dist, 'cli', 'main.js');
const place = workplace();
const inside = (...parts: string[]): string => join(place.folder, ...parts);
const env = { ...process.env, TL_HOME: place.home };
const name = 'mobilenet_v1_0.25';

beforeAll(async () => {
  await writeGoldenWeights(inside('published.safetensors'), readForwardGolden(name, 'keras'));
  await writePictures(inside('data'), 8);
});
afterAll(() => place.remove());

const tl = (...argv: string[]) => spawnSync(process.execPath, [main, ...argv], { encoding: 'utf8', env });

/** A running command. */
interface Running {
  readonly child: ChildProcess;
  readonly stderr: () => string;
  readonly stdout: () => string;
  readonly code: Promise<number | string | null>;
  /** Waits until stderr says this. */
  says(text: string): Promise<void>;
}

function start(...argv: string[]): Running {
  const child = spawn(process.execPath, [main, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const code = new Promise<number | string | null>((done) =>
    child.on('close', (status, signal) => done(signal ?? status)),
  );
  const says = async (text: string): Promise<void> => {
    while (!stderr.includes(text)) {
      if (child.exitCode !== null) throw new Error(`it ended before it said "${text}":\n${stderr}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  return { child, stderr: () => stderr, stdout: () => stdout, code, says };
}

describe('start', () => {
  test('help loads commander and nothing else from outside, so that it is there at once', () => {
    const [seen, outside] = [new Set<string>(), new Set<string>()];
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const [, name] of readFileSync(file, 'utf8').matchAll(/^(?:import|export) [^;]*?from '([^']+)';/gms)) {
        if (name!.startsWith('.')) visit(resolve(dirname(file), name!));
        else if (!name!.startsWith('node:')) outside.add(name!);
      }
    };
    visit(main);
    expect([...outside]).toEqual(['commander']);
    const rooms = new Set([...seen].map((file) => relative(dist, file).split('/')[0]));
    expect([...rooms].sort()).toEqual(['cli', 'errors.js', 'export', 'train', 'version.js']); // names of formats, settings
  });

  test('is executable, and says its version', () => {
    expect(readFileSync(main, 'utf8').startsWith('#!/usr/bin/env node\n')).toBe(true);
    expect(statSync(main).mode & 0o111).not.toBe(0);
    expect(tl('--version')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) as string });
  });
});

describe('doctor without a native engine', () => {
  const bare = { ...env, TL_HOME: inside('bare') };
  const doctor = (...argv: string[]) =>
    spawnSync(process.execPath, [main, 'doctor', '--json', ...argv], { encoding: 'utf8', env: bare });

  test('says what is left, and that it trains a head', () => {
    const { status, stdout, stderr } = doctor();
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ ok: true, native: [], engine: { name: 'wasm', trains: 'head' } });
    expect(stderr).toContain('warning: the native engine is not in use: `tl setup` makes it ready');
  });

  test('ends with 1 when the engine that is asked for cannot train', () => {
    const { status, stdout, stderr } = doctor('--engine', 'tensorflow');
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, engine: null });
    expect(stderr).toContain('warning: no engine can train');
  });
});

describe('streams', () => {
  test('stdout holds the result alone, whatever the engine prints', () => {
    const [weights, input, output] = [inside('published.safetensors'), inside('x.npy'), inside('y.npz')];
    writeInput(input, [1, 64, 64, 3]);
    for (const engine of ['tensorflow', 'wasm', 'cpu']) {
      const argv = ['--backbone', name, '--weights', weights, '--input', input, '--output', output];
      const { status, stdout } = tl('forward', ...argv, '--json', '--engine', engine);
      expect(status, engine).toBe(0);
      expect(stdout).toMatch(/^[^\n]+\n$/);
      expect(JSON.parse(stdout)).toMatchObject({ arrays: { logits: [1, 1000] } });
    }
  });

  test('errors go to stderr, with their exit code', () => {
    expect(tl('summary', 'nothing')).toMatchObject({ status: 2, stdout: '' });
    expect(tl('weights', inside('nothing'))).toMatchObject({ status: 1, stdout: '' });
    expect(tl('finetune', '--backbone', 'resnet50', '--data', inside('data'), '--out', inside('r'))).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining('tl import FILE --backbone resnet50') as string,
    });
    expect(existsSync(inside('r'))).toBe(false);
  });

  test('a reader that closes the pipe early is no error', () => {
    const command = `"${process.execPath}" "${main}" summary resnet50 --json | head -c 10; echo " \${PIPESTATUS[0]}"`;
    const { stdout, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8', env });
    expect(stdout).toBe('{"backbone 0\n');
    expect(stderr).toBe('');
  });
});

describe('signals', () => {
  // Small enough to be quick, and far too many epochs to end by itself.
  const endless = (out: string) => [
    'finetune',
    ...['--backbone', name, '--weights', inside('published.safetensors'), '--data', inside('data')],
    ...['--freeze', 'none', '--input-size', '64', '--epochs', '100000', '--augment', 'none', '--out', out],
  ];

  test('Ctrl-C stops at the next step, keeps what is finished, and says how to go on', async () => {
    const run = inside('interrupted');
    const running = start(...endless(run));
    await running.says('epoch 2/100000');
    running.child.kill('SIGINT');
    expect(await running.code).toBe(130);
    expect(running.stderr()).toContain('stopping at the next step; once more ends at once');
    expect(running.stdout()).toContain(`tl finetune --resume ${run}`);
    expect(existsSync(join(run, 'last', 'weights.safetensors'))).toBe(true);
    expect(existsSync(join(run, 'metrics.json'))).toBe(true);
    const rows = readFileSync(join(run, 'history.csv'), 'utf8').trim().split('\n').length - 1;
    expect(rows).toBeGreaterThanOrEqual(2);

    const resumed = start('finetune', '--resume', run);
    await resumed.says(`epoch ${rows + 1}/100000`);
    resumed.child.kill('SIGTERM');
    expect(await resumed.code).toBe(143);
  });

  test('a second one ends at once', async () => {
    const running = start(...endless(inside('twice')));
    await running.says('epoch 1/100000');
    running.child.kill('SIGINT');
    running.child.kill('SIGTERM');
    expect([130, 143]).toContain(await running.code);
  });

  test('a command that has nothing to keep ends at the first', async () => {
    const running = start('doctor');
    await new Promise((done) => setTimeout(done, 300));
    running.child.kill('SIGINT');
    expect(await running.code).toBe(130);
    expect(running.stdout()).toBe('');
  });
});
