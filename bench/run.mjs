/**
 * Ours and its peers side by side: `npm run bench [-- --only GROUP]... [--case NAME]... [--peer SIDE]... [--rounds N]
 * [--threads N] [--out DIR] [--dist DIR]`.
 *
 * All sides of a case get the same generated weights, pictures, batch and threads. Every round starts a fresh process of
 * each, one after the other, in reversed order each time; the first numbers of each are compared with its peers' before
 * its times count. A round gives one ratio, the peer's median step / ours; the table shows the median of the rounds'
 * ratios and their spread, and the ratio of the fastest steps, which other work on the machine disturbs least. The
 * peers' Python environments are made where they are missing. Behind the table stands what is promised of ours alone
 * (checks.mjs). `--only scale` is not part of the default run, and takes long. Exit code 1 where a promise is not kept.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { cases } from './cases.mjs';
import { checks } from './checks.mjs';
import { assertBuilt, machine, revision, root, say, setUpReferences } from './environment.mjs';
import { writeReport } from './report.mjs';
import { measure } from './rounds.mjs';
import { sideNames } from './sides.mjs';
import { checkTableOf, markdownOf, tableOf } from './summary.mjs';

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
  const known = { only: groups, case: [...cases, ...checks].map(({ name }) => name), peer: sideNames };
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
    chosenChecks: values.peer === undefined ? checks.filter(isChosen(values)) : [],
    some: [...(values.only ?? []), ...(values.case ?? []), ...(values.peer ?? [])],
    rounds: whole('rounds'),
    threads: whole('threads'),
    dist: resolve(values.dist),
    out: resolve(values.out),
  };
}

const groups = [...new Set([...cases, ...checks].map(({ group }) => group))];
/** Takes half an hour by itself, and is measured when it is asked for. */
const ONLY_WHEN_ASKED = 'scale';

/** Whether a case or check is of the groups and names that were asked for; without any, all but the longest. */
function isChosen({ only, case: names }) {
  const all = only === undefined && names === undefined;
  return ({ group, name }) =>
    all ? group !== ONLY_WHEN_ASKED : only?.includes(group) === true || names?.includes(name) === true;
}

/** The cases that were asked for, with the rows of the peers that were. */
function chosenCases(values) {
  const { peer } = values;
  return cases
    .filter(isChosen(values))
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
  const found = [];
  for (const check of options.chosenChecks) {
    try {
      found.push({ name: check.name, what: check.what, ...(await check.run(options)) });
      say(`${check.name}: ${found.at(-1).found}`);
    } catch (error) {
      failures.push(`${check.name}: ${error.message}`);
      say(failures.at(-1));
    }
  }
  const date = new Date().toISOString().slice(0, 10);
  const minutes = (performance.now() - began) / 60_000;
  const { threads } = options;
  const record = { date, minutes, machine: machine(), threads, revision: revision(), rows, checks: found, failures };
  const name = [date, ...options.some].join('-').replaceAll(/[^\w.-]+/g, '-');
  const path = join(options.out, name);
  const replaced = existsSync(`${path}.md`);
  await writeReport(path, markdownOf(record, options.chosen), record);
  if (rows.length > 0) console.log(tableOf(rows));
  if (found.length > 0) console.log(checkTableOf(found));
  say(`${replaced ? 'replaced' : 'written'}: ${path}.md and .json, after ${minutes.toFixed(1)} minutes`);
  const loads = rows.flatMap((row) => row.loads);
  if (Math.max(0, ...loads) > options.threads / 2 + 1) say('note: the machine was busy with other work, see the loads');
  const unclear = rows.filter(({ reached }) => reached === 'unclear');
  if (unclear.length > 0)
    say(`unclear, since median and fastest disagree: ${unclear.map((row) => `${row.case} / ${row.peer}`).join(', ')}`);
  for (const failure of failures) say(`failed: ${failure}`);
  const reached = rows.every((row) => row.reached === undefined || row.reached === 'yes');
  return failures.length === 0 && reached && found.every(({ kept }) => kept) ? 0 : 1;
}

process.exitCode = await main().catch((error) => {
  say(error.message);
  return 1;
});
