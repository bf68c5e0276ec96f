/** Our side of a case that runs in one process: reads a task (JSON) and tells a record. */
import * as tf from '@tensorflow/tfjs-core';
import { importFrom } from '../environment.mjs';
import { generateTensor } from '../generator.mjs';
import { readTask, tell, timeSteps } from './side.mjs';
import { generatedWeights } from './weights.mjs';

const task = readTask();
const { case: of, side, rows, threads, dist } = task;
const { network } = of;
const from = (path) => importFrom(dist, path);

const { loadEngine } = await from('engine/tensorflow.js');
const engine = await loadEngine({ engine: 'tensorflow', device: 'cpu', threads });

const shape = [of.batch, of.side, of.side, 3];
const { precision } = side;

/** Backbone and head, loaded for training, and Adam. */
async function trainable() {
  const { createOptimizer } = await from('train/optimizers.js');
  const { loadTrainable } = await from('train/trainable.js');
  const { graphOf } = await from('weights/model-folder.js');
  const graph = graphOf({
    backbone: network.backbone,
    source: network.source,
    inputSize: { height: of.side, width: of.side },
    head: { hidden: [], dropout: 0 },
    classes: Array.from({ length: of.classes }, (_, i) => `class ${i}`),
  });
  const read = await generatedWeights(dist, network, rows);
  const trained = await loadTrainable(graph, read, engine, { precision });
  const optimizer = createOptimizer(trained.trainable, trained.updates, { name: 'adam', momentum: 0, weightDecay: 0 });
  return { trained, optimizer };
}

/** Calls `onStep(loss, ms)` after each step of an epoch, as the trainer runs it. */
async function epoch({ trained, optimizer }, source, number, onStep) {
  const { rng } = await from('rng.js');
  const { trainEpoch } = await from('train/epochs.js');
  let [began, sum] = [performance.now(), 0];
  return trainEpoch({
    network: trained,
    optimizer,
    source,
    epoch: number,
    classes: of.classes,
    labelSmoothing: 0,
    random: rng(0),
    lr: () => of.lr,
    onStep: (step, sofar) => {
      const now = performance.now();
      const total = sofar.loss * step; // it is a mean over steps, all of one size
      onStep(total - sum, now - began);
      [began, sum] = [now, total];
      return true;
    },
  });
}

/** Steps of training everything, on pictures in our memory; and the memory after every hundredth step. */
async function step() {
  const model = await trainable();
  const images = generateTensor('input', shape);
  const labels = Int32Array.from({ length: of.batch }, (_, i) => i % of.classes);
  const source = {
    async *epoch() {
      for (let i = 0; i < task.warmUp + task.steps; i++) {
        yield { x: tf.tensor4d(images, shape), labels, count: of.batch, waitedMs: 0 };
      }
    },
  };
  const [outputs, timesMs, memory] = [[], [], []];
  await epoch(model, source, 1, (loss, ms) => {
    outputs.push([loss]);
    timesMs.push(ms);
    if (timesMs.length % 100 === 0)
      memory.push({ residentBytes: process.memoryUsage.rss(), tensors: tf.memory().numTensors });
  });
  return { outputs: outputs.slice(0, task.keep), timesMs: timesMs.slice(task.warmUp), memory };
}

/** pre_logits of pictures in our memory, everything frozen. */
async function forward() {
  const { findBackbone, findPublished, buildBackbone } = await from('backbones/index.js');
  const { loadNetwork } = await from('engine/network.js');
  const published = findPublished(findBackbone(network.backbone), network.source);
  const graph = buildBackbone(published, { size: { height: of.side, width: of.side } });
  const read = await generatedWeights(dist, network, rows);
  const loaded = await loadNetwork(graph, read, engine, { outputs: ['pre_logits'], compiled: true, precision });
  const images = generateTensor('input', shape);
  return timeSteps(task, () => {
    const x = tf.tensor4d(images, shape);
    const value = loaded.run(x, ['pre_logits']).get('pre_logits');
    const numbers = value.dataSync();
    tf.dispose([x, value]);
    return numbers;
  });
}

/** Decode, resize and mirror at random every picture of a folder, as training does; numbers of the first one tell. */
async function decode() {
  const { caffePreprocessing, torchPreprocessing } = await from('augment/preprocessing.js');
  const { batches, closeLoader, loadOne, scanFolder } = await from('data/index.js');
  const preprocessing = side.resize === 'plain' ? caffePreprocessing : torchPreprocessing;
  const size = { height: of.side, width: of.side };
  const { train } = scanFolder(task.files, { valSplit: 0, seed: 0 });
  const first = await loadOne(train[0].path, preprocessing, size);
  const given = {
    preprocessing,
    size,
    batchSize: of.batch,
    augment: 'flip',
    seed: 0,
    skipBadImages: false,
    lend: true,
  };
  let epoch = 0;
  const record = await timeSteps(task, async () => {
    let count = 0;
    for await (const batch of batches(train, { ...given, epoch: epoch++ })) count += batch.count;
    if (count !== train.length) throw new Error(`${count} pictures of ${train.length}`);
    return channelMeans(first);
  });
  await closeLoader();
  return record;
}

/** Of `[height, width, 3]`. */
function channelMeans(pixels) {
  const sums = [0, 0, 0];
  pixels.forEach((value, i) => {
    sums[i % 3] += value;
  });
  return sums.map((sum) => (3 * sum) / pixels.length);
}

const works = { step, forward, decode };
const record = await works[of.work]();
tell({ ...record, tensors: tf.memory().numTensors, runs: engine.description });
