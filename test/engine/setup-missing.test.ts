import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { operatorsOf } from '../../src/engine/operators.js';
import { enginesDir, findSetUp, RECORD_FILE } from '../../src/engine/setup/home.js';
import { inspectEngines } from '../../src/engine/setup/inspect.js';
import { bfloat16Support } from '../../src/engine/setup/processor.js';
import { engineKey, NODE_API_VERSION, TENSORFLOW_VERSION } from '../../src/engine/setup/recipe.js';
import { findResolvable } from '../../src/engine/setup/resolvable.js';
import { loadEngine, toolkitHome } from '../../src/engine/tensorflow.js';

// Every test of this file sees an empty home of its own; each test file is a process of its own.
const scratch = await mkdtemp(join(tmpdir(), 'tl-missing-'));
let count = 0;
beforeEach(() => {
  process.env.TL_HOME = join(scratch, String(count++));
});
afterAll(() => rm(scratch, { recursive: true }));

/** A finished engine whose binary was cut off. */
async function plantBrokenEngine(version = TENSORFLOW_VERSION): Promise<string> {
  const engineDir = join(enginesDir(), engineKey('cpu', version, process.platform, process.arch));
  const packageDir = join(engineDir, 'node_modules', '@tensorflow', 'tfjs-node');
  const binary = join(packageDir, 'lib', `napi-v${NODE_API_VERSION}`, 'tfjs_binding.node');
  await mkdir(dirname(binary), { recursive: true });
  const manifest = { name: '@tensorflow/tfjs-node', version: '4.22.0', main: relative(packageDir, binary) };
  await writeFile(join(packageDir, 'package.json'), JSON.stringify(manifest));
  await writeFile(binary, '');
  await writeFile(
    join(engineDir, RECORD_FILE),
    JSON.stringify({ packageName: '@tensorflow/tfjs-node', tensorflowVersion: version }),
  );
  return engineDir;
}

describe('loadEngine without a native engine', () => {
  it('falls back to wasm and says what that cannot do', async () => {
    const engine = await loadEngine();
    expect(engine).toMatchObject({ name: 'wasm', trains: 'head', threads: 1, native: undefined });
    expect(engine.description).toContain('tl setup');
    expect(tf.getBackend()).toBe('wasm');
    expect([...tf.matMul([[1, 2]], [[3], [4]]).dataSync()]).toEqual([11]);
  });

  it('throws where the native engine was asked for', async () => {
    await expect(loadEngine({ engine: 'tensorflow' })).rejects.toMatchObject({
      code: 'ENGINE_NOT_FOUND',
      hint: expect.stringContaining('tl setup'),
    });
  });

  it('has the gradient of a convolution in plain JavaScript', async () => {
    const { conv2d } = operatorsOf(await loadEngine({ engine: 'cpu' }));
    const inputs = [tf.ones([1, 5, 5, 2]), tf.ones([3, 3, 2, 4])];
    const saved = { dy: tf.ones([1, 3, 3, 4]), inputs, outputs: [] };
    const [byPicture, byKernel] = conv2d({ strides: [1, 1], padding: 'valid' }, 1).backward(saved, [true, true]);
    expect(byPicture!.dataSync()[0]).toBe(4); // one place of one window, four channels out
    expect([...byKernel!.dataSync()].every((value) => value === 9)).toBe(true); // as many windows
  });

  it('throws where a GPU was asked for', async () => {
    await expect(loadEngine({ device: 'gpu' })).rejects.toMatchObject({ code: 'ENGINE_NO_GPU' });
  });
});

describe('loadEngine with a broken native engine', () => {
  it('names the engine and its fault among the limits of wasm', async () => {
    const engineDir = await plantBrokenEngine();
    const engine = await loadEngine();
    expect(engine.name).toBe('wasm');
    expect(engine.limits.at(-1)).toContain(engineDir);
    expect(engine.limits.at(-1)).toContain('tfjs_binding.node: ');
  });

  it('names them in the error where the native engine was asked for', async () => {
    await plantBrokenEngine();
    await expect(loadEngine({ engine: 'tensorflow' })).rejects.toThrow(/tried:\n.*tfjs_binding.node: /);
  });

  it('is reported by inspectEngines', async () => {
    await plantBrokenEngine();
    const { native } = await inspectEngines();
    expect(native).toHaveLength(1);
    expect(native[0]).toMatchObject({
      tensorflowVersion: undefined,
      failure: expect.stringContaining('tfjs_binding.node: '),
    });
  });
});

describe('findSetUp', () => {
  it('takes the newest by number, not by letters', async () => {
    for (const version of ['2.9.1', '2.18.1', '2.7.0']) await plantBrokenEngine(version);
    expect(findSetUp('cpu')!.record.tensorflowVersion).toBe('2.18.1');
  });

  it('sees no engine in a folder without a record, or with a damaged one', async () => {
    const engineDir = await plantBrokenEngine();
    await writeFile(join(engineDir, RECORD_FILE), '{ "packageName": ');
    expect(findSetUp('cpu')).toBeUndefined();
    await rm(join(engineDir, RECORD_FILE));
    expect(findSetUp('cpu')).toBeUndefined();
  });

  it('keeps the engines for a GPU apart', async () => {
    await plantBrokenEngine();
    expect(findSetUp('gpu')).toBeUndefined();
  });
});

describe('findResolvable', () => {
  it('refuses another version of tfjs-node and says why', async () => {
    const folder = join(toolkitHome(), 'node_modules', '@tensorflow', 'tfjs-node');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'package.json'), '{ "name": "@tensorflow/tfjs-node", "version": "3.21.0" }');
    const [found] = findResolvable('cpu', [toolkitHome()]);
    expect(found!.unfit).toBe('is 3.21.0, and only 4.22.0 shares its registries with this toolkit');
  });
});

describe('bfloat16Support', () => {
  it.each([
    ['flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile', { avx512Bf16: true, amxBf16: true }],
    ['flags\t\t: fpu avx2', { avx512Bf16: false, amxBf16: false }],
    ['processor : 0', null],
  ])('reads %j', async (text, expected) => {
    await mkdir(toolkitHome(), { recursive: true });
    const file = join(toolkitHome(), 'cpuinfo');
    await writeFile(file, `processor\t: 0\n${text}\nbogomips\t: 1\n`);
    expect(bfloat16Support(file)).toEqual(expected);
  });

  it('does not know without a file', () => {
    expect(bfloat16Support('/no/such/file')).toBeNull();
  });
});
