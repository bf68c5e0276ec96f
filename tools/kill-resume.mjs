/**
 * Kills runs with SIGKILL at random moments, lets each go on with --resume until it is done, and compares what it leaves
 * behind with a run that was not killed:
 *
 *   node tools/kill-resume.mjs [--kills 20] [--seed 1] [--case NAME] [--keep DIR] [--dist DIR] [--json]
 *
 * Half of the moments are random in time, from the start of the process on; the others fall while a file is being
 * written, of the run or of the frozen part's output. Everything is compared byte by byte but what the clock decides:
 * the columns seconds and images_per_second of history.csv, seconds in metrics.json, the report's pages and the times in
 * TensorBoard's files. `--keep DIR` leaves the runs there.
 */
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));

export const common = [
  '--source',
  'keras',
  '--weights',
  'none',
  '--input-size',
  '64',
  '--seed',
  '3',
  '--deterministic',
];

/** What is trained: with slots, dropout, random changes and a schedule, so that there is much to lose. */
export const cases = {
  /** Everything is trained; a state this small is written every few seconds. */
  whole: [
    ...['--backbone', 'mobilenet_v1_0.25', '--freeze', 'none', '--optimizer', 'adam', '--augment', 'standard'],
    ...['--head-dropout', '0.3', '--epochs', '16', '--warmup', '1', '--tensorboard'],
  ],
  /** What is frozen is computed once, and kept in files. */
  kept: [
    ...['--backbone', 'mobilenet_v1_0.25', '--freeze', 'last:2', '--optimizer', 'sgd', '--augment', 'flip'],
    ...['--head', 'mlp:64', '--head-dropout', '0.5', '--label-smoothing', '0.1', '--epochs', '120', '--cache', 'disk'],
  ],
  /** Two networks one after the other, averages of the weights, updates over two batches, and an end that may come early. */
  phases: [
    ...['--backbone', 'mobilenet_v1_0.25', '--two-stage', '4', '--freeze', 'last:3', '--optimizer', 'adamw'],
    ...['--ema', '0.9', '--accumulate', '2', '--clip-norm', '1', '--mixup', '0.4', '--patience', '5', '--epochs', '14'],
  ],
  /** A state so large that it is written at the end of every epoch. */
  large: [
    ...['--backbone', 'mobilenet_v1_0.25', '--freeze', 'backbone', '--optimizer', 'adamw', '--augment', 'flip'],
    ...['--head', 'mlp:24000', '--head-dropout', '0.5', '--epochs', '8', '--tensorboard'],
  ],
};

/** Columns and fields that the clock decides. */
const CLOCK = ['seconds', 'images_per_second'];

/** Ends of the names of what is on its way to its own name: see src/files.ts. */
export const isUnfinished = (name) => /^\..*\.(tmp|old)$/.test(name);

/** How long after a file was begun a process is killed, at the most. */
const WITHIN_MS = 150;

/**
 * @param options.kills how many processes are killed
 * @param options.of commands by name, as `cases` has them
 * @param options.pictures to train on, of each class
 * @returns what was done, a row a killed process, and what differed
 */
export async function killAndResume({ kills, seed, of = cases, folder, dist = DIST, pictures = 24, say = () => {} }) {
  const { rng } = await import(pathToFileURL(join(dist, 'rng.js')).href);
  const { toolkitHome } = await import(pathToFileURL(join(dist, 'engine/setup/home.js')).href);
  const engine = realpathSync(join(toolkitHome(), 'engine'));
  const random = rng(seed).split('kills');
  const data = join(folder, 'data');
  await writePictures(data, pictures, rng(seed).split('pictures'));
  const names = Object.keys(of);

  /** A run of its own: its folder, its command, and a TL_HOME in which nothing is kept yet. */
  const place = (name, title) => {
    const home = join(folder, `home-${title}`);
    mkdirSync(home);
    symlinkSync(engine, join(home, 'engine'));
    const run = join(folder, title);
    return { run, home, begin: ['finetune', '--data', data, '--out', run, ...common, ...of[name]] };
  };

  const whole = {};
  for (const name of names) {
    const at = place(name, `${name}-whole`);
    const { ms, code, stderr, writes } = await runProcess(dist, at, at.begin, undefined);
    if (code !== 0) throw new Error(`${name}: a run that nobody killed ended with ${code}:\n${stderr}`);
    whole[name] = { ...at, ms, writes };
    say(
      `${name}: ${(ms / 1000).toFixed(1)} s when nobody kills it, ${writes} files and folders written beside their names`,
    );
  }

  const rows = [];
  const faults = [];
  for (let trial = 1; rows.length < kills; trial++) {
    const name = names[(trial - 1) % names.length];
    const at = place(name, `${name}-${trial}`);
    const most = Math.min(1 + random.integer(3), kills - rows.length);
    for (let killed = 0, share = 1; ; ) {
      const command = existsSync(join(at.run, 'args.json')) ? ['finetune', '--resume', at.run] : at.begin;
      const moment = killed < most ? momentOf(random, rows.length, whole[name], share) : undefined;
      const { code, stderr, ms } = await runProcess(dist, at, command, moment);
      if (code === 'SIGKILL') {
        killed++;
        share = 0.5;
        rows.push({ case: name, trial, moment: describe(moment), ms: Math.round(ms), left: whatIsLeft(at.run) });
        say(
          `${rows.length}. ${name} ${trial}: killed after ${Math.round(ms)} ms (${describe(moment)}): ${rows.at(-1).left}`,
        );
        continue;
      }
      if (code !== 0) faults.push(`${name} ${trial}: ended with ${code}:\n${stderr}`);
      if (code !== 0 || killed > 0) break;
      // It was faster than the moment: the same run anew, for another moment.
      rmSync(at.run, { recursive: true });
      rmSync(join(at.home, 'features'), { recursive: true, force: true });
    }
    const different = await differences(dist, whole[name].run, at.run);
    faults.push(...different.map((each) => `${name} ${trial}: ${each}`));
    say(
      different.length === 0
        ? `   ${name} ${trial}: the same as without`
        : different.map((each) => `   DIFFERS: ${each}`).join('\n'),
    );
    rmSync(at.home, { recursive: true, force: true });
  }
  return { rows, faults };
}

/** @param share of the time that the run takes, as it has done a part of it already */
function momentOf(random, index, { ms, writes }, share) {
  if (index % 2 === 0) return { afterMs: random.uniform() * ms * share };
  const nth = 1 + random.integer(Math.max(1, Math.round(writes * share)));
  return { nth, withinMs: random.uniform() ** 2 * WITHIN_MS };
}

const describe = ({ afterMs, nth, withinMs }) =>
  nth === undefined ? `at ${Math.round(afterMs)} ms` : `${withinMs.toFixed(1)} ms into write ${nth}`;

/** Where a killed run stands, in words. */
function whatIsLeft(run) {
  if (!existsSync(join(run, 'args.json'))) return 'nothing yet';
  const checkpoint = join(run, 'last', 'checkpoint.json');
  const epoch = existsSync(checkpoint) ? JSON.parse(readFileSync(checkpoint, 'utf8')).epoch : undefined;
  const unfinished = readdirSync(run).filter(isUnfinished);
  return [
    epoch === undefined ? 'no checkpoint' : `checkpoint of epoch ${epoch}`,
    ...(existsSync(join(run, 'metrics.json')) ? ['metrics'] : []),
    ...unfinished.map((name) => `unfinished ${name.replace(/^\.(.*)\.[^.]+\.(tmp|old)$/, '$1 ($2)')}`),
  ].join(', ');
}

/** Runs the command, and kills it at the moment. */
function runProcess(dist, { run, home }, argv, moment) {
  const began = performance.now();
  const child = spawn(process.execPath, [join(dist, 'cli/main.js'), ...argv, '--quiet'], {
    env: { ...process.env, TL_HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const kill = () => child.kill('SIGKILL');
  const timer = moment?.afterMs === undefined ? undefined : setTimeout(kill, moment.afterMs);
  const seen = new Set();
  const look = setInterval(() => {
    for (const name of [...unfinishedIn(run), ...unfinishedIn(join(home, 'features'), true)]) {
      if (seen.has(name)) continue;
      seen.add(name);
      if (seen.size === moment?.nth) setTimeout(kill, moment.withinMs);
    }
  }, 1);
  return new Promise((done) => {
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      clearInterval(look);
      done({ code: signal ?? status, stderr, ms: performance.now() - began, writes: seen.size });
    });
  });
}

function unfinishedIn(folder, recursive = false) {
  try {
    return readdirSync(folder, { recursive }).filter((name) => isUnfinished(name.split('/').at(-1)));
  } catch {
    return []; // not there yet, or just replaced
  }
}

/** What two runs differ in, but for the clock. */
export async function differences(dist, one, other) {
  const [names, others] = [one, other].map((run) => filesIn(run).filter((name) => !name.startsWith('tensorboard/')));
  const faults = [];
  for (const name of new Set([...names, ...others])) {
    if (!names.includes(name)) faults.push(`${name} is there, and should not be`);
    else if (!others.includes(name)) faults.push(`${name} is not there`);
    else if (!equal(name, join(one, name), join(other, name))) faults.push(`${name} is another`);
  }
  const [events, otherEvents] = await Promise.all([one, other].map((run) => scalarsIn(dist, run)));
  if (events !== otherEvents) faults.push(`tensorboard/: ${otherEvents} instead of ${events}`);
  return faults;
}

const filesIn = (folder) =>
  readdirSync(folder, { recursive: true })
    .filter((name) => statSync(join(folder, name)).isFile())
    .map((name) => relative('.', name))
    .sort();

function equal(name, one, other) {
  const [a, b] = [one, other].map((file) => readFileSync(file));
  if (name === 'history.csv') return withoutColumns(a) === withoutColumns(b);
  if (name === 'metrics.json') return withoutClock(a) === withoutClock(b);
  if (name.endsWith('.html')) return true; // says how long it took
  return a.equals(b);
}

function withoutColumns(csv) {
  const rows = csv
    .toString()
    .trimEnd()
    .split('\n')
    .map((line) => line.split(','));
  return JSON.stringify(rows.map((row) => row.filter((_, i) => !CLOCK.includes(rows[0][i]))));
}

const withoutClock = (json) =>
  JSON.stringify(JSON.parse(json), (key, value) => (CLOCK.includes(key) ? undefined : value));

/** Every scalar of TensorBoard's files, in their order. */
async function scalarsIn(dist, run) {
  const folder = join(run, 'tensorboard');
  if (!existsSync(folder)) return '';
  const { allOf, fieldsOf, numberOf, textOf } = await import(
    pathToFileURL(join(dist, 'weights/checkpoint/protobuf.js')).href
  );
  const scalars = [];
  for (const name of filesIn(folder)) {
    const bytes = readFileSync(join(folder, name));
    for (let at = 0; at < bytes.length; ) {
      const length = Number(bytes.readBigUInt64LE(at)); // a record: length, checksum, event, checksum
      const event = fieldsOf(name, bytes.subarray(at + 12, at + 12 + length));
      at += 16 + length;
      for (const summary of allOf(event, 5)) {
        for (const value of allOf(fieldsOf(name, summary), 1)) {
          const fields = fieldsOf(name, value);
          const number = fields.find(({ number }) => number === 2).bytes.readFloatLE();
          scalars.push(`${name.split('/')[0]} ${textOf(fields, 1)} ${numberOf(event, 2)} ${number}`);
        }
      }
    }
  }
  return scalars.sort().join('; ');
}

/** Three classes that can be told apart, and noise. */
export async function writePictures(folder, perClass, random) {
  const looks = { brick: [190, 80, 50], moss: [70, 150, 60], sky: [90, 130, 210] };
  for (const [split, count] of Object.entries({ train: perClass, val: Math.ceil(perClass / 3) })) {
    for (const [name, colour] of Object.entries(looks)) {
      mkdirSync(join(folder, split, name), { recursive: true });
      for (let i = 0; i < count; i++) {
        const own = random.split(`${split} ${name} ${i}`);
        const [width, height] = [40 + own.integer(30), 35 + own.integer(30)];
        const pixels = Uint8Array.from({ length: width * height * 3 }, (_, at) =>
          Math.max(0, Math.min(255, colour[at % 3] + 60 * own.normal())),
        );
        await sharp(pixels, { raw: { width, height, channels: 3 } })
          .png()
          .toFile(join(folder, split, name, `${i}.png`));
      }
    }
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '20' },
      seed: { type: 'string', default: '1' },
      case: { type: 'string' },
      keep: { type: 'string' },
      dist: { type: 'string', default: DIST },
      json: { type: 'boolean', default: false },
    },
  });
  const folder = values.keep === undefined ? mkdtempSync(join(tmpdir(), 'tl-kills-')) : resolve(values.keep);
  mkdirSync(folder, { recursive: true });
  try {
    const { rows, faults } = await killAndResume({
      kills: Number(values.kills),
      seed: Number(values.seed),
      of: values.case === undefined ? cases : { [values.case]: cases[values.case] },
      folder,
      dist: resolve(values.dist),
      say: (line) => process.stderr.write(`${line}\n`),
    });
    if (values.json) process.stdout.write(`${JSON.stringify({ rows, faults })}\n`);
    process.stderr.write(
      `${rows.length} processes killed; ${faults.length === 0 ? 'every run ended as one that was not' : `${faults.length} faults:\n${faults.join('\n')}`}\n`,
    );
    process.exitCode = faults.length === 0 ? 0 : 1;
  } finally {
    if (values.keep === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
