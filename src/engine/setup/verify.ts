/** Proves that an engine works by loading it in another process and multiplying matrices with it. */
import { addonsOf } from './build.js';
import { runCommand } from './command.js';

/** What the probe saw. */
export interface Probe {
  readonly tensorflowVersion: string;
  readonly usesGpu: boolean;
}

/** Loading takes 0.3 s from a warm disk; the library of 600 MB may come from a slow one. */
const PROBE_TIMEOUT_MS = 120_000;

/**
 * Runs in a process of its own: a binary built for something else may end the process instead of throwing. It
 * multiplies two matrices and convolves once, so that a library whose kernels need missing CPU features fails here.
 */
const PROBE_SCRIPT = `
const util = require('util');
util.isNullOrUndefined = (value) => value === null || value === undefined;
util.isArray = Array.isArray;
const tf = require(process.argv[1]);
for (const addon of process.argv.slice(2)) require(addon);
const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2])).dataSync();
const image = tf.ones([1, 8, 8, 4]), kernel = tf.ones([3, 3, 4, 16]);
const convolved = tf.conv2d(image, kernel, 1, 'same').sum().dataSync()[0];
process.stderr.write('');
process.stdout.write('\\nprobe ' + JSON.stringify({
  backend: tf.getBackend(), product: [...product], convolved,
  version: tf.backend().binding.TF_Version, gpu: tf.backend().isUsingGpuDevice,
}) + '\\n');
`;

/** Sum of a 3x3 'same' convolution of 8x8 ones: (8 * 3 - 2)^2 taps, 4 channels in, 16 out. */
const CONVOLVED = (8 * 3 - 2) ** 2 * 4 * 16;

/**
 * Loads the package in a child process.
 * @returns what it reported, or why it does not work
 */
export async function probeEngine(packageDir: string): Promise<Probe | { readonly failure: string }> {
  const script = ['--input-type=commonjs', '-e', PROBE_SCRIPT, packageDir, ...addonsOf(packageDir)];
  const result = await runCommand(process.execPath, script, {
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '2', NODE_OPTIONS: '' },
    timeoutMs: PROBE_TIMEOUT_MS,
  });
  if (result.failure) return { failure: result.failure };
  const line = result.stdout.split('\n').find((text) => text.startsWith('probe '));
  if (!line) return { failure: 'the engine loaded but reported nothing' };
  const seen = JSON.parse(line.slice('probe '.length)) as {
    backend: string;
    product: number[];
    convolved: number;
    version: string;
    gpu: boolean;
  };
  if (seen.backend !== 'tensorflow') return { failure: `the backend became ${seen.backend}, not tensorflow` };
  if (seen.product.join() !== '19,22,43,50' || seen.convolved !== CONVOLVED) {
    return { failure: `it computes wrongly: [[1,2],[3,4]] x [[5,6],[7,8]] = ${seen.product.join()}` };
  }
  return { tensorflowVersion: seen.version, usesGpu: seen.gpu };
}
