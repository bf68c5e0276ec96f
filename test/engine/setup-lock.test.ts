import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { withLock } from '../../src/engine/setup/lock.js';

const scratch = await mkdtemp(join(tmpdir(), 'tl-lock-'));
afterAll(() => rm(scratch, { recursive: true }));
let count = 0;
const newLock = (): string => join(scratch, `lock-${count++}`);
const silent = { onWait: (): void => undefined };

/** Id of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ['-e', '']).pid;
}

describe('withLock', () => {
  it('lets one in at a time and tells the others once', async () => {
    const lock = newLock();
    let inside = 0;
    let told = 0;
    const work = async (): Promise<void> => {
      inside++;
      expect(inside).toBe(1);
      await sleep(100);
      inside--;
    };
    await Promise.all([1, 2, 3].map(() => withLock(lock, work, { onWait: () => told++ })));
    expect(told).toBe(2);
    expect(existsSync(lock)).toBe(false);
  });

  it('is released when the work fails', async () => {
    const lock = newLock();
    const failing = withLock(lock, () => Promise.reject(new Error('no')), silent);
    await expect(failing).rejects.toThrow('no');
    expect(existsSync(lock)).toBe(false);
  });

  it('is taken over at once from a process that is gone', async () => {
    const lock = newLock();
    await mkdir(lock);
    await writeFile(join(lock, 'owner'), `${deadPid()} ${hostname()}`);
    expect(await withLock(lock, async () => 'done', silent)).toBe('done');
  });

  it('is taken over from another machine that has not touched it for half a minute', async () => {
    const lock = newLock();
    await mkdir(lock);
    await writeFile(join(lock, 'owner'), '1 elsewhere');
    const old = new Date(Date.now() - 60_000);
    await utimes(lock, old, old);
    expect(await withLock(lock, async () => 'done', silent)).toBe('done');
  });

  it('is taken over where its holder died before it wrote its name', async () => {
    const lock = newLock();
    await mkdir(lock);
    const old = new Date(Date.now() - 60_000);
    await utimes(lock, old, old);
    expect(await withLock(lock, async () => 'done', silent)).toBe('done');
  });

  it('is respected while another machine touches it', async () => {
    const lock = newLock();
    await mkdir(lock);
    await writeFile(join(lock, 'owner'), '1 elsewhere');
    setTimeout(() => rm(lock, { recursive: true }), 400);
    const began = performance.now();
    await withLock(lock, async () => undefined, silent);
    expect(performance.now() - began).toBeGreaterThan(380);
  });
});
