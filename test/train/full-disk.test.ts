/**
 * A run that cannot write ends with an error that says so, leaves its last checkpoint whole, and goes on from it. No file
 * may grow beyond a limit here (setrlimit(2), RLIMIT_FSIZE); tools/full-disk.mjs fills real disks.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { isUnfinished } from '../../src/files.js';
import { featuresFolder } from '../../src/train/features/space.js';
import {
  expectEqual,
  pictureFolder,
  startingWeights,
  type Traces,
  temporary,
  traces,
  train,
} from './support/training.js';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

let data: string;
let whole: Traces;
/** Stopped after two of three epochs. */
let stopped: string;
beforeAll(async () => {
  data = await pictureFolder('pictures', 7, 2);
  const settings = {
    data,
    weights: await startingWeights('mobilenet_v1_0.25', 'keras'),
    freeze: 'last:2',
    augment: 'flip',
    optimizer: 'adam',
    tensorboard: true,
    cache: 'disk',
  } as const;
  whole = await traces((await train(settings)).runFolder);
  const controller = new AbortController();
  const aborting = { epoch: ({ epoch }: { epoch: number }) => void (epoch === 2 && controller.abort()) };
  stopped = (await train({ ...settings, signal: controller.signal }, aborting)).runFolder;
});

let copies = 0;
const copy = (): string => {
  const folder = temporary(`full-${copies++}`);
  cpSync(stopped, folder, { recursive: true });
  return folder;
};

/** Goes on where no file may grow beyond so many kilobytes. */
function resumeWithin(kilobytes: number, folder: string) {
  const command = ['-c', 'ulimit -f "$0"; exec "$@"', String(kilobytes), process.execPath, main];
  const { status, stderr } = spawnSync('bash', [...command, 'finetune', '--resume', folder], { encoding: 'utf8' });
  return { status, stderr };
}

/** Every file of a folder and below: name -> content. */
function contentOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
  return new Map(files.map(({ parentPath, name }) => [name, readFileSync(join(parentPath, name), 'base64')]));
}

// Of such a run the weights have 0.9 MB, the page and the pictures less than 0.4, TensorBoard's files less than 1 kB.
test.each([
  [600, 'the model', /error\[FILE_NOT_WRITTEN\]: .*\.safetensors: cannot be written: the file grew larger/],
  [
    0,
    'the history',
    /error\[FILE_NOT_WRITTEN\]: .*: (TensorBoard's files )?cannot be written: .*(File too|grew) large/,
  ],
])('files of at most %i kB: %s', async (kilobytes, _, said) => {
  const folder = copy();
  const before = contentOf(join(folder, 'last'));
  const { status, stderr } = resumeWithin(kilobytes, folder);
  expect(stderr).toMatch(said);
  expect(stderr).toMatch(/\nfix: /);
  expect(status).toBe(1);
  expect(readdirSync(folder).filter(isUnfinished)).toEqual([]);
  expect(contentOf(join(folder, 'last'))).toEqual(before);
  await train({ data, resume: folder });
  expectEqual(await traces(folder), whole);
});

test("the frozen part's output", async () => {
  const folder = copy();
  rmSync(featuresFolder(), { recursive: true });
  const { status, stderr } = resumeWithin(20, folder);
  expect(stderr).toMatch(/error\[FILE_NOT_WRITTEN\]: .*\.rows: cannot be written: the file grew larger/);
  expect(status).toBe(1);
  const left = readdirSync(featuresFolder(), { recursive: true, encoding: 'utf8' });
  expect(left.filter((name) => isUnfinished(basename(name)))).toEqual([]); // the rows that fitted are a file
  await train({ data, resume: folder });
  expectEqual(await traces(folder), whole);
});
