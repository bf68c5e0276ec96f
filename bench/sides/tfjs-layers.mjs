/**
 * What a user of TypeScript would otherwise take: tfjs-layers, on the native engine that ours runs on. Reads a task
 * (JSON) and tells a record. Its networks are Keras', as keras.applications builds them.
 */
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { importFrom } from '../environment.mjs';
import { generateTensor } from '../generator.mjs';
import { readTask, tell, timeSteps } from './side.mjs';

const task = readTask();
const { case: of, rows, threads, dist } = task;
const { loadEngine } = await importFrom(dist, 'engine/tensorflow.js');
const engine = await loadEngine({ engine: 'tensorflow', device: 'cpu', threads });

const { layers } = tfl;
const shape = [of.batch, of.side, of.side, 3];

/** keras.applications.resnet: ResNet50, version 1. */
function resnet50() {
  const convNorm = (x, name, filters, kernelSize, strides = 1, padding = 'valid') =>
    layers
      .batchNormalization({ epsilon: 1.001e-5, name: `${name}_bn` })
      .apply(layers.conv2d({ filters, kernelSize, strides, padding, name: `${name}_conv` }).apply(x));
  const relu = (x) => layers.reLU().apply(x);
  const pad = (x, n) =>
    layers
      .zeroPadding2d({
        padding: [
          [n, n],
          [n, n],
        ],
      })
      .apply(x);
  const input = tfl.input({ shape: [of.side, of.side, 3] });
  let x = relu(convNorm(pad(input, 3), 'conv1', 64, 7, 2));
  x = layers.maxPooling2d({ poolSize: 3, strides: 2 }).apply(pad(x, 1));
  [3, 4, 6, 3].forEach((blocks, stage) => {
    const planes = 64 * 2 ** stage;
    for (let block = 1; block <= blocks; block++) {
      const at = `conv${stage + 2}_block${block}`;
      const strides = block === 1 && stage > 0 ? 2 : 1;
      const shortcut = block === 1 ? convNorm(x, `${at}_0`, 4 * planes, 1, strides) : x;
      const reduced = relu(convNorm(x, `${at}_1`, planes, 1, strides));
      const y = convNorm(relu(convNorm(reduced, `${at}_2`, planes, 3, 1, 'same')), `${at}_3`, 4 * planes, 1);
      x = relu(layers.add().apply([shortcut, y]));
    }
  });
  return { input, output: layers.globalAveragePooling2d({}).apply(x) };
}

/** keras.applications.mobilenet_v2, alpha 1. */
function mobilenetV2() {
  const norm = (x, name) => layers.batchNormalization({ epsilon: 1e-3, momentum: 0.999, name }).apply(x);
  const relu6 = (x) => layers.reLU({ maxValue: 6 }).apply(x);
  const conv = (x, name, filters, kernelSize = 1, strides = 1) =>
    layers.conv2d({ filters, kernelSize, strides, padding: 'same', useBias: false, name }).apply(x);
  const depthwise = (x, name, strides) =>
    layers.depthwiseConv2d({ kernelSize: 3, strides, padding: 'same', useBias: false, name }).apply(x);
  const input = tfl.input({ shape: [of.side, of.side, 3] });
  // Of sides that are even, Keras pads for a stride of 2 as `same` does.
  let x = relu6(norm(conv(input, 'Conv1', 32, 3, 2), 'bn_Conv1'));
  let id = 0;
  // Sandler 2018, table 2: expansion, channels, blocks, stride
  const table = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
  ];
  for (const [expansion, filters, blocks, first] of table) {
    for (let block = 0; block < blocks; block++, id++) {
      const at = id === 0 ? 'expanded_conv_' : `block_${id}_`;
      const [strides, inputs] = [block === 0 ? first : 1, x.shape[3]];
      let y = x;
      if (expansion > 1) y = relu6(norm(conv(y, `${at}expand`, expansion * inputs), `${at}expand_BN`));
      y = relu6(norm(depthwise(y, `${at}depthwise`, strides), `${at}depthwise_BN`));
      y = norm(conv(y, `${at}project`, filters), `${at}project_BN`);
      x = strides === 1 && inputs === filters ? layers.add().apply([x, y]) : y;
    }
  }
  x = relu6(norm(conv(x, 'Conv_1', 1280), 'Conv_1_bn'));
  return { input, output: layers.globalAveragePooling2d({}).apply(x) };
}

function build({ withHead }) {
  const builders = { ResNet50: resnet50, MobileNetV2: mobilenetV2 };
  const { input, output } = builders[of.network.reference]();
  const last = withHead ? layers.dense({ units: of.classes, name: 'head' }).apply(output) : output;
  const model = tfl.model({ inputs: input, outputs: last });
  const byLayer = groupByOwner([...rows.body, ...rows.head]);
  for (const layer of model.layers) {
    if (layer.weights.length === 0) continue;
    const values = byLayer.get(layer.name).map((row) => tf.tensor(generateTensor(...row), row[1]));
    layer.setWeights(values);
    tf.dispose(values);
  }
  return model;
}

const ownerOf = ([name]) => name.split('/')[0];

/** Rows of each layer, in Keras' order, which is that of tfjs-layers. */
function groupByOwner(all) {
  const groups = new Map();
  for (const row of all) groups.set(ownerOf(row), [...(groups.get(ownerOf(row)) ?? []), row]);
  return groups;
}

function step() {
  const model = build({ withHead: true });
  model.compile({ optimizer: tf.train.adam(of.lr), loss: (y, logits) => tf.losses.softmaxCrossEntropy(y, logits) });
  const images = generateTensor('input', shape);
  const labels = Array.from({ length: of.batch }, (_, i) => i % of.classes);
  return timeSteps(task, async () => {
    const x = tf.tensor4d(images, shape);
    const y = tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels, 'int32'), of.classes), 'float32'));
    const loss = await model.trainOnBatch(x, y);
    tf.dispose([x, y]);
    return [loss];
  });
}

function forward() {
  const model = build({ withHead: false });
  const images = generateTensor('input', shape);
  return timeSteps(task, () => {
    const x = tf.tensor4d(images, shape);
    const y = model.predictOnBatch(x);
    const numbers = y.dataSync();
    tf.dispose([x, y]);
    return numbers;
  });
}

const record = await { step, forward }[of.work]();
tell({ ...record, runs: `tfjs-layers ${tfl.version_layers}, ${engine.description}` });
