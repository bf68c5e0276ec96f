/**
 * Ours and its peers side by side: `npm run bench [-- --only GROUP]... [--case NAME]... [--peer SIDE]... [--rounds N]
 * [--threads N] [--out DIR] [--dist DIR]`.
 *
 * All sides of a case get the same generated weights, pictures, batch and threads. Every round starts a fresh process of
 * each, one after the other, in reversed order each time; the first numbers of each are compared with its peers' before
 * its times count. A round gives one ratio, the peer's median step / ours; the table shows the median of the rounds'
 * ratios and their spread, and the ratio of the fastest steps, which other work on the machine disturbs least. The
 * peers' Python environments are made where they are missing. Exit code 1 where a promise is not kept.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { cases } from './cases.mjs';
import { assertBuilt, machine, revision, root, say, setUpReferences } from './environment.mjs';
import { writeReport } from './report.mjs';
import { measure } from './rounds.mjs';
import { sideNames } from './sides.mjs';
import { markdownOf, tableOf } from './summary.mjs';

function readOptions() {
  const text = (value) => ({ type: 'string', ...(value === undefined ? {} : { default: value }) });
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      case: { type: 'string', multiple: true },
      peer: { type: 'string', multiple: true },
      rounds: text(),
      threads: text(String(availableParallelism())),
      out: text(join(root, 'bench', 'results')),
      dist: text(join(root, 'dist')),
    },
  });
  const known = { only: groups, case: cases.map(({ name }) => name), peer: sideNames };
  for (const [option, names] of Object.entries(known)) {
    const unknown = (values[option] ?? []).filter((name) => !names.includes(name));
    if (unknown.length > 0) throw new Error(`--${option} ${unknown.join(', ')}: expected one of ${names.join(', ')}`);
  }
  const whole = (option) => {
    const number = values[option] === undefined ? undefined : Number(values[option]);
    if (number === undefined || (Number.isInteger(number) && number > 0)) return number;
    throw new Error(`--${option}: a whole number from 1, not ${values[option]}`);
  };
  return {
    chosen: chosenCases(values),
    some: [...(values.only ?? []), ...(values.case ?? []), ...(values.peer ?? [])],
    rounds: whole('rounds'),
    threads: whole('threads'),
    dist: resolve(values.dist),
    out: resolve(values.out),
  };
}

const groups = [...new Set(cases.map(({ group }) => group))];

/** The cases of the groups and names that were asked for, with the rows of the peers that were. */
function chosenCases({ only, case: names, peer }) {
  const all = only === undefined && names === undefined;
  return cases
    .filter(({ group, name }) => all || only?.includes(group) || names?.includes(name))
    .map((of) => ({ ...of, rows: of.rows.filter((row) => peer === undefined || peer.includes(row.peer)) }))
    .filter(({ rows }) => rows.length > 0);
}

async function main() {
  const options = readOptions();
  assertBuilt(options.dist);
  setUpReferences();
  const began = performance.now();
  const rows = [];
  const failures = [];
  for (const of of options.chosen) {
    try {
      rows.push(...(await measure(of, options)));
    } catch (error) {
      failures.push(error.message); // the other cases are worth their time
      say(error.message);
    }
  }
  const date = new Date().toISOString().slice(0, 10);
  const minutes = (performance.now() - began) / 60_000;
  const record = { date, minutes, machine: machine(), threads: options.threads, revision: revision(), rows, failures };
  const name = [date, ...options.some].join('-').replaceAll(/[^\w.-]+/g, '-');
  const path = join(options.out, name);
  const replaced = existsSync(`${path}.md`);
  await writeReport(path, markdownOf(record, options.chosen), record);
  console.log(tableOf(rows));
  say(`${replaced ? 'replaced' : 'written'}: ${path}.md and .json, after ${minutes.toFixed(1)} minutes`);
  const loads = rows.flatMap((row) => row.loads);
  if (Math.max(0, ...loads) > options.threads / 2 + 1) say('note: the machine was busy with other work, see the loads');
  const unclear = rows.filter(({ reached }) => reached === 'unclear');
  if (unclear.length > 0)
    say(`unclear, since median and fastest disagree: ${unclear.map((row) => `${row.case} / ${row.peer}`).join(', ')}`);
  for (const failure of failures) say(`failed: ${failure}`);
  return failures.length === 0 && rows.every(({ reached }) => reached === undefined || reached === 'yes') ? 0 : 1;
}

process.exitCode = await main().catch((error) => {
  say(error.message);
  return 1;
});
