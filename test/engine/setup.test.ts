import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, describe, expect, it } from 'vitest';
import { picturesAddonFile } from '../../src/addon.js';
import { operatorsOf } from '../../src/engine/operators.js';
import { addonsOf, hasAddons, picturesFileOf, quietFileOf } from '../../src/engine/setup/build.js';
import { findSetUp } from '../../src/engine/setup/home.js';
import { setUpEngine } from '../../src/engine/setup/index.js';
import { inspectEngines } from '../../src/engine/setup/inspect.js';
import { probeEngine } from '../../src/engine/setup/verify.js';
import { type Engine, loadEngine, toolkitHome } from '../../src/engine/tensorflow.js';
import { EngineError } from '../../src/errors.js';
import { startChild } from './setup-child.js';

const scratch = await mkdtemp(join(tmpdir(), 'tl-setup-'));
afterAll(() => rm(scratch, { recursive: true }));

/** Convolution, depthwise convolution, normalisation and softmax: one number that every engine must agree on. */
function smallNetwork(): number[] {
  return tf.tidy(() => {
    const ramp = (shape: number[]): tf.Tensor => {
      const size = shape.reduce((a, b) => a * b, 1);
      return tf.tensor(
        Float32Array.from({ length: size }, (_, i) => Math.sin(i * 0.7)),
        shape,
      );
    };
    const x = tf.conv2d(ramp([2, 9, 9, 3]) as tf.Tensor4D, ramp([3, 3, 3, 8]) as tf.Tensor4D, 2, 'same');
    const y = tf.depthwiseConv2d(tf.relu6(x), ramp([3, 3, 8, 1]) as tf.Tensor4D, 1, 'same');
    const pooled = tf.mean(y, [1, 2]) as tf.Tensor2D;
    return [...tf.softmax(tf.matMul(pooled, ramp([8, 4]) as tf.Tensor2D)).dataSync()];
  });
}

async function native(): Promise<Engine> {
  return loadEngine({ engine: 'tensorflow' });
}

describe('setUpEngine where an engine is ready', () => {
  it('says so, quickly, and changes nothing', async () => {
    const before = findSetUp('cpu');
    const lines: string[] = [];
    const report = await setUpEngine({ onProgress: (line) => lines.push(line) });
    expect(['ready', 'found']).toContain(report.how);
    expect(report.tensorflowVersion).toMatch(/^2\.\d+\.\d+/);
    expect(report.steps.map(({ what }) => what)).toEqual(lines);
    expect(findSetUp('cpu')).toEqual(before);
  });

  it('uses a tfjs-node that the project has, in place', async () => {
    const project = join(scratch, 'project');
    const { engineDir, packageDir } = findSetUp('cpu')!;
    await mkdir(join(project, 'node_modules', '@tensorflow'), { recursive: true });
    await symlink(packageDir, join(project, 'node_modules', '@tensorflow', 'tfjs-node'));
    const [home, cwd] = [process.env.TL_HOME, process.cwd()];
    process.env.TL_HOME = join(scratch, 'empty-home');
    process.chdir(project);
    try {
      const report = await setUpEngine();
      expect(report.how).toBe('found');
      expect(report.engineDir.startsWith(engineDir)).toBe(true);
    } finally {
      process.chdir(cwd);
      if (home === undefined) delete process.env.TL_HOME;
      else process.env.TL_HOME = home;
    }
  });
});

describe('loadEngine', () => {
  it('takes the native engine by default and loads it once', async () => {
    const engine = await loadEngine();
    expect(engine.name).toBe('tensorflow');
    expect(engine.trains).toBe('everything');
    expect(engine.limits).toEqual([]);
    expect(engine.description).toContain(`TensorFlow ${engine.version} (native, cpu`);
    expect(tf.getBackend()).toBe('tensorflow');
    expect(await loadEngine()).toEqual({ ...engine, native: expect.anything() });
  });

  it('gives the same numbers on every engine and can change between them', async () => {
    await native();
    const expected = smallNetwork();
    for (const engine of ['wasm', 'cpu', 'tensorflow'] as const) {
      expect((await loadEngine({ engine })).name).toBe(engine);
      expect(tf.getBackend()).toBe(engine);
      smallNetwork().forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i]!, 5);
      });
    }
  });

  it('says what the wasm engine cannot do, and it indeed cannot', async () => {
    const engine = await loadEngine({ engine: 'wasm' });
    expect(engine.trains).toBe('head');
    expect(engine.limits.join()).toContain('no gradient of a convolution');
    const { conv2d, matMul } = operatorsOf(engine);
    const [picture, kernel] = [tf.ones([1, 5, 5, 2]), tf.ones([3, 3, 2, 2])];
    const convolved = { dy: tf.ones([1, 5, 5, 2]), inputs: [picture, kernel], outputs: [] };
    const byKernel = () => conv2d({ strides: [1, 1], padding: 'same' }, 1).backward(convolved, [false, true]);
    expect(byKernel).toThrow(/Conv2DBackpropFilter/);
    const multiplied = { dy: tf.ones([2, 3]), inputs: [tf.ones([2, 4]), tf.ones([4, 3])], outputs: [] };
    expect(matMul.backward(multiplied, [false, true])[1]!.shape).toEqual([4, 3]);
    await native();
  });

  it.each(['before', 'after'])('shares a process with all of tfjs-node, loaded %s it', async (when) => {
    const { packageDir } = findSetUp('cpu')!;
    const whole = `const whole = createRequire(${JSON.stringify(join(packageDir, 'package.json'))})('@tensorflow/tfjs-node');`;
    const { status, stdout, stderr } = await startChild(`
      import { createRequire } from 'node:module';
      ${when === 'before' ? whole : ''}
      const { native } = await loadEngine({ engine: 'tensorflow' });
      ${when === 'after' ? whole : ''}
      const [sum] = tf.tidy(() => native.executeMany('Sum', [native.typeAttribute('T', 'float32'),
        native.typeAttribute('Tidx', 'int32'), native.boolAttribute('keep_dims', false)],
        [whole.ones([2, 3]), tf.tensor1d([0, 1], 'int32')], 1)).map((each) => each.dataSync()[0]);
      const trained = whole.grad((x) => x.square().sum())(tf.tensor1d([1, 2])).dataSync();
      process.stdout.write(JSON.stringify([sum, ...trained, typeof whole.sequential]));
    `).ended;
    expect({ status, stdout }, stderr).toEqual({ status: 0, stdout: JSON.stringify([6, 2, 4, 'function']) });
  });

  it.each([0, 1.5, -2, Number.NaN])('refuses %s threads', async (threads) => {
    await expect(loadEngine({ threads })).rejects.toMatchObject({ code: 'ENGINE_BAD_THREADS' });
  });

  it('refuses to change the threads of a loaded engine', async () => {
    const { threads } = await native();
    await expect(loadEngine({ threads: threads! + 1 })).rejects.toMatchObject({ code: 'ENGINE_THREADS_FIXED' });
    await expect(loadEngine({ threads: threads! })).resolves.toMatchObject({ threads });
  });

  it('never takes a processor for a GPU', async () => {
    for (const engine of ['auto', 'tensorflow', 'wasm', 'cpu'] as const) {
      const loading = loadEngine({ engine, device: 'gpu' });
      await expect(loading).rejects.toBeInstanceOf(EngineError);
      await expect(loading).rejects.toMatchObject({
        code: 'ENGINE_NO_GPU',
        hint: expect.stringContaining('tl setup --gpu'),
      });
    }
  });
});

describe('addons of an engine', () => {
  it('are all there, else a newer release builds them', async () => {
    const { packageDir, record } = findSetUp('cpu')!;
    expect(hasAddons(packageDir)).toBe(record.how === 'built');
    const some = await mkdtemp(join(scratch, 'package-'));
    await mkdir(dirname(quietFileOf(some)), { recursive: true });
    await writeFile(quietFileOf(some), '');
    expect(addonsOf(some)).toEqual([quietFileOf(some)]);
    expect(hasAddons(some)).toBe(false);
  });

  it('are used once the engine is loaded, and only then', async () => {
    const { packageDir, record } = findSetUp('cpu')!;
    await native();
    expect(picturesAddonFile()).toBe(record.how === 'built' ? picturesFileOf(packageDir) : undefined);
    const script = `
      await loadEngine({ engine: 'wasm' });
      process.stdout.write(String(picturesAddonFile()));`;
    expect((await startChild(script).ended).stdout).toBe('undefined');
  });

  it('count as the engine: one that does not load is found by the probe', async () => {
    const { packageDir } = findSetUp('cpu')!;
    const broken = await mkdtemp(join(scratch, 'broken-'));
    for (const name of ['package.json', 'dist']) await symlink(join(packageDir, name), join(broken, name));
    expect(await probeEngine(broken)).toMatchObject({ usesGpu: false });
    await mkdir(dirname(picturesFileOf(broken)), { recursive: true });
    await writeFile(picturesFileOf(broken), 'not a library');
    expect(await probeEngine(broken)).toEqual({ failure: expect.stringContaining(picturesFileOf(broken)) });
  });
});

describe('NativeKernels', () => {
  it('runs operations by name with every kind of attribute', async () => {
    const kernels = (await native()).native!;
    const float = kernels.typeAttribute('T', 'float32');
    const erf = kernels.execute('Erf', [float], [tf.tensor1d([-1, 0, 0.5])]);
    expect([...erf.dataSync()]).toEqual([-0.8427008, 0, 0.5204999].map((value) => expect.closeTo(value, 5)));

    const pooled = kernels.execute(
      'MaxPool',
      [
        float,
        kernels.intListAttribute('ksize', [1, 2, 2, 1]),
        kernels.intListAttribute('strides', [1, 2, 2, 1]),
        kernels.stringAttribute('padding', 'VALID'),
        kernels.stringAttribute('data_format', 'NHWC'),
      ],
      [tf.tensor4d([1, 2, 3, 4], [1, 2, 2, 1])],
    );
    expect([...pooled.dataSync()]).toEqual([4]);

    const x = tf.tensor4d([1, 2, 3, 4, 5, 6], [1, 1, 3, 2]);
    const [y, mean, variance] = kernels.executeMany(
      'FusedBatchNormV3',
      [
        float,
        kernels.typeAttribute('U', 'float32'),
        kernels.floatAttribute('epsilon', 0.001),
        kernels.boolAttribute('is_training', true),
      ],
      [x, tf.ones([2]), tf.zeros([2]), tf.zeros([0]), tf.zeros([0])],
      6,
    );
    expect([...mean!.dataSync()]).toEqual([3, 4]);
    expect([...variance!.dataSync()]).toEqual([4, 4]); // unbiased: 8 / 2
    expect(y!.dataSync()[0]).toBeCloseTo(-2 / Math.sqrt(8 / 3 + 0.001), 5);

    const split = kernels.executeMany(
      'Split',
      [float, kernels.intAttribute('num_split', 2)],
      [tf.scalar(0, 'int32'), tf.tensor1d([1, 2])],
      2,
    );
    expect(split.map((part) => [...part.dataSync()])).toEqual([[1], [2]]);
  });

  it('computes in bfloat16 through handles and leaks nothing', async () => {
    const kernels = (await native()).native!;
    const x = tf.tensor1d([1.00390625, 3]); // 1 + 2^-8 lies between two bfloat16 numbers
    const before = tf.memory().numTensors;
    const cast = (from: 'float32' | 'bfloat16', to: 'float32' | 'bfloat16') => [
      kernels.typeAttribute('SrcT', from),
      kernels.typeAttribute('DstT', to),
    ];
    const [narrow] = kernels.executeRaw('Cast', cast('float32', 'bfloat16'), [x], 1);
    const [squared] = kernels.executeRaw('Square', [kernels.typeAttribute('T', 'bfloat16')], [narrow!], 1);
    const [wide] = kernels.executeRaw('Cast', cast('bfloat16', 'float32'), [squared!], 1);
    for (const handle of [narrow!, squared!]) kernels.release(handle);
    const result = kernels.toTensor(wide!);
    expect([...result.dataSync()]).toEqual([1, 9]);
    expect(tf.memory().numTensors).toBe(before + 1);
    result.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  it('reports what TensorFlow refuses', async () => {
    const kernels = (await native()).native!;
    expect(() => kernels.execute('NoSuchOperation', [], [])).toThrow(/NoSuchOperation/);
  });
});

describe('a process that loads the engine', () => {
  it('prints nothing, and uses as many threads as it is told', async () => {
    const script = (threads: number): string => `
      import { readdirSync } from 'node:fs';
      const { threads } = await loadEngine({ engine: 'tensorflow', threads: ${threads} });
      const a = tf.ones([300, 300]);
      tf.matMul(a, a).dataSync();
      process.stdout.write(JSON.stringify({ threads, tasks: process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0 }));
    `;
    const [one, eight] = await Promise.all([1, 8].map((threads) => startChild(script(threads)).ended));
    expect([one!.stderr, eight!.stderr]).toEqual(['', '']);
    const [few, many] = [one!, eight!].map(({ stdout }) => JSON.parse(stdout) as { threads: number; tasks: number });
    expect([few!.threads, many!.threads]).toEqual([1, 8]);
    // TensorFlow has a pool within operations and one between them, and 8 threads more than 1 by 7 in each.
    if (process.platform === 'linux') expect(many!.tasks - few!.tasks).toBe(14);
  });

  it('prints nothing even where the plain JavaScript engine was loaded first', async () => {
    const script = `
      await loadEngine({ engine: 'cpu' });
      tf.add(1, 2).dataSync();
      await loadEngine({ engine: 'tensorflow' });
      process.stdout.write(String(tf.add(1, 2).dataSync()[0]));
    `;
    expect(await startChild(script).ended).toEqual({ status: 0, stdout: '3', stderr: '' });
  });
});

describe('inspectEngines', () => {
  it('lists what is there without loading it here', async () => {
    const seen = await inspectEngines();
    expect(seen.native[0]).toMatchObject({ kind: 'cpu', origin: 'setup', failure: undefined });
    expect(seen.native[0]!.tensorflowVersion).toMatch(/^2\./);
    expect(seen.fallbacks.map(({ name }) => name)).toEqual(['wasm', 'cpu']);
    expect(seen.home).toBe(toolkitHome());
    expect(seen.threads).toBeGreaterThan(0);
    expect(seen.nodeVersion).toBe(process.versions.node);
  });
});
