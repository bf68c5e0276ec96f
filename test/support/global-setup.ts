/**
 * Runs once before all tests: compiles `dist/` where `src/` is newer, since some tests start the built command line,
 * and makes the native engine ready where it is missing. On a machine that has both it takes well under a second.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setUpEngine } from '../../src/engine/setup/index.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

export default async function prepare(): Promise<void> {
  if (newest(join(root, 'src')) > newest(join(root, 'dist'))) {
    const { status, stdout } = spawnSync(process.execPath, [join(root, 'tools', 'build.mjs')], { encoding: 'utf8' });
    if (status !== 0) throw new Error(`tools/build.mjs exited with ${status}:\n${stdout}`);
  }
  const { how, tensorflowVersion, seconds } = await setUpEngine();
  console.error(`engine: TensorFlow ${tensorflowVersion}, ${how} in ${seconds.toFixed(1)} s`);
}

/** Time of the youngest file below a folder, in milliseconds; 0 where there is none. */
function newest(dir: string): number {
  let latest = 0;
  try {
    for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
      if (entry.isFile()) latest = Math.max(latest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs);
    }
  } catch {
    // not built yet
  }
  return latest;
}
