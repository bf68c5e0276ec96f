/**
 * Our side of one case: reads a task (JSON) from standard input, writes what it measured as the last line of its
 * output. The other side is peer.py; both take the same task and give the same record.
 */
import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { importFrom } from './environment.mjs';
import { generateTensor } from './generator.mjs';

const task = JSON.parse(readFileSync(0, 'utf8'));
const { case: of, rows, threads, dist } = task;
const from = (path) => importFrom(dist, path);

const { loadEngine } = await from('engine/tensorflow.js');
const { findBackbone, findPublished, buildBackbone } = await from('backbones/index.js');
const { assertComplete, planWeights, readPlanned } = await from('weights/plan/plan.js');

const HEAD = { 'head.logits.kernel': 'head/kernel', 'head.logits.bias': 'head/bias' };
const shape = [of.batch, of.side, of.side, 3];
const images = generateTensor('input', shape);

/** The generated weights by our own names, through the planner that reads Keras' files. */
function readGenerated() {
  const byName = new Map(rows.map((row) => [row[0], row]));
  const source = {
    format: 'keras-h5',
    path: 'generated weights',
    tensors: rows
      .filter(([name]) => !name.startsWith('head/'))
      .map(([name, s]) => ({ name, dtype: 'float32', shape: s })),
    metadata: {},
    read: async (name) => generateTensor(...byName.get(name)),
    close: async () => {},
  };
  const backbone = findBackbone(of.backbone);
  const plan = planWeights(source, backbone, findPublished(backbone, 'keras'));
  assertComplete(plan, source.path);
  const planned = new Map(plan.rows.map((row) => [row.parameter.path, row]));
  return async (path) => {
    const row = planned.get(path);
    return row === undefined ? generateTensor(...byName.get(HEAD[path])) : readPlanned(source, row);
  };
}

/** A function that does one step of full fine-tuning on pictures in our memory and gives its loss. */
async function trainStep(engine) {
  const { rng } = await from('rng.js');
  const { createOptimizer } = await from('train/optimizers.js');
  const { smoothedTargets } = await from('train/targets.js');
  const { loadTrainable } = await from('train/trainable.js');
  const { graphOf } = await from('weights/model-folder.js');
  const graph = graphOf({
    backbone: of.backbone,
    source: 'keras',
    inputSize: { height: of.side, width: of.side },
    head: { hidden: [], dropout: 0 },
    classes: Array.from({ length: of.classes }, (_, i) => `class ${i}`),
  });
  const network = await loadTrainable(graph, readGenerated(), engine, undefined);
  const optimizer = createOptimizer(network.trainable, network.updates, { name: 'adam', momentum: 0, weightDecay: 0 });
  const labels = Int32Array.from({ length: of.batch }, (_, i) => i % of.classes);
  return () => {
    const x = network.enter(tf.tensor4d(images, shape));
    const y = tf.tensor1d(labels, 'int32');
    const targets = tf.tensor2d(smoothedTargets(labels, of.classes, 0), [of.batch, of.classes]);
    const { loss, gradients } = network.step({ x, targets, labels: y, random: rng(0) });
    optimizer.apply(gradients, of.lr);
    tf.dispose([x, y, targets, ...gradients.values()]);
    return [loss];
  };
}

/** A function that sends pictures in our memory through the frozen network and gives pre_logits. */
async function forward(engine) {
  const { loadNetwork } = await from('engine/network.js');
  const published = findPublished(findBackbone(of.backbone), 'keras');
  const graph = buildBackbone(published, { size: { height: of.side, width: of.side } });
  const network = await loadNetwork(graph, readGenerated(), engine, { outputs: ['pre_logits'] });
  return () => {
    const x = tf.tensor4d(images, shape);
    const value = network.run(x, ['pre_logits']).get('pre_logits');
    const numbers = value.dataSync();
    tf.dispose([x, value]);
    return numbers;
  };
}

/** Most memory this process ever had, bytes. */
function peakBytes() {
  try {
    return Number(/^VmHWM:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
  } catch {
    return process.resourceUsage().maxRSS * 1024;
  }
}

const engine = await loadEngine({ engine: 'tensorflow', device: 'cpu', threads });
const step = of.work === 'train' ? await trainStep(engine) : await forward(engine);
const outputs = [];
const timesMs = [];
for (let i = 0; i < task.warmUp + task.steps; i++) {
  const began = performance.now();
  const numbers = step();
  const ms = performance.now() - began;
  if (i >= task.warmUp) timesMs.push(ms);
  if (outputs.length < task.keep) outputs.push([...numbers]);
}
console.log(
  JSON.stringify({
    outputs,
    timesMs,
    peakBytes: peakBytes(),
    tensors: tf.memory().numTensors,
    runs: engine.description,
  }),
);
