import { beforeAll, describe, expect, it } from 'vitest';
import { asset } from '../../tools/assets.mjs';
import { startChild } from './setup-child.js';

/** topk calls `util.isNullOrUndefined` and stacking of variables `util.isArray`, which newer versions of Node lack or report. */
const SCRIPT = `
const { name } = await loadEngine({ engine: 'tensorflow' });
const product = tf.matMul([[1, 2], [3, 4]], [[5, 6], [7, 8]]);
const image = tf.ones([1, 6, 6, 2]);
const convolved = tf.conv2d(image, tf.ones([3, 3, 2, 4]), 1, 'valid');
process.stdout.write(JSON.stringify({
  name,
  major: Number(process.versions.node.split('.')[0]),
  product: [...product.dataSync()],
  sum: tf.sum(convolved).dataSync()[0],
  top: [...tf.topk([1, 5, 3], 2).values.dataSync()],
  split: tf.split(tf.tensor1d([1, 2, 3, 4]), 2).map((part) => [...part.dataSync()]),
}));
`;

describe.each([20, 22, 24])('Node %i', (major) => {
  let node = '';
  beforeAll(async () => {
    const own = Number(process.versions.node.split('.')[0]);
    node = own === major ? process.execPath : await asset(`node-${major}`);
  });

  it('loads the native engine, computes, and prints no warning', async () => {
    const { status, stdout, stderr } = await startChild(SCRIPT, { node }).ended;
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      name: 'tensorflow',
      major,
      product: [19, 22, 43, 50],
      sum: 4 * 4 * 9 * 2 * 4,
      top: [5, 3],
      split: [
        [1, 2],
        [3, 4],
      ],
    });
  });
});
