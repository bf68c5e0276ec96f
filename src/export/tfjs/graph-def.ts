/**
 * TensorFlow's GraphDef in its JSON form, as a TensorFlow.js graph model holds it.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto, node_def.proto,
 * attr_value.proto; bytes are base64 and 64-bit integers are strings, by the JSON mapping of protocol buffers
 */
import { GRAPH_VERSION } from '../../engine/tensorflow-types.js';
import type { Attribute, Constant, ElementType, PlainNetwork, PlainOperation } from '../lowering/operations.js';

type Json = string | number | boolean | readonly Json[] | { readonly [key: string]: Json };

export interface NodeDef {
  readonly name: string;
  readonly op: string;
  readonly input?: readonly string[];
  readonly attr: Readonly<Record<string, Json>>;
}

export interface GraphDef {
  readonly node: readonly NodeDef[];
  readonly library: Record<string, never>;
  readonly versions: { readonly producer: number };
}

const dataTypes: Record<ElementType, string> = { float32: 'DT_FLOAT', int32: 'DT_INT32', uint8: 'DT_UINT8' };

/** A GraphDef whose constants carry no numbers: those lie in the weight files, under the constants' names. */
export function graphDefOf({ input, operations, constants }: PlainNetwork): GraphDef {
  const placeholder: NodeDef = {
    name: input.name,
    op: 'Placeholder',
    attr: { dtype: { type: dataTypes[input.type] }, shape: { shape: shapeJson(input.shape) } },
  };
  return {
    node: [placeholder, ...constants.map(constantDef), ...operations.map(operationDef)],
    library: {},
    versions: { producer: GRAPH_VERSION },
  };
}

/** `TensorInfo` of a signature. */
export function tensorInfo(name: string, shape: readonly number[], type: ElementType = 'float32'): Json {
  return { name: `${name}:0`, dtype: dataTypes[type], tensorShape: shapeJson(shape) };
}

function constantDef({ name, type, shape }: Constant): NodeDef {
  const dtype = dataTypes[type];
  return {
    name,
    op: 'Const',
    attr: { dtype: { type: dtype }, value: { tensor: { dtype, tensorShape: shapeJson(shape) } } },
  };
}

function operationDef({ name, op, inputs, attributes }: PlainOperation): NodeDef {
  const attr = Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, attributeJson(value)]));
  return { name, op, input: inputs, attr };
}

const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
const shapeJson = (shape: readonly number[]): Json => ({ dim: shape.map((size) => ({ size: String(size) })) });

function attributeJson(attribute: Attribute): Json {
  switch (attribute.kind) {
    case 'type':
      return { type: dataTypes[attribute.value] };
    case 'int':
      return { i: String(attribute.value) };
    case 'ints':
      return { list: { i: attribute.value.map(String) } };
    case 'float':
      return { f: attribute.value };
    case 'bool':
      return { b: attribute.value };
    case 'string':
      return { s: base64(attribute.value) };
    case 'strings':
      return { list: { s: attribute.value.map(base64) } };
  }
}
