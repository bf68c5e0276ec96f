/**
 * What an import costs, beside reading the file and writing as many bytes: `node bench/import.mjs [KIND...]`.
 *
 *   --rounds N   of each (default 5); odd rounds begin with the import, even ones with the baseline
 *   --files DIR  where the files are or are made, by Python (`import_files.py`; default a folder that is removed)
 *   --dist DIR   the compiled toolkit
 *
 * The baseline reads the file from its beginning to its end in pieces of 1 MiB, writes a file of the store's size beside
 * the store in pieces of 1 MiB, and flushes it as the store is flushed (fsync). Both are programs of their own, timed from
 * start to end; the file is in the system's cache, as after a download. Reported: medians of seconds and of each round's
 * ratio, the same of processor time, the most memory at once (getrusage), and how much of that is beyond the largest
 * tensor. On a busy machine processor time says more: hashing has a thread of its own, which then waits for a processor.
 */
import { execFile, execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { pythonOf, root, toolkitHome } from './environment.mjs';
import { median } from './report.mjs';

/** File -> network, source, Python environment that writes it. */
const KINDS = {
  'vit_h14.npz': ['vit_h14', 'flax', 'torch'],
  'vit_h14-deflated.npz': ['vit_h14', 'flax', 'torch'],
  'vit_h14.pth': ['vit_h14', 'torch', 'torch'],
  'vit_h14-stream.pth': ['vit_h14', 'torch', 'torch'],
  'vit_h14.safetensors': ['vit_h14', 'torch', 'torch'],
  'vit_h14.tar.gz': ['vit_h14', 'flax', 'torch'],
  'vgg16.h5': ['vgg16', 'keras', 'tf'],
  'vgg16.pth': ['vgg16', 'torch', 'torch'],
  'vgg16.ckpt': ['vgg16', 'slim', 'tf'],
};
const PIECE_BYTES = 2 ** 20;
/** Says at the end what a process used. */
const USED =
  "data:text/javascript,process.on('exit',()=>{const u=process.resourceUsage();process.stderr.write(' used '+u.maxRSS+' '+(u.userCPUTime+u.systemCPUTime))})";

const here = fileURLToPath(import.meta.url);
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    files: { type: 'string' },
    dist: { type: 'string', default: join(root, 'dist') },
    baseline: { type: 'string' },
    bytes: { type: 'string' },
  },
});

if (options.baseline !== undefined) {
  baseline(positionals, options.baseline, Number(options.bytes));
} else {
  await main();
}

/** Reads every file, writes `bytes` to `target`. */
function baseline(files, target, bytes) {
  const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  for (const path of files) {
    const file = openSync(path);
    while (readSync(file, piece) > 0);
    closeSync(file);
  }
  const out = openSync(target, 'w');
  for (let at = 0; at < bytes; at += PIECE_BYTES) writeSync(out, piece, 0, Math.min(PIECE_BYTES, bytes - at));
  fsyncSync(out);
  closeSync(out);
}

async function main() {
  const scratch = mkdtempSync(join(tmpdir(), 'tl-import-'));
  process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
  const folder = resolve(options.files ?? join(scratch, 'files'));
  mkdirSync(folder, { recursive: true });
  mkdirSync(join(scratch, 'home'));
  const engine = join(toolkitHome, 'engine');
  if (existsSync(engine)) symlinkSync(engine, join(scratch, 'home', 'engine'));
  process.stdout.write(
    'file                     MB  store  seconds: import / baseline = ratio (rounds)          processor seconds: the same                            peak MB  tensor  beyond\n',
  );
  for (const kind of positionals.length > 0 ? positionals : Object.keys(KINDS)) {
    await measure(kind, folder, join(scratch, 'home'));
    if (options.files === undefined) rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
}

async function measure(kind, folder, home) {
  const [backbone, source, environment] = KINDS[kind];
  write(kind, folder, environment);
  const path = join(folder, kind);
  const files = readdirSync(folder)
    .filter((name) => name === kind || name.startsWith(`${kind}.`))
    .map((name) => join(folder, name));
  const rounds = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    const own = () => importOf(path, backbone, source, home);
    const bytes = rounds.at(-1)?.own.bytes;
    if (bytes === undefined || round % 2 === 0) {
      const first = await own();
      rounds.push({ own: first, baseline: await baselineOf(files, home, first.bytes) });
    } else {
      const baseline = await baselineOf(files, home, bytes);
      rounds.push({ own: await own(), baseline });
    }
  }
  const size = files.reduce((sum, file) => sum + statSync(file).size, 0);
  const { bytes, tensor } = rounds[0].own;
  const peak = Math.max(...rounds.map(({ own }) => own.peak));
  const mb = (value, width) => String(Math.round(value / 1e6)).padStart(width);
  const both = (key) => {
    const [own, baseline] = ['own', 'baseline'].map((who) => median(rounds.map((round) => round[who][key])).toFixed(2));
    const ratios = rounds.map((round) => round.own[key] / round.baseline[key]);
    const list = ratios.map((ratio) => ratio.toFixed(1)).join(' ');
    return `${own.padStart(7)} /${baseline.padStart(6)} = ${median(ratios).toFixed(2)} (${list})`.padEnd(50);
  };
  const sizes = `${mb(size, 5)} ${mb(bytes, 6)} `;
  const memory = `${mb(peak, 5)} ${mb(tensor, 7)} ${mb(peak - tensor, 7)}`;
  process.stdout.write(`${kind.padEnd(21)} ${sizes} ${both('seconds')} ${both('processor')} ${memory}\n`);
}

/** A file is written once; an archive needs the one that it holds. */
function write(kind, folder, environment) {
  if (kind.endsWith('.tar.gz')) write('vit_h14.npz', folder, environment);
  const there = readdirSync(folder).some((name) => name === kind || name.startsWith(`${kind}.`));
  if (there) return;
  execFileSync(pythonOf(environment), [join(root, 'bench', 'import_files.py'), kind, join(folder, kind)], {
    stdio: 'inherit',
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', TF_CPP_MIN_LOG_LEVEL: '3' },
  });
}

async function importOf(path, backbone, source, home) {
  rmSync(join(home, 'weights'), { recursive: true, force: true });
  const words = ['import', path, '--backbone', backbone, '--source', source, '--json'];
  const { stdout, ...used } = await run([join(options.dist, 'cli', 'main.js'), ...words], home);
  const { rows, folder } = JSON.parse(stdout);
  const elements = rows.map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  const { size } = statSync(join(folder, 'weights.safetensors'));
  return { ...used, tensor: Math.max(...elements) * 4, bytes: size };
}

async function baselineOf(files, home, bytes) {
  const target = join(home, 'baseline');
  const used = await run([here, '--baseline', target, '--bytes', String(bytes), ...files], home);
  rmSync(target);
  return used;
}

/** Runs a program of Node: its output, its seconds from start to end, those of processors, and its memory in bytes. */
async function run(words, home) {
  const start = performance.now();
  const env = { ...process.env, TL_HOME: home };
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', USED, ...words], {
    env,
    maxBuffer: 2 ** 26,
  });
  const seconds = (performance.now() - start) / 1000;
  const [, kilobytes, microseconds] = /used (\d+) (\d+)/.exec(stderr);
  return { stdout, seconds, processor: Number(microseconds) / 1e6, peak: Number(kilobytes) * 1024 };
}
