/** The graph of a SavedModel around a network's operations, and how programs address it. */
import {
  type Asset,
  type AttributeMessage,
  flagAttribute,
  floatAttribute,
  graphNode,
  graphVersions,
  intAttribute,
  intsAttribute,
  type Signature,
  shapeAttribute,
  stringAttribute,
  stringsAttribute,
  type TensorInfo,
  textAttribute,
  textsAttribute,
  typeAttribute,
  wholeAttribute,
} from '../../engine/graph-messages.js';
import { DATA_TYPE } from '../../engine/tensorflow-types.js';
import type { Attribute, PlainNetwork } from '../lowering/operations.js';
import type { Piece } from './pieces.js';

/** The folder's file of labels, below `assets/`. */
export const LABELS_FILE = 'labels.txt';

/** The nodes that name the most probable classes, apart from the network's own. */
const CLASSIFY = 'classify';
const MOST_NAMED = 5;

/** All nodes; `constants` are those of the network's constants. */
export function graphPieces(network: PlainNetwork, constants: readonly Piece[], classes: readonly string[]): Piece[] {
  const { input, operations } = network;
  const placeholder = graphNode({
    name: input.name,
    op: 'Placeholder',
    attributes: { dtype: typeAttribute(DATA_TYPE[input.type]), shape: shapeAttribute(input.shape) },
  });
  const nodes = operations.map(({ name, op, inputs, attributes }) => {
    const messages = Object.entries(attributes).map(([key, value]) => [key, attributeMessage(value)] as const);
    return graphNode({ name, op, inputs, attributes: Object.fromEntries(messages) });
  });
  return [placeholder, ...constants, ...nodes, ...classifyNodes(network, classes), ...assetNodes(), graphVersions()];
}

function attributeMessage({ kind, value }: Attribute): AttributeMessage {
  switch (kind) {
    case 'type':
      return typeAttribute(DATA_TYPE[value]);
    case 'int':
      return intAttribute(value);
    case 'ints':
      return intsAttribute(value);
    case 'float':
      return floatAttribute(value);
    case 'bool':
      return flagAttribute(value);
    case 'string':
      return stringAttribute(value);
    case 'strings':
      return stringsAttribute(value);
  }
}

/** The labels of the most probable classes, as texts of the graph, so that no table has to be initialised. */
function classifyNodes({ outputs }: PlainNetwork, classes: readonly string[]): Buffer[] {
  const [float, int, text] = [DATA_TYPE.float32, DATA_TYPE.int32, DATA_TYPE.string].map(typeAttribute) as [
    Buffer,
    Buffer,
    Buffer,
  ];
  return [
    graphNode({ name: `${CLASSIFY}/labels`, op: 'Const', attributes: { dtype: text, value: textsAttribute(classes) } }),
    ...[['count', Math.min(MOST_NAMED, classes.length)] as const, ['axis', 0] as const].map(([name, value]) =>
      graphNode({ name: `${CLASSIFY}/${name}`, op: 'Const', attributes: { dtype: int, value: wholeAttribute(value) } }),
    ),
    graphNode({
      name: `${CLASSIFY}/top`,
      op: 'TopKV2',
      inputs: [outputs.probabilities, `${CLASSIFY}/count`],
      attributes: { T: float, sorted: flagAttribute(true) },
    }),
    graphNode({
      name: `${CLASSIFY}/named`,
      op: 'GatherV2',
      inputs: [`${CLASSIFY}/labels`, `${CLASSIFY}/top:1`, `${CLASSIFY}/axis`],
      attributes: { Tparams: text, Tindices: int, Taxis: int, batch_dims: intAttribute(0) },
    }),
  ];
}

/** The text that a loader replaces by the path of the file of labels. */
const assetNodes = (): Buffer[] => [
  graphNode({
    name: `assets/labels`,
    op: 'Const',
    attributes: { dtype: typeAttribute(DATA_TYPE.string), value: textAttribute(LABELS_FILE) },
  }),
];

export const assets: readonly Asset[] = [
  { file: LABELS_FILE, tensor: { name: 'assets/labels:0', dtype: DATA_TYPE.string, shape: [] } },
];

/**
 * `serving_default`: `input` to `probabilities` and `logits`, `[N, classes]`. `classify`: to the most probable `labels`
 * with their `probabilities`, `[N, 5]` where there are as many classes, the most probable first.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/python/saved_model/signature_constants.py
 */
export function signaturesOf({ input, outputs }: PlainNetwork, classes: number): Record<string, Signature> {
  const float = (name: string, columns: number): TensorInfo => ({
    name: `${name}:0`,
    dtype: DATA_TYPE.float32,
    shape: [-1, columns],
  });
  const named = Math.min(MOST_NAMED, classes);
  const inputs = { [input.name]: { name: `${input.name}:0`, dtype: DATA_TYPE[input.type], shape: input.shape } };
  const method = 'tensorflow/serving/predict';
  return {
    serving_default: {
      inputs,
      outputs: { probabilities: float(outputs.probabilities, classes), logits: float(outputs.logits, classes) },
      method,
    },
    classify: {
      inputs,
      outputs: {
        labels: { name: `${CLASSIFY}/named:0`, dtype: DATA_TYPE.string, shape: [-1, named] },
        probabilities: float(`${CLASSIFY}/top`, named),
      },
      method,
    },
  };
}
