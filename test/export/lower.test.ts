/** The plain form that every format is written from: a well-formed graph, and the same function before any fusing. */

import { expect, test } from 'vitest';
import { buildGraph } from '../../src/engine/graph.js';
import { activation, conv2d, dense, depthwiseConv2d, globalAveragePool } from '../../src/engine/layers.js';
import { fuseOperations } from '../../src/export/lowering/fuse.js';
import { lowerGraph } from '../../src/export/lowering/lower.js';
import { goldenModel, randomParameters } from './models.js';
import { expectWellFormed, picturesFor, plainLogits, relativeDifference, sourceLogits } from './stock.js';

const cases = [
  ['mobilenet_v1_0.25', 'keras', 65],
  ['mobilenet_v2_0.35', 'slim', 65],
  ['resnet50', 'slim', 33],
] as const;

test.each(cases)('%s %s is a well-formed graph of plain operations', (backbone, source, size) => {
  const { graph, read } = goldenModel(backbone, source, size);
  const network = lowerGraph(graph, read);
  expectWellFormed(network);
  expect(network.operations.some(({ op }) => op.includes('Fused') || op.startsWith('_'))).toBe(false);
});

test.each(cases)('%s %s computes the same, fused or not', async (backbone, source, size) => {
  const model = goldenModel(backbone, source, size);
  const pictures = picturesFor(model, 2);
  const expected = await sourceLogits(model, pictures);
  const network = lowerGraph(model.graph, model.read);
  expect(relativeDifference(await plainLogits(network, pictures), expected)).toBeLessThan(1e-4);
  expect(relativeDifference(await plainLogits(fuseOperations(network), pictures), expected)).toBeLessThan(1e-4);
});

test('padding of a depthwise convolution is an operation, or an attribute where that is asked for', () => {
  const padding = { top: 0, bottom: 1, left: 0, right: 1 };
  const graph = buildGraph([8, 8, 3], (s, x) => {
    const y = depthwiseConv2d(s.at('d'), x, 3, { stride: 2, padding });
    return s.at('logits').tap(dense(s.at('f'), globalAveragePool(s.at('p'), y), 2));
  });
  const ops = (depthwisePadding: 'attribute' | 'operation') =>
    lowerGraph(graph, randomParameters(graph), { depthwisePadding }).operations.slice(0, 2);
  expect(ops('operation')).toMatchObject([
    { op: 'Pad', inputs: ['input', 'd/paddings'] },
    { op: 'DepthwiseConv2dNative', inputs: ['d/Pad', 'd/kernel'], attributes: { padding: { value: 'VALID' } } },
  ]);
  expect(ops('attribute')[0]).toMatchObject({
    op: 'DepthwiseConv2dNative',
    attributes: { padding: { value: 'EXPLICIT' }, explicit_paddings: { value: [0, 0, 0, 1, 0, 1, 0, 0] } },
  });
});

test('what is needed in between is not fused away', () => {
  const graph = buildGraph([8, 8, 3], (s, x) => {
    const y = conv2d(s.at('c'), x, 4, 3, { bias: true });
    const z = conv2d(s.at('d'), activation(s.at('a'), y, 'relu'), 4, 3, { bias: true });
    const w = conv2d(s.at('e'), y, 4, 3);
    const joined = conv2d(s.at('g'), activation(s.at('h'), z, 'relu6'), 4, 1, { bias: true });
    const pooled = globalAveragePool(s.at('p'), joined);
    globalAveragePool(s.at('q'), w);
    return s.at('logits').tap(dense(s.at('f'), pooled, 2));
  });
  const fused = fuseOperations(lowerGraph(graph, randomParameters(graph))).operations;
  const brief = fused.map(({ name, op, attributes }) => [name, op, attributes.fused_ops?.value]);
  expect(brief).toEqual([
    ['a/relu/Relu', '_FusedConv2D', ['BiasAdd', 'Relu']], // e is not needed for the logits, so nobody else needs c
    ['h/relu6/Relu6', '_FusedConv2D', ['BiasAdd', 'Relu6']],
    ['g/BiasAdd', '_FusedConv2D', ['BiasAdd']],
    ['p/average/Mean', 'Mean', undefined],
    ['f/BiasAdd', '_FusedMatMul', ['BiasAdd']],
    ['logits', 'Identity', undefined],
    ['probabilities', 'Softmax', undefined],
  ]);
});
