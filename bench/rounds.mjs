/** Rounds of fresh processes, side by side, and what they come to. */
import { load, say } from './environment.mjs';
import { pictureFolder } from './pictures.mjs';
import { prepareProgram } from './programs.mjs';
import { median } from './report.mjs';
import { rowsOf, runSide } from './sides.mjs';

/** bfloat16 keeps 8 bits of a number: about one part in 256 of each, and sums of thousands of them average that out. */
const BFLOAT16_TOLERANCE = 5e-2;

const oursOf = ({ ours = 'ours' }) => ours;

/** The sides that the rows of a case name, each once. */
const sidesOf = (rows) => [...new Set(rows.flatMap((row) => [row.peer, oursOf(row)]))];

/** Largest difference relative to the largest absolute value of the reference. */
function difference(actual, expected) {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const largest = Math.max(...expected.map(Math.abs));
  const worst = Math.max(...expected.map((value, i) => Math.abs(value - actual[i])));
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst / largest;
}

const isOnce = ({ rows }, side) => rows.some((row) => row.peer === side && row.once === true);

/** @throws where two sides do not compute the same: their times are then worth nothing */
function compare(of, row, peer, ours) {
  if (row.otherOutput === true) return Number.NaN;
  const differences = peer.outputs.map((expected, i) => difference(ours.outputs[i], expected));
  const reduced = oursOf(row).endsWith('bfloat16');
  if (reduced && differences.every((found) => found < 1e-5))
    throw new Error(`${of.name}: ${oursOf(row)} computes what float32 does, so it is not bfloat16`);
  differences.forEach((found, i) => {
    const bound = reduced ? BFLOAT16_TOLERANCE : (of.tolerances[i] ?? of.tolerances.at(-1));
    if (found <= bound) return;
    const numbers = `${ours.outputs[i].slice(0, 3)}, expected ${peer.outputs[i].slice(0, 3)}`;
    throw new Error(
      `${of.name}: ${oursOf(row)} and ${row.peer} differ by ${found.toExponential(1)} in step ${i + 1}, ` +
        `allowed ${bound}: ${numbers}`,
    );
  });
  return differences[0];
}

/**
 * Measures a case. Every process's first numbers are compared with its peers' before its times are looked at; the
 * order of the sides is reversed each round.
 */
export async function measure(of, { rounds, threads, dist }) {
  const sides = sidesOf(of.rows);
  const { warmUp, steps, tolerances } = of;
  const task = { case: of, threads, dist, warmUp, steps, keep: tolerances.length };
  if (of.network !== undefined) task.rows = await rowsOf(of);
  if (of.wholeProgram) task.files = await prepareProgram(of, task, sides);
  else if (of.pictures !== undefined) task.files = await pictureFolder(of.pictures);
  const found = [];
  for (let round = 0; round < (rounds ?? of.rounds); round++) {
    const records = { load: load() };
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      if (round > 0 && isOnce(of, side)) {
        records[side] = found[0][side];
        continue;
      }
      const { timesMs, ...record } = await runSide(side, task);
      records[side] = { ...record, timesMs, ms: median(timesMs) };
      say(`${of.name}: round ${round + 1}: ${side} ${records[side].ms.toFixed(0)} ms`);
    }
    for (const row of of.rows) compare(of, row, records[row.peer], records[oursOf(row)]);
    found.push(records);
  }
  return of.rows.map((row) => summaryOf(of, row, found));
}

/** The fastest timed step of a side: what it takes when nothing else runs, as near as these rounds came to that. */
const fastest = (rounds, side) => Math.min(...rounds.flatMap((round) => round[side].timesMs));

function summaryOf(of, row, rounds) {
  const ours = oursOf(row);
  const ratios = rounds.map((round) => round[row.peer].ms / round[ours].ms);
  const most = (side) => Math.max(...rounds.map((round) => round[side].peakBytes));
  const summary = {
    case: of.name,
    peer: row.peer,
    ours,
    peerMs: median(rounds.map((round) => round[row.peer].ms)),
    oursMs: median(rounds.map((round) => round[ours].ms)),
    ratio: median(ratios),
    ratioLeast: Math.min(...ratios),
    ratioMost: Math.max(...ratios),
    ratioFastest: fastest(rounds, row.peer) / fastest(rounds, ours),
    peerPeakBytes: most(row.peer),
    oursPeakBytes: most(ours),
    difference: compare(of, row, rounds[0][row.peer], rounds[0][ours]),
    runs: { peer: rounds[0][row.peer].runs, ours: rounds[0][ours].runs },
    loads: rounds.map((round) => round.load),
    timesMs: { peer: rounds.map((round) => round[row.peer].timesMs), ours: rounds.map((round) => round[ours].timesMs) },
  };
  return row.atLeast === undefined ? summary : { ...summary, atLeast: row.atLeast, reached: verdict(summary, row) };
}

/** Other work on the machine can slow one side alone; then the median and the fastest steps tell different things. */
function verdict({ ratio, ratioFastest }, { atLeast }) {
  if (ratio >= atLeast && ratioFastest >= atLeast) return 'yes';
  return ratio < atLeast && ratioFastest < atLeast ? 'no' : 'unclear';
}
