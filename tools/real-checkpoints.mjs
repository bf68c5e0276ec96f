/**
 * Google's MobileNet v1 with its ImageNet weights, which a package ships as a frozen graph, written again by TensorFlow
 * 1's Saver in both versions: all 137 tensors must be the same bits in the three files. `node tools/real-checkpoints.mjs`
 * needs the environments of `npm run golden`, and a build.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openWeights } from '../dist/weights/source.js';
import { asset } from './assets.mjs';
import { python } from './references.mjs';

const TENSORS = 137; // slim's, of version 1.0

const folder = await mkdtemp(join(tmpdir(), 'tl-real-'));
const graph = await openWeights(await asset('mobilenet_v1_1.0_224.pb'));
try {
  const { stdout } = await python('tf', 'parity_slim.py', 'real-files', folder);
  for (const name of stdout.trim().split('\n')) {
    const checkpoint = await openWeights(join(folder, name));
    let equal = 0;
    for (const tensor of checkpoint.tensors) {
      const [expected, actual] = [await graph.read(tensor.name), await checkpoint.read(tensor.name)];
      if (Buffer.from(expected.buffer).equals(Buffer.from(actual.buffer))) equal++;
      else console.error(`${name}: ${tensor.name} differs`);
    }
    await checkpoint.close();
    console.log(`${name}: version ${checkpoint.metadata.version}, ${equal} of ${TENSORS} tensors are the same bits`);
    if (equal !== TENSORS || checkpoint.tensors.length !== TENSORS) process.exitCode = 1;
  }
} finally {
  await graph.close();
  await rm(folder, { recursive: true, force: true });
}
