/**
 * Keras 3's files number a layer's variables (`vars/0`, `vars/1`); this says what each number is, from the layer's class,
 * in the words of Keras 2's files. The order is that of `Layer.save_own_variables`: the trainable ones, as `build` adds
 * them, then the others.
 */

type Flags = Readonly<Record<string, unknown>>;

/** A layer's variables in order. One with an argument beside it is there unless that is false (or None). */
type Variables = readonly (string | readonly [name: string, argument: string])[];

const BIAS = ['bias', 'use_bias'] as const;
const GAMMA = ['gamma', 'scale'] as const;
const BETA = ['beta', 'center'] as const;

const kernelAndBias: Variables = ['kernel', BIAS];
const depthwise: Variables = ['depthwise_kernel', BIAS]; // Keras 3 calls the variable kernel
const separable: Variables = ['depthwise_kernel', 'pointwise_kernel', BIAS];
const batchNorm: Variables = [GAMMA, BETA, 'moving_mean', 'moving_variance'];
const scaled: Variables = [GAMMA, BETA];
const recurrent: Variables = ['kernel', 'recurrent_kernel', BIAS];

/** By the class' name in snake case, as the files' groups have it. */
const TABLE: ReadonlyMap<string, Variables> = new Map<string, Variables>([
  ...['conv1d', 'conv2d', 'conv3d', 'conv1d_transpose', 'conv2d_transpose', 'conv3d_transpose'].map(
    (each) => [each, kernelAndBias] as const,
  ),
  ['dense', kernelAndBias],
  ['einsum_dense', ['kernel', ['bias', 'bias_axes']]],
  ['depthwise_conv1d', depthwise],
  ['depthwise_conv2d', depthwise],
  ['separable_conv1d', separable],
  ['separable_conv2d', separable],
  ['batch_normalization', batchNorm],
  ['sync_batch_normalization', batchNorm],
  ['layer_normalization', scaled],
  ['group_normalization', scaled],
  ['rms_normalization', ['scale']],
  ['normalization', ['mean', 'variance', 'count']],
  ['layer_scale', ['gamma']], // keras.applications.convnext
  ['p_re_lu', ['alpha']],
  ['embedding', ['embeddings']],
  ['lstm_cell', recurrent],
  ['gru_cell', recurrent],
  ['simple_rnn_cell', recurrent],
]);

/**
 * What layers hold by attributes of their own, by class and attribute: the layer's name in Keras 2's files and its class.
 * Keras 2 writes the attributes of an attention with an underscore in front.
 */
const HELD: ReadonlyMap<string, readonly [name: string, kind: string]> = new Map([
  ['multi_head_attention/query_dense', ['query', 'einsum_dense']],
  ['multi_head_attention/key_dense', ['key', 'einsum_dense']],
  ['multi_head_attention/value_dense', ['value', 'einsum_dense']],
  ['multi_head_attention/output_dense', ['attention_output', 'einsum_dense']],
  ['lstm/cell', ['lstm_cell', 'lstm_cell']],
  ['gru/cell', ['gru_cell', 'gru_cell']],
  ['simple_rnn/cell', ['simple_rnn_cell', 'simple_rnn_cell']],
]);

/** The layer behind an attribute of a layer of this class, where Keras always gives it the same name. */
export function heldBy(kind: string, attribute: string): { readonly name: string; readonly kind: string } | undefined {
  const found = HELD.get(`${kind}/${attribute.replace(/^_/, '')}`);
  return found === undefined ? undefined : { name: found[0], kind: found[1] };
}

/** Conv2D -> conv2d, PReLU -> p_re_lu: `keras.src.utils.naming.to_snake_case`. */
export function snakeCase(className: string): string {
  return className
    .replaceAll(/\W+/g, '')
    .replaceAll(/(.)([A-Z][a-z]+)/g, '$1_$2')
    .replaceAll(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase();
}

/**
 * Names of the `count` variables of a layer; undefined where the class is unknown, or where the count leaves it open which
 * of them are there and no configuration tells. Variables behind the known ones, as quantisation adds them, keep a number.
 */
export function variableNames(kind: string, count: number, config: Flags | undefined): string[] | undefined {
  const all = TABLE.get(kind);
  if (all === undefined) return undefined;
  const named = (present: (flag: string) => boolean): string[] =>
    all.flatMap((each) => (typeof each === 'string' ? [each] : present(each[1]) ? [each[0]] : []));
  if (config !== undefined) {
    const said = named((flag) => config[flag] !== false && config[flag] !== null);
    if (count < said.length) return undefined;
    return [...said, ...Array.from({ length: count - said.length }, (_, i) => `vars/${said.length + i}`)];
  }
  const fits = [named(() => true), named(() => false)].filter((names) => names.length === count);
  return fits[0];
}
