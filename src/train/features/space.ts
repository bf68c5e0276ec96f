/**
 * The folder of kept rows, `$TL_HOME/features`, and how much may lie in it. It may be removed at any time: a run that
 * finds nothing computes it again.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, rm, stat, statfs } from 'node:fs/promises';
import { basename, join, sep } from 'node:path';
import { toolkitHome } from '../../engine/setup/home.js';
import { isLeftBehind } from '../../files.js';

/** End of the names of files of rows. */
export const SEGMENT_ENDING = '.rows';

/** The folder of all kept rows. */
export const featuresFolder = (): string => join(toolkitHome(), 'features');

/**
 * The most that lies in the folder, unless a run that asked for it needs more: what 30,000 pictures at the last three
 * blocks of a ResNet-50 take, in both of their mirrorings (14 x 14 x 1024 float32 each).
 */
export const MOST_BYTES = 50e9;

/** Of the space that is free, or would be without the kept rows. */
const MOST_OF_FREE = 0.5;

/** No run lasts so long that a file of it stands unfinished for more, if it cannot be known whether it still runs. */
const ABANDONED_AFTER_MS = 7 * 24 * 60 * 60 * 1000;

interface Kept {
  readonly path: string;
  readonly bytes: number;
  readonly usedMs: number;
}

/** Every file below the folder, unfinished ones too. */
async function listKept(): Promise<Kept[]> {
  const folder = featuresFolder();
  if (!existsSync(folder)) return [];
  const names = await readdir(folder, { recursive: true });
  const found = await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      const info = await stat(path).catch(() => undefined); // another run may just have removed it
      return info?.isFile() ? [{ path, bytes: info.size, usedMs: info.mtimeMs }] : [];
    }),
  );
  return found.flat();
}

/** What a run needs, and whether it said so itself. */
export interface Need {
  readonly bytes: number;
  /** Its own folder, whose files stay. */
  readonly folder: string;
  /** Only what is free on the disk is then a limit. */
  readonly insists: boolean;
  /** {@link MOST_BYTES} when absent. */
  readonly most?: number;
}

/**
 * Sees to it that so much can be written, by removing what has not been used for the longest time.
 * @returns false where it cannot be, and nothing was removed for it
 */
export async function makeSpace({ bytes, folder, insists, most = MOST_BYTES }: Need): Promise<boolean> {
  await mkdir(folder, { recursive: true });
  const all = await listKept();
  const isAbandoned = ({ path, usedMs }: Kept): boolean =>
    path.endsWith('.tmp') && (isLeftBehind(basename(path)) || Date.now() - usedMs > ABANDONED_AFTER_MS);
  for (const { path } of all.filter(isAbandoned)) await rm(path, { force: true });
  const kept = all.filter((each) => !isAbandoned(each));
  const sum = (files: readonly Kept[]): number => files.reduce((total, each) => total + each.bytes, 0);
  const { bavail, bsize } = await statfs(folder);
  const reachable = bavail * bsize + sum(kept);
  const limit = insists ? reachable : Math.min(most, MOST_OF_FREE * reachable);
  const removable = kept.filter(({ path }) => path.endsWith(SEGMENT_ENDING) && !path.startsWith(join(folder, sep)));
  if (sum(kept) - sum(removable) + bytes > limit) return false;
  let total = sum(kept);
  for (const { path, bytes: size } of removable.sort((a, b) => a.usedMs - b.usedMs)) {
    if (total + bytes <= limit) break;
    await rm(path, { force: true }).catch(() => undefined); // Windows removes no file that somebody reads
    total -= size;
  }
  return true;
}
