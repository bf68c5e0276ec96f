/**
 * Damages real weights files of every format and reads every tensor of what is left:
 *
 *   node tools/fuzz.mjs [--count 10000] [--seed 1] [--format F] [--case NAME] [--index I] [--keep DIR] [--dist DIR] [--json]
 *
 * Each case is read in a process of its own with a limit of time and of memory. It has to end in a ToolkitError that
 * names the file and how to mend it, or in tensors; where a checksum covers them, in those that were written. Anything
 * else is a failure, printed with the options that repeat it alone (`--keep DIR` leaves the damaged files there). Some of
 * the damage is done behind the checksums, which are then put right, so that the parsers there are reached.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { corpus } from './fuzz/corpus.mjs';
import { mutateInside, resumIndex } from './fuzz/envelopes.mjs';
import { mutate } from './fuzz/mutations.mjs';
import { startReader } from './fuzz/watch.mjs';

/** Formats whose files may hold HDF5. */
const HDF5_INSIDE = new Set(['keras-h5', 'keras3', 'archive']);

const { values: options } = parseArgs({
  options: {
    count: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    format: { type: 'string' },
    case: { type: 'string' },
    index: { type: 'string' },
    keep: { type: 'string' },
    dist: { type: 'string', default: fileURLToPath(new URL('../dist', import.meta.url)) },
    json: { type: 'boolean', default: false },
  },
});
const dist = resolve(options.dist);
const load = (module) => import(pathToFileURL(join(dist, module)).href);
const { rng } = await load('rng.js');
const sums = await load('weights/crc32.js');
const say = (text) => process.stderr.write(`${text}\n`);

const scratch = mkdtempSync(join(tmpdir(), 'tl-fuzz-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

const reader = startReader(dist);
const failures = [];
const all = (await corpus(dist, sums)).filter((each) => options.format === undefined || each.format === options.format);
const cases = await undamaged(all.filter(({ name }) => options.case === undefined || name === options.case));
if (cases.length === 0) {
  say(`nothing to damage: no readable file of --format ${options.format ?? '(any)'} --case ${options.case ?? '(any)'}`);
  process.exit(2);
}

const began = performance.now();
const formats = [...new Set(cases.map(({ format }) => format))];
const rows = new Map(formats.map((format) => [format, new Map()]));
let slowest = { ms: 0 };
let largest = { peak: 0 };
const indexes = options.index === undefined ? range(Number(options.count)) : [Number(options.index)];
for (const index of indexes) {
  // formats take turns, and in each its files
  const format = formats[index % formats.length];
  const own = cases.filter((each) => each.format === format);
  const chosen = own[Math.floor(index / formats.length) % own.length];
  const { name } = chosen;
  const random = rng(options.seed).split(name).split(index);
  const damaged = damage(chosen, own[random.integer(own.length)], random);
  const start = performance.now();
  const reply = await readCase(chosen, damaged.files, index);
  const outcome = judge(chosen, damaged, reply);
  const seen = { format, name, index, kind: damaged.kind };
  const ms = performance.now() - start;
  if (ms > slowest.ms) slowest = { ...seen, ms: Math.round(ms) };
  if (reply.peak > largest.peak) largest = { ...seen, peak: reply.peak };
  const row = rows.get(format);
  const key = outcome.failed ? 'FAILED' : (outcome.code ?? outcome.is);
  row.set(key, (row.get(key) ?? 0) + 1);
  if (outcome.failed) {
    failures.push({ ...seen, is: outcome.is, message: outcome.message });
    say(`${describe(seen)}: ${outcome.is}: ${outcome.message}`);
  }
  if (options.keep !== undefined) write(resolve(options.keep), damaged.files);
}
reader.stop();
report();
process.exitCode = failures.length > 0 ? 1 : 0;

/** Reads every file as it is; those that this version does not read are named and left out. */
async function undamaged(given) {
  const readable = [];
  const left = [];
  for (const each of given) {
    const reply = await readCase(each, each.files, 'original');
    if (reply.outcome === 'read') readable.push({ ...each, digests: reply.digests });
    else if (reply.outcome !== 'refused') failures.push({ name: each.name, is: reply.outcome, message: reply.message });
    else left.push(`${each.name} (${reply.code ?? reply.outcome})`);
  }
  if (left.length > 0) say(`not damaged, since they are refused as they are: ${left.join(', ')}`);
  return readable;
}

/** One damaged copy of a case: of one of its files, behind its checksums or not, or of which files there are. */
function damage({ files, format }, other, random) {
  const names = [...files.keys()];
  const out = new Map(files);
  const name = names[random.integer(names.length)];
  if (names.length > 1 && random.integer(12) === 0) {
    const second = names[random.integer(names.length)];
    const ways = {
      'file lost': () => void out.delete(name),
      'file empty': () => void out.set(name, Buffer.alloc(0)),
      'files swapped': () => void out.set(name, files.get(second)).set(second, files.get(name)),
    };
    const kind = Object.keys(ways)[random.integer(3)];
    ways[kind]();
    return { kind, files: out };
  }
  const donors = [...other.files.values()];
  const donor = donors[random.integer(donors.length)];
  const behind = random.integer(5) < 2;
  const { kind, bytes } = behind ? mutateInside(files.get(name), random, sums) : mutate(files.get(name), random, donor);
  out.set(name, bytes);
  const index = names.find((each) => each.endsWith('.index'));
  if (behind && format !== 'archive' && index !== undefined && index !== name) {
    out.set(index, resumIndex(files.get(index), bytes, sums)); // of one shard; the others' sums are then wrong
  }
  return { kind: behind ? `${kind}, sums put right` : kind, files: out, behind, other };
}

async function readCase({ way, file, format, options: more }, files, index) {
  const folder = join(scratch, 'case');
  rmSync(folder, { recursive: true, force: true });
  write(folder, files);
  const home = way === 'store' ? folder : join(scratch, 'home');
  mkdirSync(home, { recursive: true });
  const request = { id: index, way, folder, file: join(folder, file), home, options: more };
  const reply = await reader.ask(request, HDF5_INSIDE.has(format));
  const unpacked = join(home, 'tmp');
  const left =
    way === 'store'
      ? []
      : readdirSync(home, { recursive: true })
          .map(String)
          .filter((each) => each !== 'tmp');
  rmSync(unpacked, { recursive: true, force: true });
  return { ...reply, left };
}

function write(folder, files) {
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of files) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
}

/** What an answer comes to: right, unchecked or refused, or a failure. */
function judge({ digests, checked }, { kind, behind, other }, reply) {
  const { outcome, code, message } = reply;
  const failed = (is, text) => ({ failed: true, is, message: text });
  if (outcome !== 'read' && outcome !== 'refused') return failed(outcome, message);
  if (reply.open.length > 0) return failed('left open', reply.open.join(', '));
  if (reply.left.length > 0) return failed('left behind', reply.left.join(', '));
  if (outcome === 'refused') return { is: 'refused', code };
  if (behind || checked === undefined) return { is: 'read, unchecked' };
  const wrong = Object.entries(reply.digests).filter(([name, digest]) => {
    if (kind === 'splice' && other.digests[name] === digest) return false; // all of the other file
    return name in digests ? digests[name] !== digest : checked === 'all' && kind !== 'splice';
  });
  if (wrong.length > 0) return failed('wrong', wrong.map(([name]) => name).join(', '));
  const lost = Object.keys(digests).filter((name) => !(name in reply.digests));
  if (checked === 'all' && lost.length > 0 && kind !== 'splice') return failed('lost', lost.join(', '));
  return { is: 'read, right' };
}

function describe({ format, name, index, kind }) {
  return `--seed ${options.seed} --format ${format} --case ${name} --index ${index} (${kind})`;
}

function report() {
  const seconds = (performance.now() - began) / 1000;
  const table = [...rows].map(([format, outcomes]) => ({ format, outcomes: Object.fromEntries(outcomes) }));
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ count: indexes.length, seed: options.seed, seconds, table, failures })}\n`,
    );
    return;
  }
  const lines = table.map(({ format, outcomes }) => {
    const total = Object.values(outcomes).reduce((a, b) => a + b, 0);
    const list = Object.entries(outcomes).sort((a, b) => b[1] - a[1]);
    return `${format.padEnd(14)} ${String(total).padStart(6)}  ${list.map(([is, n]) => `${is} ${n}`).join(', ')}`;
  });
  process.stdout.write(
    `${indexes.length} mutations of ${cases.length} files, seed ${options.seed}, ${seconds.toFixed(0)} s, ${failures.length} failures\n` +
      `${lines.join('\n')}\n` +
      `slowest ${slowest.ms} ms: ${describe(slowest)}\n` +
      `largest process ${Math.round(largest.peak / 1e6)} MB: ${describe(largest)}\n`,
  );
}

function range(length) {
  return Array.from({ length }, (_, i) => i);
}
