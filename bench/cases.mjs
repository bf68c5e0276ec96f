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
 * @property {boolean} [once] the peer is measured in the first round only
 * @property {boolean} [otherOutput] the two compute different things, so that only their times are compared
 *
 * @typedef {object} Case
 * @property {string} name
 * @property {string} group cases that are run together: `--only GROUP`
 * @property {string} work what each side does; they have a function of that name
 * @property {string} what for people
 * @property {Network} [network]
 * @property {boolean} [wholeProgram] its sides are programs as users run them (programs.mjs)
 * @property {object} [pictures] a folder of photographs (pictures.mjs)
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
const common = { side: 224, classes: 10, lr: 1e-4, rounds: 2 };

/**
 * Of a step: the first loss sees the forward pass, the third two updates. Adam's first update has every weight move by
 * the learning rate in the sign of its gradient, so that the rounding of gradients near zero shows in later losses; a
 * wrong update changes far more.
 */
const step = { ...common, group: 'step', work: 'step', warmUp: 2, steps: 4, tolerances: [1e-3, 1e-2, 1e-2] };
const forward = { ...common, group: 'forward', work: 'forward', warmUp: 2, steps: 6, tolerances: [1e-3] };

/** Programs are timed as wholes, so that rounds are all there is. */
const program = { ...common, group: 'program', wholeProgram: true, tolerances: [2e-2] };
/** 1,000 photographs of 500x400 to train on, as in many a user's folder. */
const thousand = { splits: { train: 1000, val: 100 } };
/**
 * Training from folders: the heads start from numbers of their own and the pictures come in an order of their own, so
 * that final losses are alike and no more.
 */
const training = { ...program, work: 'finetune', tolerances: [0.25] };

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
      { peer: 'tfjs', atLeast: 3.5, once: true },
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
      { peer: 'tfjs', atLeast: 2.5, once: true },
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
  {
    ...training,
    group: 'freeze',
    name: 'resnet50 last:3',
    what:
      'a second epoch with everything before the last three blocks frozen, mirrored at random, from files; ours with ' +
      'and without keeping what the frozen part gives, Keras by `fit`; in milliseconds an epoch of 160 pictures',
    network: networks.resnet50,
    module: 'resnet50',
    pictures: { splits: { train: 160 } },
    freeze: 'last:3',
    trainFrom: 'conv5',
    augment: 'flip',
    epochs: 3,
    peerEpochs: 2,
    timed: 'epoch',
    batch: 16,
    rows: [
      { peer: 'keras3-fit', ours: 'ours-uncached', atLeast: 1.2 },
      { peer: 'keras3-fit', ours: 'ours', atLeast: 2 },
    ],
  },
  {
    ...training,
    group: 'head',
    name: 'head, mirrored',
    what: 'a new head on 1,000 pictures and 20 epochs, mirrored at random, from cold start to saved model',
    network: networks.mobilenetV2,
    module: 'mobilenet_v2',
    pictures: thousand,
    freeze: 'backbone',
    augment: 'flip',
    epochs: 20,
    batch: 16,
    lr: 1e-3,
    rows: [{ peer: 'keras3-cached', atLeast: 1.2 }],
  },
  {
    ...training,
    group: 'head',
    name: 'head',
    what: 'the same without mirroring; `keras3-fit` once, since it takes minutes',
    network: networks.mobilenetV2,
    module: 'mobilenet_v2',
    pictures: thousand,
    freeze: 'backbone',
    augment: 'none',
    epochs: 20,
    batch: 16,
    lr: 1e-3,
    rows: [
      { peer: 'keras3-fit', atLeast: 8, once: true },
      { peer: 'keras3-cached', atLeast: 1.2 },
    ],
  },
  {
    ...common,
    group: 'pictures',
    name: 'decode',
    work: 'decode',
    what:
      'decode, resize and mirror at random 1,000 JPEGs of 500x400, batches of 32; tf.data on the other side, with the ' +
      'same resize: antialiased (short side to 256, crop), or plain to 224x224',
    pictures: thousand,
    batch: 32,
    warmUp: 1,
    steps: 3,
    tolerances: [5e-2], // TensorFlow decodes JPEGs by the faster, coarser DCT, which moves means by a level of 255
    rows: [
      { peer: 'keras3', atLeast: 1.1 },
      { peer: 'keras3-plain', ours: 'ours-plain', atLeast: 0.9 },
      { peer: 'keras3-plain', ours: 'ours', otherOutput: true },
    ],
  },
  {
    ...program,
    name: 'predict',
    work: 'predict',
    what: 'the class of one picture, the whole program',
    network: networks.resnet50,
    pictures: thousand,
    batch: 1,
    rows: [{ peer: 'keras3', atLeast: 3 }, { peer: 'keras2' }],
  },
  {
    ...program,
    name: 'import',
    work: 'import',
    what: 'a published .h5 into the local store, or by `load_weights` into a model, the whole program',
    network: networks.resnet50,
    batch: 1,
    tolerances: [1e-5],
    rows: [{ peer: 'keras3', atLeast: 1 }, { peer: 'keras2' }],
  },
];
