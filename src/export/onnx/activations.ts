/**
 * Rounds values between operators to 8 bits: each is followed by QuantizeLinear and DequantizeLinear, from which a
 * runtime makes operators on whole numbers. They stand where onnxruntime looks for them: at both ends of a
 * convolution, after the ReLU that it absorbs, at the input of a matrix product. Softmax, norms, attention scores and
 * the logits stay in float32.
 * @see https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "QDQ"
 */
import type { RoundedRange } from '../quantize/histogram.js';
import type { OnnxGraph, OnnxNode, OnnxTensor, StoredConstant } from './graph.js';
import type { Translated } from './translate.js';

/** A value is `(stored - zero) * scale`, 0..255 stored. */
export interface Levels {
  readonly scale: number;
  readonly zero: number;
}

const TOP = 255;

/** Levels that span a range and zero, with zero itself one of them. */
export function levelsOf({ min, max }: Pick<RoundedRange, 'min' | 'max'>): Levels {
  const [low, high] = [Math.min(0, min), Math.max(0, max)];
  const zero = high === low ? 0 : Math.round((-low / (high - low)) * TOP);
  const needed = Math.max(zero === 0 ? 0 : -low / zero, zero === TOP ? 0 : high / (TOP - zero));
  return { scale: Math.fround(needed) || 1, zero };
}

/** Operators that only move numbers: what is rounded before them is rounded alike after them. */
const MOVING = new Set(['Reshape', 'Flatten', 'Transpose']);
const WITH_KERNEL = new Set(['Conv', 'Gemm']);
const ABSORBED = new Set(['Relu', 'Clip']);

/** The graph with its values rounded, those whose levels are known. */
export function roundActivations(graph: Translated, levels: (tensor: string) => Levels | undefined): OnnxGraph {
  const chosen = choose(graph);
  const nodes: OnnxNode[] = [];
  const constants: StoredConstant[] = [...graph.constants];
  const renamed = new Map<string, string>();
  const roundValue = (name: string): void => {
    const found = chosen.has(name) ? levels(name) : undefined;
    if (found === undefined) return;
    const tensor = (suffix: string, type: OnnxTensor['type']): OnnxTensor => ({
      name: `${name}_${suffix}`,
      type,
      shape: [],
    });
    const tensors = [tensor('levels_scale', 'float32'), tensor('levels_zero', 'uint8')];
    const numbers = [new Uint8Array(Float32Array.of(found.scale).buffer), Uint8Array.of(found.zero)];
    constants.push({ tensors, encode: async () => numbers });
    const steps = tensors.map((each) => each.name);
    const [rounded, back] = [`${name}_levels`, `${name}_rounded`];
    const node = (op: string, input: string, output: string): OnnxNode => {
      return { name: output, op, inputs: [input, ...steps], outputs: [output], attributes: {} };
    };
    nodes.push(node('QuantizeLinear', name, rounded), node('DequantizeLinear', rounded, back));
    renamed.set(name, back);
  };
  for (const { name } of graph.inputs) roundValue(name);
  for (const node of graph.nodes) {
    nodes.push({ ...node, inputs: node.inputs.map((input) => renamed.get(input) ?? input) });
    for (const output of node.outputs) roundValue(output);
  }
  return { ...graph, nodes, constants };
}

/** Values to round. */
function choose({ nodes }: OnnxGraph): ReadonlySet<string> {
  const chosen = new Set<string>();
  const consumers = new Map<string, OnnxNode[]>();
  const producers = new Map<string, OnnxNode>();
  for (const node of nodes) {
    for (const input of node.inputs) consumers.set(input, [...(consumers.get(input) ?? []), node]);
    for (const output of node.outputs) producers.set(output, node);
  }
  const isMoved = (name: string): boolean => (consumers.get(name) ?? []).every(({ op }) => MOVING.has(op));
  for (const { op, inputs, outputs } of nodes) {
    if (!WITH_KERNEL.has(op)) continue;
    chosen.add(inputs[0]!);
    if (op !== 'Conv') continue;
    const after = consumers.get(outputs[0]!) ?? [];
    const result = after.length === 1 && ABSORBED.has(after[0]!.op) ? after[0]!.outputs[0]! : outputs[0]!;
    if (!isMoved(result)) chosen.add(result);
  }
  // Before the operators that move them, so that these too run on whole numbers.
  for (const name of [...chosen]) {
    for (let from = producers.get(name); from && MOVING.has(from.op); from = producers.get(from.inputs[0]!)) {
      chosen.add(from.inputs[0]!);
    }
  }
  return chosen;
}
