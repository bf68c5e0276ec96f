import { existsSync } from 'node:fs';
import { usePicturesAddon } from '../../src/addon.js';
import { picturesFileOf } from '../../src/engine/setup/build.js';
import { findSetUp } from '../../src/engine/setup/home.js';

process.env.TF_CPP_MIN_LOG_LEVEL ??= '2'; // as the engine sets it before the library loads

const engine = findSetUp('cpu');
const built = engine && picturesFileOf(engine.packageDir);

/** Of the engine that `tl setup` built; undefined where it found one whose binary it could download, which has none. */
export const addonFile = built !== undefined && existsSync(built) ? built : undefined;

if (engine?.record.how === 'built' && addonFile === undefined) throw new Error(`${built} is missing`);

/** What `work` gives while this thread uses the addon. */
export async function withAddon<T>(work: () => T | Promise<T>): Promise<T> {
  usePicturesAddon(addonFile);
  try {
    return await work();
  } finally {
    usePicturesAddon(undefined);
  }
}
