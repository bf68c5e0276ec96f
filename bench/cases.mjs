/** What is measured, against whom, and what is promised. Every side reads a case as it stands here. */

/**
 * @typedef {object} Network
 * @property {string} backbone ours
 * @property {'keras' | 'torch' | 'timm'} source whose function of it, and whose names of its weights
 * @property {string} reference what publishes it: a class of keras.applications, or a network of tools/golden
 *
 * @typedef {object} Row one line of the table: the peer's time / ours
 * @property {string} peer a side of sides.mjs
 * @property {string} [ours] ours, as sides.mjs calls it; `ours` when absent
 * @property {number} [atLeast] the ratio that is promised
 *
 * @typedef {object} Case
 * @property {string} name
 * @property {string} group cases that are run together: `--only GROUP`
 * @property {string} work what each side does; they have a function of that name
 * @property {string} what for people
 * @property {Network} network
 * @property {readonly Row[]} rows
 * @property {number} batch pictures of `side` x `side` at once
 * @property {number} warmUp steps that are not timed; the first ones trace, compile and allocate
 * @property {number} steps timed ones, of each process
 * @property {number} rounds
 * @property {readonly number[]} tolerances largest difference of each compared step's numbers from the peer's, relative
 *   to the largest absolute value; the last one holds for all further steps
 */

const networks = {
  resnet50: { backbone: 'resnet50', source: 'keras', reference: 'ResNet50' },
  resnet50Torch: { backbone: 'resnet50', source: 'torch', reference: 'resnet50.torch' },
  mobilenetV2: { backbone: 'mobilenet_v2_1.0', source: 'keras', reference: 'MobileNetV2' },
  vitB16: { backbone: 'vit_b16', source: 'timm', reference: 'vit_b16.timm' },
};

/** Pictures and head; Adam's rate is what `tl finetune --freeze none` takes by default. */
const common = { side: 224, classes: 10, lr: 1e-4, rounds: 3 };

/**
 * Of a step: the first loss sees the forward pass, the third two updates. Adam's first update has every weight move by
 * the learning rate in the sign of its gradient, so that the rounding of gradients near zero shows in later losses; a
 * wrong update changes far more.
 */
const step = { ...common, group: 'step', work: 'step', warmUp: 3, steps: 5, tolerances: [1e-3, 1e-2, 1e-2] };
const forward = { ...common, group: 'forward', work: 'forward', warmUp: 3, steps: 8, tolerances: [1e-3] };

/** @type {readonly Case[]} */
export const cases = [
  {
    ...step,
    name: 'resnet50 step',
    what: 'full fine-tuning, Adam, batch norms in training mode',
    network: networks.resnet50,
    batch: 8,
    rows: [
      { peer: 'keras3', atLeast: 1.15 },
      { peer: 'keras2' },
      { peer: 'tfjs', atLeast: 3.5 },
      { peer: 'keras3', ours: 'ours-bfloat16', atLeast: 1.35 },
    ],
  },
  {
    ...step,
    name: 'resnet50 (torch) step',
    what: 'the same of the variant without biases in convolutions',
    network: networks.resnet50Torch,
    batch: 8,
    rows: [{ peer: 'keras3', atLeast: 1.25 }, { peer: 'torch' }],
  },
  {
    ...step,
    name: 'mobilenet_v2 step',
    what: 'full fine-tuning, Adam, batch norms in training mode',
    network: networks.mobilenetV2,
    batch: 16,
    rows: [
      { peer: 'keras3', atLeast: 1.25 },
      { peer: 'tfjs', atLeast: 2.5 },
    ],
  },
  {
    ...step,
    name: 'vit_b16 step',
    what: 'full fine-tuning, Adam',
    network: networks.vitB16,
    batch: 4,
    rows: [
      { peer: 'keras3', atLeast: 1.1 },
      { peer: 'torch', atLeast: 1.1 },
    ],
  },
  {
    ...forward,
    name: 'resnet50 forward',
    what: 'pre_logits, everything frozen',
    network: networks.resnet50,
    batch: 16,
    rows: [
      { peer: 'keras3', atLeast: 1.15 },
      { peer: 'keras2' },
      { peer: 'keras3-predict', atLeast: 1.6 },
      { peer: 'torch' },
      { peer: 'tfjs', atLeast: 1.7 },
      { peer: 'keras3', ours: 'ours-bfloat16', atLeast: 1.7 },
    ],
  },
  {
    ...forward,
    name: 'mobilenet_v2 forward',
    what: 'pre_logits, everything frozen',
    network: networks.mobilenetV2,
    batch: 32,
    rows: [{ peer: 'keras3', atLeast: 1.1 }, { peer: 'keras2' }],
  },
  {
    ...forward,
    name: 'vit_b16 forward',
    what: 'pre_logits, everything frozen',
    network: networks.vitB16,
    batch: 8,
    rows: [{ peer: 'keras3', atLeast: 1.1 }, { peer: 'torch' }],
  },
];
