/** Models to export: published networks on their fixtures' weights, and small ones made of single operations. */
import { tfPreprocessing } from '../../src/augment/preprocessing.js';
import { buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import type { DenseArray } from '../../src/engine/forward.js';
import { buildGraph, type Graph, type Node, type Scope } from '../../src/engine/graph.js';
import { dense, globalAveragePool } from '../../src/engine/layers.js';
import type { ExportableModel, Pictures } from '../../src/export/format.js';
import { type ExportRecord, exportRecordOf } from '../../src/export/record.js';
import { withHead } from '../../src/heads/heads.js';
import { planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import { generatedSource, generateTensor, readForwardGolden } from '../support/golden.js';

/** A published network with the fixture's weights and the published classifier. */
export function goldenModel(backboneName: string, publisher: string, size: number): ExportableModel {
  const golden = readForwardGolden(backboneName, publisher);
  const backbone = findBackbone(backboneName);
  const published = findPublished(backbone, publisher);
  const source = generatedSource(golden.tensors, 'safetensors');
  const plan = planWeights(source, backbone, published);
  const rows = new Map(plan.rows.flatMap((row) => (row.parameter ? [[row.parameter.path, row] as const] : [])));
  const inputSize = { height: size, width: size };
  return {
    record: recordOf(backboneName, publisher, inputSize, plan.classes!),
    graph: buildBackbone(published, { size: inputSize, classes: plan.classes }),
    read: (path) => readPlanned(source, rows.get(path)!),
  };
}

/** The same with a linear head for other classes in the classifier's place. */
export function publishedModel(
  backboneName: string,
  publisher: string,
  size: number,
  classes: number,
): ExportableModel {
  const golden = goldenModel(backboneName, publisher, size);
  const { inputSize } = golden.record;
  const published = findPublished(findBackbone(backboneName), publisher);
  const graph = withHead(buildBackbone(published, { size: inputSize }), { hidden: [], dropout: 0.5 }, classes);
  const head = randomParameters(graph);
  return {
    record: recordOf(backboneName, publisher, inputSize, classes),
    graph,
    read: (path) => (path.startsWith('head.') ? head(path) : golden.read(path)),
  };
}

/** A published network with random weights. */
export function randomModel(
  backboneName: string,
  publisher: string,
  size: { height: number; width: number },
  classes: number,
): ExportableModel {
  const graph = buildBackbone(findPublished(findBackbone(backboneName), publisher), { size, classes });
  return { record: recordOf(backboneName, publisher, size, classes), graph, read: randomParameters(graph) };
}

/** A few layers between a picture and a classifier of five classes, with random weights. */
export function smallModel(
  [height, width]: readonly [number, number],
  define: (s: Scope, x: Node) => Node,
): ExportableModel {
  const graph = buildGraph([height, width, 3], (s, x) => {
    const pooled = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), define(s, x)));
    return s.at('logits').tap(dense(s.at('classifier'), pooled, 5));
  });
  return { record: recordOf('small', 'test', { height, width }, 5), graph, read: randomParameters(graph) };
}

export function recordOf(
  backbone: string,
  source: string,
  inputSize: { height: number; width: number },
  classes: number,
): ExportableModel['record'] {
  return {
    formatVersion: 1,
    backbone,
    source,
    inputSize,
    head: { hidden: [], dropout: 0 },
    classes: Array.from({ length: classes }, (_, i) => `class ${i}`),
    preprocessing: tfPreprocessing,
    weights: { origin: 'generated', license: 'MIT' },
    data: { fingerprint: 'none', valSplit: 0.2, seed: 0 },
    toolkit: '0.0.0',
  };
}

/** The record of an export of it, unless something is to be otherwise. */
export function exportedRecord(record: ExportableModel['record'], more: Partial<ExportRecord> = {}): ExportRecord {
  const about = { format: 'tfjs', quantize: 'none', calibrated: false, input: 'normalised' } as const;
  return { ...exportRecordOf(record, about), ...more };
}

/** A tensor of pictures, as batches of nothing but pixels. */
export function picturesOf({ shape, data }: DenseArray): Pictures {
  return async function* () {
    yield { pixels: data, count: shape[0]! };
  };
}

/** Weights that keep values near one over many layers, and norms whose statistics are neither 0 nor 1. */
export function randomParameters(graph: Graph): ExportableModel['read'] {
  const parameters = new Map(graph.parameters.map((each) => [each.path, each]));
  return async (path) => {
    const { role, shape } = parameters.get(path)!;
    const inputs = shape.slice(0, role === 'depthwise.kernel' ? -2 : -1).reduce((a, b) => a * b, 1);
    if (role.endsWith('.kernel')) return generateTensor(path, shape, 0, Math.sqrt(6 / inputs));
    if (role === 'norm.gamma' || role === 'norm.variance') return generateTensor(path, shape, 1, 0.5);
    return generateTensor(path, shape, 0.1, 0.5);
  };
}
