/**
 * Where a training step spends its time: `npm run bench:profile [-- --backbone NAME] [--source S] [--batch N]
 * [--threads N] [--dist DIR]`.
 *
 * The step is run operation by operation, each call of TensorFlow timed, and compiled, as training runs it. The time of
 * the convolutions and matrix products alone is what no arrangement of the rest can go below.
 */
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { assertBuilt, importFrom, machine, root } from './environment.mjs';
import { median, table } from './report.mjs';

const text = (value) => ({ type: 'string', default: value });
const { values } = parseArgs({
  options: {
    backbone: text('resnet50'),
    source: text('keras'),
    batch: text('8'),
    threads: text(String(availableParallelism())),
    dist: text(join(root, 'dist')),
  },
});
const [batch, threads, dist] = [Number(values.batch), Number(values.threads), resolve(values.dist)];
const [WARM_UP, STEPS] = [2, 7];
const CLASSES = 10;
const PRODUCTS = /^(Conv2D|Conv2DBackprop|DepthwiseConv2dNative|MatMul|BatchMatMulV2)/;

assertBuilt(dist);
const from = (path) => importFrom(dist, path);
const { loadEngine } = await from('engine/tensorflow.js');
const { initialize } = await from('engine/initializers.js');
const { rng } = await from('rng.js');
const { loadTrainable } = await from('train/trainable.js');
const { graphOf } = await from('weights/model-folder.js');

const engine = await loadEngine({ engine: 'tensorflow', device: 'cpu', threads });
const size = 224;
const graph = graphOf({
  backbone: values.backbone,
  source: values.source,
  inputSize: { height: size, width: size },
  head: { hidden: [], dropout: 0 },
  classes: Array.from({ length: CLASSES }, (_, i) => `class ${i}`),
});
const parameters = new Map(graph.parameters.map((each) => [each.path, each]));
const read = async (path) => {
  const { initializer, shape } = parameters.get(path);
  return initialize(initializer, shape, rng(0).split(path));
};
const x = tf.randomNormal([batch, ...graph.input.shape], 0, 1, 'float32', 1);
const labels = tf.tensor1d(
  Array.from({ length: batch }, (_, i) => i % CLASSES),
  'int32',
);
const targets = tf.cast(tf.oneHot(labels, CLASSES), 'float32');

/** Milliseconds of each timed step. `onStep` is called before each. */
async function timesOf(options, on = engine, onStep = () => {}) {
  const network = await loadTrainable(graph, read, on, options);
  const times = [];
  for (let i = 0; i < WARM_UP + STEPS; i++) {
    onStep(i);
    const began = performance.now();
    const { gradients } = network.step({ x, labels, targets, random: rng(i) });
    if (i >= WARM_UP) times.push(performance.now() - began);
    tf.dispose([...gradients.values()]);
  }
  network.dispose();
  return times;
}

/** Times every call of TensorFlow from now on. @returns milliseconds and calls by operation, to be emptied by the caller */
function timeCalls() {
  const backend = tf.backend();
  const { binding } = backend;
  const found = new Map();
  const executeOp = (op, ...rest) => {
    const began = performance.now();
    const made = binding.executeOp(op, ...rest);
    const sofar = found.get(op) ?? { ms: 0, calls: 0 };
    found.set(op, { ms: sofar.ms + performance.now() - began, calls: sofar.calls + 1 });
    return made;
  };
  backend.binding = Object.create(binding, { executeOp: { value: executeOp } });
  return { found, stop: () => Object.assign(backend, { binding }) };
}

const compiled = { float32: median(await timesOf({ precision: 'float32' })) };
const { bfloat16Support } = await from('engine/setup/processor.js');
const support = bfloat16Support();
if (support?.avx512Bf16 || support?.amxBf16) compiled.bfloat16 = median(await timesOf({ precision: 'bfloat16' }));

const steps = [];
const calls = timeCalls();
const apart = await timesOf({}, { ...engine, device: 'gpu' }, (i) => {
  if (i > WARM_UP) steps.push(new Map(calls.found));
  calls.found.clear();
}); // what runs on a GPU is not compiled
steps.push(new Map(calls.found));
calls.stop();

const ops = [...new Set(steps.flatMap((step) => [...step.keys()]))].map((op) => {
  return { op, calls: steps[0].get(op)?.calls ?? 0, ms: median(steps.map((step) => step.get(op)?.ms ?? 0)) };
});
ops.sort((a, b) => b.ms - a.ms);
const products = ops.filter(({ op }) => PRODUCTS.test(op)).reduce((sum, { ms }) => sum + ms, 0);
const whole = ops.reduce((sum, { ms }) => sum + ms, 0);
const line = (name, ms) => [name, '', ms.toFixed(0), `${((100 * ms) / whole).toFixed(0)} %`];
console.log(
  `${values.backbone} (${values.source}), batch ${batch}, ${size}x${size}, ${threads} threads, ${machine().cpu}\n`,
);
console.log(
  table(
    ['operation', 'calls', 'ms', 'share'],
    [
      ...ops
        .filter(({ ms }) => ms >= whole / 200)
        .map(({ op, calls: n, ms }) => [op, n, ms.toFixed(0), `${((100 * ms) / whole).toFixed(0)} %`]),
      line('**all operations**', whole),
      line('**convolutions and products alone**', products),
      line('**step, operation by operation**', median(apart)),
      ...Object.entries(compiled).map(([precision, ms]) => line(`**step, compiled, ${precision}**`, ms)),
    ],
  ),
);
