/**
 * Private folders for weights that are unpacked before they are read by position. They lie below `$TL_HOME/tmp`, not in
 * the system's folder for temporary files: that one is often kept in memory (tmpfs), and an archive of weights has up to
 * a few GB. Converted weights go to `$TL_HOME` too, so there must be room on that disk anyway.
 */
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { toolkitHome } from '../../engine/setup/home.js';
import { fileError } from '../../files.js';

export interface TemporaryFolder {
  /** Only this user may enter it. */
  readonly path: string;
  /** Removes it with all that it holds; once more does nothing. */
  remove(): Promise<void>;
}

const PREFIX = 'unpacked-';

/** A killed process (SIGKILL, a power failure) leaves its folder; no import of weights lasts a day. */
const ABANDONED_AFTER_MS = 24 * 60 * 60 * 1000;

/** Signals that end a program which does not listen for them, without its `exit` event. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const living = new Set<string>();

/**
 * Makes an empty folder that only this user may enter (mode 0700, as mkdtemp(3) has it). It is gone when it is removed,
 * when the process exits, and when a signal ends it; what a killed process left is removed a day later.
 * @throws FILE_NOT_WRITTEN
 */
export async function makeTemporaryFolder(): Promise<TemporaryFolder> {
  const parent = join(toolkitHome(), 'tmp');
  let path: string;
  try {
    await mkdir(parent, { recursive: true });
    await removeAbandoned(parent);
    path = await mkdtemp(join(parent, PREFIX));
  } catch (error) {
    throw fileError('FILE_NOT_WRITTEN', parent, 'no folder for unpacked weights can be made', error);
  }
  if (living.size === 0) watchTheEnd();
  living.add(path);
  return {
    path,
    async remove() {
      try {
        await rm(path, { recursive: true, force: true });
      } catch (error) {
        throw fileError('FILE_NOT_WRITTEN', path, 'the unpacked weights cannot be removed', error);
      }
      if (living.delete(path) && living.size === 0) unwatchTheEnd();
    },
  };
}

async function removeAbandoned(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(PREFIX)) continue;
    const path = join(parent, name);
    const info = await stat(path).catch(() => undefined); // another process may just have removed it
    if (info === undefined || Date.now() - info.mtimeMs < ABANDONED_AFTER_MS) continue;
    await rm(path, { recursive: true, force: true });
  }
}

function watchTheEnd(): void {
  process.on('exit', removeLiving);
  for (const signal of SIGNALS) process.on(signal, endBy);
}

function unwatchTheEnd(): void {
  process.off('exit', removeLiving);
  for (const signal of SIGNALS) process.off(signal, endBy);
}

/** What must be done before the process is gone can only be done without waiting. */
function removeLiving(): void {
  for (const path of living) rmSync(path, { recursive: true, force: true });
  living.clear();
}

/** Where nobody else listens for the signal, it ends the process, as it would have done without us. */
function endBy(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  removeLiving();
  unwatchTheEnd();
  process.kill(process.pid, signal);
}
