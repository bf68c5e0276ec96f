/** What is measured. Both sides read a case as it stands here. */

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {'train' | 'forward'} work `train`: a step of full fine-tuning, batch norms in training mode, Adam.
 *   `forward`: pixels to pre_logits with everything frozen.
 * @property {string} backbone ours; the published variant is always Keras' own
 * @property {string} application the same network in keras.applications
 * @property {number} batch pictures of `side` x `side` at once
 * @property {number} side
 * @property {number} classes of the linear head
 * @property {number} lr of Adam: what `tl finetune --freeze none` takes by default
 * @property {number} warmUp steps that are not timed; the first one traces, compiles and allocates
 * @property {number} steps timed ones, of each process
 * @property {number} [atLeast] the ratio that is promised: Keras' time / ours
 * @property {string} keras what runs on the other side, for people
 */

const common = { side: 224, classes: 10, lr: 1e-4 };

/** @type {readonly Case[]} */
export const cases = [
  {
    ...common,
    name: 'resnet50-step',
    work: 'train',
    backbone: 'resnet50',
    application: 'ResNet50',
    batch: 8,
    warmUp: 3,
    steps: 8,
    atLeast: 1,
    keras: 'train_on_batch',
  },
  {
    ...common,
    name: 'mobilenet_v2-step',
    work: 'train',
    backbone: 'mobilenet_v2_1.0',
    application: 'MobileNetV2',
    batch: 16,
    warmUp: 3,
    steps: 8,
    keras: 'train_on_batch',
  },
  {
    ...common,
    name: 'resnet50-forward',
    work: 'forward',
    backbone: 'resnet50',
    application: 'ResNet50',
    batch: 16,
    warmUp: 3,
    steps: 10,
    keras: 'tf.function',
  },
];
