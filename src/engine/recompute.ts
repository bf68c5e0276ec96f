/**
 * Gradient checkpointing: of a block only what goes in is kept, and where its gradient is taken it is run a second time.
 * Time for memory: what all blocks hold becomes what goes into each and what one holds.
 * @see Chen et al. 2016, https://arxiv.org/abs/1604.06174
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Graph, type Node, nodesBetween, tapOf } from './graph.js';
import type { Operator } from './operator.js';
import { type RunMode, type RunOptions, run } from './run.js';
import { applyOnly, startTape } from './tape.js';
import type { Engine } from './tensorflow.js';

type TrainingMode = Extract<RunMode, { kind: 'training' }>;

interface TrainingOptions extends RunOptions {
  readonly mode: TrainingMode;
}

/**
 * Gives `x` once `dependency` is there. A graph that computes the same twice would else be run with one of the two, or
 * with the second at once after the first: neither saves memory.
 */
export type After = (x: tf.Tensor, dependency: tf.Tensor) => tf.Tensor;

/** That of an engine; where operations run in the order of the program it is a clone. */
export const afterOf = ({ native }: Engine): After => native?.after ?? ((x) => tf.clone(x));

/**
 * Share of the largest segment's values that the last ones may hold together. Peak of the process and what a step takes
 * beside one that keeps everything, MobileNet v2 with 32 pictures of 224x224, 2.4 GB: all of them run again 1.38 GB,
 * with a share of a half 1.36 GB, of 1 1.56 GB; ResNet-50 with 32, 4.6 GB: 2.14, 2.16 and 2.16 GB.
 */
const SMALL = 0.5;

/** A part of a network with one way in and one way out. */
export interface Segment {
  readonly from: Node;
  /** The tap of the last node. */
  readonly tap: string;
  readonly nodes: readonly Node[];
}

/**
 * What is run a second time of the nodes between `given` and the taps `outputs`: blocks, in order. Blocks with several
 * ways in or out are joined with the next one. The last one is not among them, as its gradient is taken at once, and
 * neither are those before it that are small beside the largest, which is held whole in any case.
 */
export function segmentsOf(graph: Graph, given: ReadonlySet<Node>, outputs: readonly string[]): Segment[] {
  const targets = new Set(outputs.map((name) => tapOf(graph, name)));
  const plan = new Set(nodesBetween(graph, given, [...targets]));
  const known = new Set(given);
  const segments: Segment[] = [];
  for (const tap of graph.blocks) {
    const end = tapOf(graph, tap);
    if (!plan.has(end)) continue;
    const nodes = nodesBetween(graph, known, [end]);
    const inside = new Set(nodes);
    const from = new Set(nodes.flatMap(({ inputs }) => inputs).filter((input) => !inside.has(input)));
    const leaves = (node: Node): boolean => node !== end && inside.has(node);
    const left = [...plan].some((node) => !inside.has(node) && node.inputs.some(leaves));
    if (from.size !== 1 || left || nodes.some((node) => targets.has(node))) continue;
    segments.push({ from: [...from][0]!, tap, nodes });
    known.add(end);
  }
  const sizes = segments.map(({ nodes }) =>
    nodes.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
  );
  const room = SMALL * Math.max(...sizes);
  let count = Math.max(0, segments.length - 1);
  let held = sizes[count] ?? 0;
  while (count > 0 && held + sizes[count - 1]! <= room) held += sizes[--count]!;
  return segments.slice(0, count);
}

/**
 * As {@link run} in training mode, and to the bit the same values, statistics and gradients; but where an auxiliary
 * classifier stands between two segments, the gradients that meet there are added in another order.
 * @param options the tape is spent before its tensors and parameters are disposed of
 */
export function runRecomputing(
  graph: Graph,
  given: ReadonlyMap<Node, tf.Tensor>,
  outputs: readonly string[],
  options: TrainingOptions,
  after: After,
): Map<string, tf.Tensor> {
  const { mode, parameters } = options;
  const values = new Map(given);
  const between: tf.Tensor[] = [];
  for (const segment of segmentsOf(graph, new Set(given.keys()), outputs)) {
    const inputs = [values.get(segment.from)!, ...pathsOf(segment).map(parameters)];
    const [y, ...statistics] = mode.apply(operatorOf(graph, segment, options, after), inputs);
    const norms =
      mode.batchNorm === 'eval' ? [] : segment.nodes.filter(({ operation }) => operation.kind === 'batch_norm');
    norms.forEach((node, i) => {
      mode.onStatistics(node, { mean: statistics[2 * i]!, variance: statistics[2 * i + 1]! });
    });
    values.set(tapOf(graph, segment.tap), y!);
    between.push(y!);
  }
  const result = run(graph, values, outputs, options);
  tf.dispose(between);
  return result;
}

const pathsOf = ({ nodes }: Segment): string[] => nodes.flatMap((node) => node.parameters).map(({ path }) => path);

/** What goes in and the parameters -> what comes out, and new statistics of its batch norms in turn. */
function operatorOf(graph: Graph, segment: Segment, options: TrainingOptions, after: After): Operator {
  const paths = pathsOf(segment);
  const runOn = ([x, ...parameters]: readonly tf.Tensor[], mode: Pick<TrainingMode, 'apply' | 'onStatistics'>) => {
    const byPath = new Map(paths.map((path, i) => [path, parameters[i]!]));
    const given = new Map([[segment.from, x!]]);
    const all = { ...options, parameters: (path: string) => byPath.get(path)!, mode: { ...options.mode, ...mode } };
    return run(graph, given, [segment.tap], all).get(segment.tap)!;
  };
  return {
    forward: (inputs) => {
      const statistics: tf.Tensor[] = [];
      const onStatistics: TrainingMode['onStatistics'] = (_, { mean, variance }) => statistics.push(mean, variance);
      return [runOn(inputs, { apply: applyOnly, onStatistics }), ...statistics];
    },
    saves: { inputs: [...paths.keys(), paths.length], outputs: [] },
    backward: ({ dy, inputs: [x, ...parameters] }, wanted) => {
      const inputs = [after(x!, dy), ...parameters];
      const tape = startTape(inputs.filter((_, i) => wanted[i]));
      const onStatistics: TrainingMode['onStatistics'] = (_, fresh) => tf.dispose([fresh.mean, fresh.variance]);
      const y = runOn(inputs, { apply: tape.apply, onStatistics });
      y.dispose();
      const gradients = tape.gradients(y, dy).map((gradient) => {
        const own = tf.clone(gradient); // of the tidy that this runs in; the tape's are nobody's
        gradient.dispose();
        return own;
      });
      return wanted.map((each) => (each ? gradients.shift() : undefined));
    },
  };
}
