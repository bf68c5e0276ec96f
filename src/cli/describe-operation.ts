/** What a node of a network does, in one line for people. */
import type { Node } from '../engine/graph.js';
import type { ActivationName, OperationOf, Padding, Pair } from '../engine/operations.js';

/** `conv 3x3 /2 pad 1`, `attention, 12 heads`, `position embedding of 14x14 places`. */
export function describeOperation({ operation, parameters, inputs, shape }: Node): string {
  const kernel = (): string => `${parameters[0]!.shape[0]}x${parameters[0]!.shape[1]}`;
  switch (operation.kind) {
    case 'conv2d': {
      const groups = operation.groups === 1 ? '' : ` in ${operation.groups} groups`;
      const standardised = operation.standardization === undefined ? '' : ', standardised kernel';
      return `conv ${kernel()}${step(operation.strides)}${groups}${around(operation.padding)}${standardised}`;
    }
    case 'depthwise_conv2d':
      return `depthwise conv ${kernel()}${step(operation.strides)}${around(operation.padding)}`;
    case 'dense':
      return `dense ${parameters[0]!.shape.join(' to ')}`;
    case 'low_rank':
      return `adapter of rank ${parameters[1]!.shape[0]}`;
    case 'batch_norm':
    case 'layer_norm':
      return `${operation.kind === 'batch_norm' ? 'batch' : 'layer'} norm, epsilon ${small(operation.epsilon)}`;
    case 'group_norm':
      return `group norm, ${operation.groups} groups, epsilon ${small(operation.epsilon)}`;
    case 'activation':
      return activations[operation.name];
    case 'add':
      return 'add';
    case 'concat':
      return `concat ${inputs.length}`;
    case 'max_pool':
    case 'average_pool':
      return pool(operation);
    case 'adaptive_average_pool':
      return `average pool to ${operation.size.join('x')}`;
    case 'global_average_pool':
      return `average pool over ${inputs[0]!.shape.slice(0, 2).join('x')}`;
    case 'reshape':
      return shape.length === 1 ? 'flatten' : 'reshape';
    case 'position_embedding':
      return `position embedding of ${parameters[0]!.places!.grid.join('x')} places`;
    case 'attention':
      return `attention, ${operation.heads} heads`;
    case 'take_token':
      return `token ${operation.index}`;
    case 'dropout':
      return `dropout ${operation.rate}`;
    case 'drop_path':
      return `drop path ${operation.rate}`;
    case 'scale_channels':
    case 'layer_scale':
    case 'class_token':
    case 'input':
      return operation.kind.replace('_', ' ');
  }
}

/** 1e-5 instead of 0.00001. */
const small = (epsilon: number): string => (epsilon < 1e-3 ? epsilon.toExponential() : String(epsilon));

/** As papers write them. */
const activations: Record<ActivationName, string> = {
  relu: 'ReLU',
  relu6: 'ReLU6',
  sigmoid: 'sigmoid',
  hard_sigmoid: 'hard sigmoid',
  swish: 'swish',
  hard_swish: 'hard swish',
  gelu: 'GELU',
  gelu_tanh: 'GELU, tanh form',
  tanh: 'tanh',
};

const pool = ({ kind, size, strides, padding }: OperationOf<'max_pool'> | OperationOf<'average_pool'>): string =>
  `${kind === 'max_pool' ? 'max' : 'average'} pool ${size.join('x')}${step(strides)}${around(padding)}`;

const step = ([height, width]: Pair): string =>
  height === 1 && width === 1 ? '' : ` /${height === width ? height : `${height},${width}`}`;

function around(padding: Padding): string {
  if (padding === 'same') return ' same';
  if (padding === 'valid') return '';
  const { top, bottom, left, right } = padding;
  return top === bottom && top === left && top === right ? ` pad ${top}` : ` pad ${top},${bottom},${left},${right}`;
}
