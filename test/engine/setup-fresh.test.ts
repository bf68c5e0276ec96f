import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, it } from 'vitest';
import { picturesFileOf } from '../../src/engine/setup/build.js';
import { type EngineRecord, findSetUp, packageDirIn, RECORD_FILE } from '../../src/engine/setup/home.js';
import type { SetupReport } from '../../src/engine/setup/index.js';
import { engineKey, TENSORFLOW_VERSION } from '../../src/engine/setup/recipe.js';
import { startChild } from './setup-child.js';

const home = await mkdtemp(join(tmpdir(), 'tl-fresh-'));
afterAll(() => rm(home, { recursive: true, force: true, maxRetries: 5 }));
const engines = join(home, 'engine');

const SETUP = `
const report = await setUpEngine({ onProgress: (line) => process.stderr.write(line + '\\n') });
process.stdout.write(JSON.stringify(report));
`;

/** `tl setup` in a home of its own, away from any project. */
const start = () => startChild(SETUP, { env: { TL_HOME: home }, cwd: tmpdir() });

/** Everything but unfinished work; an npm that has outlived a killed setup may still write to its folder. */
const finished = async (): Promise<string[]> =>
  (await readdir(engines)).filter((name) => !name.startsWith('.partial-'));

// One test, since each part goes on from what the one before left in the home: a whole setup is 15 s of work.
it('setup, killed midway, leaves no engine; then of two at once one makes it and the other finds it', async () => {
  const killed = start();
  while (!killed.stderr().includes('npm install')) await sleep(20);
  await sleep(500);
  killed.process.kill('SIGKILL');
  expect((await killed.ended).stdout).toBe('');
  expect(await finished()).toEqual(['.lock']);
  expect(findSetUp('cpu', engines)).toBeUndefined();

  // An engine that has lost its files stands in the way of the two, and the lock of a dead process.
  const damaged = join(engines, engineKey('cpu', TENSORFLOW_VERSION, process.platform, process.arch));
  await mkdir(packageDirIn(damaged, 'cpu'), { recursive: true });
  await writeFile(join(damaged, RECORD_FILE), '{ "packageName": "@tensorflow/tfjs-node" }');

  const both = await Promise.all([start().ended, start().ended]);
  const reports = both.map(({ stdout }) => JSON.parse(stdout) as SetupReport);
  const made = reports.find(({ how }) => how === 'built' || how === 'prebuilt')!;
  const found = reports.find(({ how }) => how === 'ready')!;
  expect(both[reports.indexOf(made)]!.stderr).toContain('it does not work');
  expect(both[reports.indexOf(found)]!.stderr).toContain('waiting for another setup to finish');
  expect(found).toMatchObject({ engineDir: made.engineDir, tensorflowVersion: made.tensorflowVersion });
  expect(await finished()).toContain(basename(made.engineDir));
  expect(await finished()).not.toContain('.lock');

  const record = JSON.parse(await readFile(join(made.engineDir, RECORD_FILE), 'utf8')) as EngineRecord;
  expect(record).toMatchObject({ packageName: '@tensorflow/tfjs-node', kind: 'cpu', how: made.how });
  expect(made.engineDir).toContain(`tf${record.tensorflowVersion}-cpu-${process.platform}-${process.arch}`);

  const script = `
    const { version } = await loadEngine({ engine: 'tensorflow' });
    process.stdout.write(version + ' ' + picturesAddonFile());`;
  const used = await startChild(script, { env: { TL_HOME: home }, cwd: tmpdir() }).ended;
  const addon = made.how === 'built' ? picturesFileOf(packageDirIn(made.engineDir, 'cpu')) : undefined;
  expect(used).toEqual({ status: 0, stdout: `${record.tensorflowVersion} ${addon}`, stderr: '' });
});
