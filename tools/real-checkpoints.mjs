/**
 * Google's MobileNet v1 with its ImageNet weights, which a package ships as a frozen graph, written again by TensorFlow
 * 1's Saver in both versions: all 137 tensors must be the same bits in the three files. `node tools/real-checkpoints.mjs`
 * needs the environments of `npm run golden`, and a build.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openWeights } from '../dist/weights/source.js';
import { asset } from './assets.mjs';

const run = promisify(execFile);
const golden = fileURLToPath(new URL('golden', import.meta.url));
const goldenHome = process.env.TL_GOLDEN_HOME ?? join(homedir(), '.cache', 'tl', 'golden');
const TENSORS = 137; // slim's, of version 1.0

const folder = await mkdtemp(join(tmpdir(), 'tl-real-'));
const graph = await openWeights(await asset('mobilenet_v1_1.0_224.pb'));
try {
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3', PYTHONDONTWRITEBYTECODE: '1', PYTHONWARNINGS: 'ignore' };
  const python = join(goldenHome, 'tf', 'bin', 'python');
  const { stdout } = await run(python, [join(golden, 'parity_slim.py'), 'real-files', folder], { env });
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
