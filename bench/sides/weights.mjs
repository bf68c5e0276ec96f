/** Generated weights by our own names, through the planner that reads the publishers' files. */
import { importFrom } from '../environment.mjs';
import { generateTensor } from '../generator.mjs';

const HEAD = { 'head.logits.kernel': 'head/kernel', 'head.logits.bias': 'head/bias' };
const FORMATS = { keras: 'keras-h5', torch: 'safetensors', timm: 'safetensors' };

/**
 * @param {string} dist our compiled code
 * @param {{ backbone: string, source: string }} network
 * @param {{ body: readonly unknown[][], head: readonly unknown[][] }} rows
 * @returns {Promise<(path: string) => Promise<Float32Array>>}
 */
export async function generatedWeights(dist, network, rows) {
  const { findBackbone, findPublished } = await importFrom(dist, 'backbones/index.js');
  const { assertComplete } = await importFrom(dist, 'weights/plan/faults.js');
  const { planWeights, readPlanned } = await importFrom(dist, 'weights/plan/plan.js');
  const byName = new Map([...rows.body, ...rows.head].map((row) => [row[0], row]));
  const source = {
    format: FORMATS[network.source],
    path: 'generated weights',
    tensors: rows.body.map(([name, shape]) => ({ name, dtype: 'float32', shape })),
    metadata: {},
    read: async (name) => generateTensor(...byName.get(name)),
    close: async () => {},
  };
  const backbone = findBackbone(network.backbone);
  const plan = planWeights(source, backbone, findPublished(backbone, network.source));
  assertComplete(plan, source.path);
  const planned = new Map(plan.rows.map((row) => [row.parameter?.path, row]));
  return async (path) => {
    const row = planned.get(path);
    return row === undefined ? generateTensor(...byName.get(HEAD[path])) : readPlanned(source, row);
  };
}
