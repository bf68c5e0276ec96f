/**
 * Breaks the networks on purpose, one fault at a time, and sees whether the tests notice: `npm run mutations [-- NAME...]`.
 *
 * Each fault is one change of the sources in a copy of the tree. The tests that should notice it are named with it; they
 * pass without the fault, and at least one of them must fail with it. Exit code 1 where none does.
 */
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { MUTATIONS } from './mutations-list.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
const say = (text) => process.stderr.write(`${text}\n`);

/** A copy of what the tests read; the dependencies and the set-up engine are shared. */
async function copyOfTree() {
  const copy = await mkdtemp(join(tmpdir(), 'tl-mutations-'));
  for (const part of ['src', 'test', 'tools', 'bench', 'docs', 'package.json', 'tsconfig.json', 'tsconfig.test.json']) {
    await cp(join(root, part), join(copy, part), { recursive: true });
  }
  await symlink(join(root, 'node_modules'), join(copy, 'node_modules'));
  await writeFile(
    join(copy, 'vitest.config.mjs'),
    "export default { test: { include: ['test/**/*.test.ts'], pool: 'forks', testTimeout: 300000 } };\n",
  );
  return copy;
}

/** Whether the tests pass: files, and a part of their names where the file has many. */
async function passes(copy, { tests, only }) {
  const words = ['run', ...tests, ...(only === undefined ? [] : ['-t', only])];
  try {
    const { stdout } = await run(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...words], {
      cwd: copy,
      maxBuffer: 1 << 26,
      env: { ...process.env, NO_COLOR: '1' },
    });
    const count = Number(/Tests\s+(\d+) passed/.exec(stdout)?.[1] ?? 0);
    if (count === 0) throw new Error(`no test ran: ${words.join(' ')}`);
    return { ok: true, text: `${count} passed` };
  } catch (error) {
    if (error.stdout === undefined) throw error;
    const first = /Error: (.*)/.exec(error.stderr + error.stdout)?.[1] ?? 'failed';
    return { ok: false, text: first.slice(0, 120) };
  }
}

async function main() {
  const filters = process.argv.slice(2);
  const chosen = MUTATIONS.filter(({ name }) => filters.length === 0 || filters.some((each) => name.includes(each)));
  if (chosen.length === 0) {
    say(`nothing matches; there are: ${MUTATIONS.map(({ name }) => name).join(', ')}`);
    return 2;
  }
  const copy = await copyOfTree();
  const survivors = [];
  try {
    const sound = new Map();
    for (const mutation of chosen) {
      const { name, file, from, to } = mutation;
      const key = JSON.stringify([mutation.tests, mutation.only]);
      if (!sound.has(key)) sound.set(key, await passes(copy, mutation));
      if (!sound.get(key).ok) throw new Error(`${name}: its tests fail without it: ${sound.get(key).text}`);
      const path = join(copy, file);
      const text = await readFile(path, 'utf8');
      if (text.split(from).length < 2) throw new Error(`${name}: ${file} does not have ${JSON.stringify(from)}`);
      await writeFile(path, text.replaceAll(from, to));
      const result = await passes(copy, mutation);
      await writeFile(path, text);
      if (result.ok) survivors.push(name);
      console.log(`${result.ok ? 'SURVIVED' : 'noticed '}  ${name.padEnd(44)}  ${result.text}`);
    }
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
  console.log(`\n${chosen.length - survivors.length} of ${chosen.length} faults noticed`);
  return survivors.length === 0 ? 0 : 1;
}

process.exitCode = await main().catch((error) => {
  say(error.stack);
  return 1;
});
