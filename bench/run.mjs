/**
 * Ours and Keras side by side: `npm run bench [-- --rounds N] [--case NAME]... [--threads N] [--peer keras2|keras3]
 * [--out DIR] [--dist DIR]`.
 *
 * Both sides get the same generated weights, pictures, batch and threads. Before anything is timed, the first numbers
 * of both are compared. Then every round starts a fresh process of each, one after the other, in reversed order each
 * time, and times the same steps after the same warm-up. A round gives one ratio, the peer's median step / ours; the
 * table shows the median of the rounds' ratios and their spread, and the ratio of the fastest steps, which other work
 * on the machine disturbs least. The peer is today's Keras on the TensorFlow that ours runs too; `--peer keras2` is the
 * last Keras 2, on TensorFlow 2.15, whose compiled graphs train faster on some processors. Exit code 1 where a promised ratio is not reached by both.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cases } from './cases.mjs';
import { assertBuilt, load, machine, pythonOf, revision, root, runJson, say, setUpReferences } from './environment.mjs';
import { median, table, writeReport } from './report.mjs';

/** Largest relative difference of the first step's loss, or of the outputs' largest absolute value. */
const TOLERANCE = 1e-3;
/**
 * Of the loss after two updates. Adam's first step has every weight move by the learning rate in the sign of its
 * gradient, so that the rounding of gradients near zero shows in later losses; a wrong update changes far more.
 */
const LATER_TOLERANCE = 1e-2;
/** Losses compared: the first sees the forward pass, the third two updates. */
const LOSSES = 3;

const PEERS = { keras2: 'tf', keras3: 'keras3' };

const file = (name) => fileURLToPath(new URL(name, import.meta.url));

function readOptions() {
  const text = (value) => ({ type: 'string', default: value });
  const { values } = parseArgs({
    options: {
      rounds: text('5'),
      case: { type: 'string', multiple: true },
      threads: text(String(availableParallelism())),
      peer: text('keras3'),
      out: text(join(root, 'bench', 'results')),
      dist: text(join(root, 'dist')),
    },
  });
  const rounds = Number(values.rounds);
  const threads = Number(values.threads);
  const unknown = (values.case ?? []).filter((name) => !cases.some((each) => each.name === name));
  if (unknown.length > 0) throw new Error(`no case ${unknown.join(', ')}: ${cases.map(({ name }) => name).join(', ')}`);
  if (!(Number.isInteger(rounds) && rounds > 0))
    throw new Error(`--rounds: a whole number from 1, not ${values.rounds}`);
  if (!(Number.isInteger(threads) && threads > 0)) throw new Error(`--threads: from 1, not ${values.threads}`);
  if (!(values.peer in PEERS)) throw new Error(`--peer: ${Object.keys(PEERS).join(' or ')}, not ${values.peer}`);
  const chosen = cases.filter(({ name }) => values.case === undefined || values.case.includes(name));
  return { ...values, rounds, threads, chosen, dist: resolve(values.dist), out: resolve(values.out) };
}

/** Both sides behind one interface: a task in, a record out. */
function sidesOf({ peer, dist, threads }) {
  return {
    peer: (task) => runJson(pythonOf(PEERS[peer]), [file('peer.py')], { ...task, threads }),
    ours: (task) => runJson(process.execPath, [file('ours.mjs')], { ...task, threads, dist }),
  };
}

/** Largest difference relative to the largest absolute value of the reference. */
function difference(actual, expected) {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const largest = Math.max(...expected.map(Math.abs));
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - actual[i])));
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst / largest;
}

/** @throws where the two sides do not compute the same */
async function compare(of, rows, sides) {
  const training = of.work === 'train';
  const task = { case: of, rows, warmUp: 0, steps: training ? LOSSES : 1, keep: training ? LOSSES : 1 };
  const peer = await sides.peer(task);
  const ours = await sides.ours(task);
  const differences = peer.outputs.map((expected, i) => difference(ours.outputs[i], expected));
  differences.forEach((found, i) => {
    const bound = i === 0 ? TOLERANCE : LATER_TOLERANCE;
    if (found <= bound) return;
    const numbers = training ? `: ${ours.outputs[i][0]}, expected ${peer.outputs[i][0]}` : '';
    throw new Error(`${of.name}: step ${i + 1} differs by ${found.toExponential(1)}, allowed ${bound}${numbers}`);
  });
  const losses = training ? { peer: peer.outputs.flat(), ours: ours.outputs.flat() } : undefined;
  return { differences, losses, runs: { peer: peer.runs, ours: ours.runs } };
}

async function measure(of, options) {
  const sides = sidesOf(options);
  say(`${of.name}: comparing`);
  const rows = await runJson(pythonOf('tf'), [file('peer.py'), 'rows'], { case: of });
  const compared = await compare(of, rows, sides);
  say(`${of.name}: first step differs by ${compared.differences[0].toExponential(1)}`);
  const rounds = [];
  const task = { case: of, rows, warmUp: of.warmUp, steps: of.steps, keep: 0 };
  for (let round = 0; round < options.rounds; round++) {
    const order = round % 2 === 0 ? ['peer', 'ours'] : ['ours', 'peer'];
    const found = { order, load: load() };
    for (const side of order) {
      const { timesMs, peakBytes } = await sides[side](task);
      found[side] = { ms: median(timesMs), timesMs, peakBytes };
    }
    found.ratio = found.peer.ms / found.ours.ms;
    rounds.push(found);
    say(
      `${of.name}: round ${round + 1} of ${options.rounds}: Keras ${found.peer.ms.toFixed(0)} ms, ` +
        `ours ${found.ours.ms.toFixed(0)} ms, ratio ${found.ratio.toFixed(2)}`,
    );
  }
  return { case: of, ...compared, rounds };
}

/** The fastest timed step of a side: what it takes when nothing else runs, as near as these rounds came to that. */
const fastest = (rounds, side) => Math.min(...rounds.flatMap((round) => round[side].timesMs));

function summaryOf({ case: of, differences, rounds }) {
  const ratios = rounds.map(({ ratio }) => ratio);
  const summary = {
    name: of.name,
    peerMs: median(rounds.map(({ peer }) => peer.ms)),
    oursMs: median(rounds.map(({ ours }) => ours.ms)),
    ratio: median(ratios),
    ratioLeast: Math.min(...ratios),
    ratioMost: Math.max(...ratios),
    ratioFastest: fastest(rounds, 'peer') / fastest(rounds, 'ours'),
    peerPeakBytes: Math.max(...rounds.map(({ peer }) => peer.peakBytes)),
    oursPeakBytes: Math.max(...rounds.map(({ ours }) => ours.peakBytes)),
    firstDifference: differences[0],
  };
  return of.atLeast === undefined
    ? summary
    : { ...summary, atLeast: of.atLeast, reached: verdict(summary, of.atLeast) };
}

/** Other work on the machine can slow one side alone; then the median and the fastest steps tell different things. */
function verdict({ ratio, ratioFastest }, atLeast) {
  if (ratio >= atLeast && ratioFastest >= atLeast) return 'yes';
  return ratio < atLeast && ratioFastest < atLeast ? 'no' : 'unclear';
}

const HEAD = [
  'case',
  'Keras ms',
  'ours ms',
  'Keras / ours',
  'spread',
  'fastest',
  'Keras peak',
  'ours peak',
  'first differs',
  'promised',
];

function rowOf(summary) {
  const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
  const { atLeast, reached } = summary;
  return [
    summary.name,
    summary.peerMs.toFixed(0),
    summary.oursMs.toFixed(0),
    summary.ratio.toFixed(2),
    `${summary.ratioLeast.toFixed(2)}-${summary.ratioMost.toFixed(2)}`,
    summary.ratioFastest.toFixed(2),
    gigabytes(summary.peerPeakBytes),
    gigabytes(summary.oursPeakBytes),
    summary.firstDifference.toExponential(0),
    atLeast === undefined ? '' : `>= ${atLeast.toFixed(2)} ${reached}`,
  ];
}

function describe(of) {
  const pictures = `${of.batch} pictures of ${of.side}x${of.side}`;
  const what =
    of.work === 'train'
      ? `one step of full fine-tuning with Adam on ${pictures}, batch norms in training mode, a linear head of ${of.classes} classes`
      : `pre_logits of ${pictures}, everything frozen`;
  return `- **${of.name}**: ${of.backbone} (Keras' variant), ${what}; the other side: keras.applications.${of.application}, \`${of.keras}\`.`;
}

function markdownOf({ date, machine: of, threads, rounds, runs, revision: measured, results, summaries, loads }) {
  return `# Ours and Keras, ${date}

${table(HEAD, summaries.map(rowOf))}

${results.map(({ case: each }) => describe(each)).join('\n')}

Both sides have the same generated weights, pictures, batch and threads, start from arrays in their own memory and end
with the loss, or the output, back in it. ${rounds} rounds of one fresh process each, the order reversed every round; a
round's ratio is that of the two medians of its timed steps, the table has the median of the rounds' ratios. Fastest:
the same ratio of each side's fastest step in all rounds. Peak: the most memory a process held. First differs: the first step's loss, or the outputs, relative to Keras', before any timing.

- ours: ${runs.ours}, revision ${measured}
- Keras: ${runs.peer}
- ${of.cpu}, ${of.cores} cores (${of.flags.join(', ')}), ${of.memoryGb} GB, ${of.system}, Node ${of.node}
- ${threads} threads; load average before a round ${Math.min(...loads)} to ${Math.max(...loads)}
`;
}

async function main() {
  const options = readOptions();
  assertBuilt(options.dist);
  setUpReferences();
  const results = [];
  for (const of of options.chosen) results.push(await measure(of, options));
  const summaries = results.map(summaryOf);
  const date = new Date().toISOString().slice(0, 10);
  const record = {
    date,
    machine: machine(),
    threads: options.threads,
    rounds: options.rounds,
    runs: results[0].runs,
    revision: revision(),
    summaries,
    results,
  };
  const loads = results.flatMap(({ rounds }) => rounds.map((round) => round.load));
  const some = options.chosen.length < cases.length ? `-${options.chosen.map(({ name }) => name).join('-')}` : '';
  const peer = options.peer === 'keras2' ? '' : `-${options.peer}`;
  const path = join(options.out, `${date}${some}${peer}`);
  const replaced = existsSync(`${path}.md`);
  await writeReport(path, markdownOf({ ...record, loads }), record);
  console.log(table(HEAD, summaries.map(rowOf)));
  say(`${replaced ? 'replaced' : 'written'}: ${path}.md and .json`);
  if (Math.max(...loads) > options.threads / 2)
    say('note: the machine was busy with other work; see the load averages');
  const unclear = summaries.filter(({ reached }) => reached === 'unclear').map(({ name }) => name);
  if (unclear.length > 0)
    say(`unclear: ${unclear.join(', ')}: median and fastest disagree; repeat it on a quiet machine`);
  return summaries.every(({ reached }) => reached === undefined || reached === 'yes') ? 0 : 1;
}

process.exitCode = await main().catch((error) => {
  say(error.message);
  return 1;
});
