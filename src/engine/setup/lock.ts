/** One setup at a time: a folder that only one process can make. */
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const HEARTBEAT_MS = 2_000;

/** A lock whose holder has not touched it for this long is abandoned; the holder touches it every 2 s. */
const STALE_MS = 30_000;

/** How {@link withLock} waits. */
export interface Waiting {
  /** Called once if another process holds the lock. */
  readonly onWait: () => void;
  /** Ends the waiting; whatever was begun is left to end by itself. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `work` while holding the lock; waits for another holder first.
 * @throws AbortError when `signal` ends the waiting, or what `work` throws
 */
export async function withLock<T>(dir: string, work: () => Promise<T>, { onWait, signal }: Waiting): Promise<T> {
  let told = false;
  while (!(await take(dir))) {
    if (await isAbandoned(dir)) {
      await discard(dir);
      continue;
    }
    if (!told) onWait();
    told = true;
    await sleep(250, undefined, signal === undefined ? {} : { signal });
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    utimes(dir, now, now).catch(() => undefined);
  }, HEARTBEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    await rm(dir, { recursive: true, force: true });
  }
}

async function take(dir: string): Promise<boolean> {
  try {
    await mkdir(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  await writeFile(join(dir, 'owner'), `${process.pid} ${hostname()}`);
  return true;
}

async function isAbandoned(dir: string): Promise<boolean> {
  try {
    if (Date.now() - (await stat(dir)).mtimeMs > STALE_MS) return true;
    const [pid, host] = (await readFile(join(dir, 'owner'), 'utf8')).split(' ');
    return host === hostname() && !isAlive(Number(pid));
  } catch {
    return false; // just released, or just taken and its owner not written yet
  }
}

/** Renaming is atomic, so of several waiters that find it abandoned one wins and the others see it gone. */
async function discard(dir: string): Promise<void> {
  const grave = `${dir}.abandoned-${process.pid}`;
  try {
    await rename(dir, grave);
    await rm(grave, { recursive: true, force: true });
  } catch {
    // another waiter was faster
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
