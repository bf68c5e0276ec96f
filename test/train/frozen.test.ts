/** What is frozen stays as it was to the bit, statistics of batch norms too; what is trained changes. */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { cutAt } from '../../src/engine/graph.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { pictureFolder, startingWeights, tensorsOf, train, weightsOf } from './support/training.js';

let data: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 4, 2);
});

/** Strategy, the tap it cuts at, and how many tensors are trained: a block of v1 has 10, one of v2 15, its top 5. */
type Row = [freeze: string, tap: string | undefined, count: number];
const v1: Row[] = [
  ['none', undefined, 137],
  ['backbone', 'pre_logits', 2],
  ['last:3', 'block10', 3 * 10 + 2],
  ['until:block7', 'block7', 6 * 10 + 2],
  ['until:stem', 'stem', 13 * 10 + 2],
];
const v2: Row[] = [['last:2', 'block14', 2 * 15 + 5 + 2]];

describe.each([
  { backbone: 'mobilenet_v1_0.25', source: 'keras', strategies: v1 },
  { backbone: 'mobilenet_v2_0.35', source: 'slim', strategies: v2 },
])('$backbone $source', ({ backbone, source, strategies }) => {
  let weights: string;
  let start: Map<string, string>;
  beforeAll(async () => {
    weights = await startingWeights(backbone, source);
    start = await tensorsOf(weights);
  });

  test.each(strategies)('--freeze %s', async (freeze, tap, count) => {
    // Weight decay would change even what has no gradient.
    const decay = { optimizer: 'adamw', weightDecay: 0.1 } as const;
    const { runFolder, metrics } = await train({ data, backbone, source, weights, freeze, lr: 1e-3, ...decay });
    expect(metrics.epochs).toBe(3);
    const { graph, close } = await openModelFolder(join(runFolder, 'last'));
    await close();
    const nodes = tap === undefined ? graph.nodes : cutAt(graph, tap, 'logits').after;
    const trained = new Set(nodes.flatMap((node) => node.parameters.map(({ path }) => path)));
    expect(trained.size).toBe(count);

    for (const folder of ['best', 'last']) {
      const after = await weightsOf(join(runFolder, folder));
      expect([...after.keys()]).toEqual(graph.parameters.map(({ path }) => path));
      for (const [path, bytes] of start) {
        expect(after.get(path) === bytes, `${folder}: ${path} is as it was`).toBe(!trained.has(path));
      }
    }
    // Moving statistics are among what changed, wherever the batch norm is trained, and among what did not elsewhere.
    const statistics = [...start.keys()].filter((path) => /\.(mean|variance)$/.test(path));
    const moved = statistics.filter((path) => trained.has(path)).length;
    expect(moved > 0).toBe(freeze !== 'backbone');
    expect(moved < statistics.length).toBe(freeze !== 'none');
  });
});
