/**
 * Runs once before all tests: compiles `dist/` where `src/` is newer, since some tests start the built command line,
 * and makes the native engine ready where it is missing. Where both are there it takes half a second.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../src/engine/setup/command.js';
import { setUpEngine } from '../../src/engine/setup/index.js';
import { withLock } from '../../src/engine/setup/lock.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const src = join(root, 'src');
const dist = join(root, 'dist');

/** Five seconds where nothing else runs. */
const BUILD_TIMEOUT_MS = 300_000;

export default async function prepare(): Promise<void> {
  if (isStale()) {
    const waiting = (): void => console.error('waiting for another build');
    await withLock(join(root, 'node_modules', '.tl-build-lock'), build, { onWait: waiting });
  }
  const { how, tensorflowVersion, seconds } = await setUpEngine();
  console.error(`engine: TensorFlow ${tensorflowVersion}, ${how} in ${seconds.toFixed(1)} s`);
}

/** Type errors do not stop the tests: the compiler writes its output all the same, and the type check reports them. */
async function build(): Promise<void> {
  if (!isStale()) return;
  const { failure, stdout } = await runCommand(process.execPath, [join(root, 'tools', 'build.mjs')], {
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  if (!existsSync(dist)) throw new Error(`${failure ?? 'tools/build.mjs wrote nothing'}:\n${stdout}`);
  if (failure) console.error(`dist/ is built in spite of type errors (npm run typecheck):\n${stdout}`);
}

function isStale(): boolean {
  return newest(src) > newest(dist);
}

/** Time of the youngest file below a folder, in milliseconds; 0 where there is none. */
function newest(dir: string): number {
  if (!existsSync(dir)) return 0;
  const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Math.max(0, ...files.map((entry) => statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs));
}
