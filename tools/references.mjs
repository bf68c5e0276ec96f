/** The two sides of a comparison at real size: the reference implementations in Python (tools/golden), and this command line. */
import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const golden = join(root, 'tools', 'golden');
export const goldenHome = process.env.TL_GOLDEN_HOME ?? join(homedir(), '.cache', 'tl', 'golden');
const toolkitHome = process.env.TL_HOME ? resolve(process.env.TL_HOME) : join(homedir(), '.cache', 'tl');

export const run = promisify(execFile);
export const say = (text) => process.stderr.write(`${text}\n`);

/**
 * `[FILTER...] [--keep] [--dist DIR]`, for `parity.mjs export` also `[--rows FILE]`; anything else ends the program.
 * @param tool its file, for the usage
 */
export function readArguments(tool, words) {
  const hasRows = words[0] === 'export';
  const found = { filters: [], keep: false, dist: join(root, 'dist'), rows: undefined };
  for (let i = 0; i < words.length; i++) {
    if (words[i] === '--keep') found.keep = true;
    else if (words[i] === '--dist' && words[i + 1]) found.dist = resolve(words[++i]);
    else if (hasRows && words[i] === '--rows' && words[i + 1]) found.rows = resolve(words[++i]);
    else if (words[i].startsWith('-')) {
      say(`usage: node tools/${tool} [FILTER...] [--keep] [--dist DIR]${hasRows ? ' [--rows FILE]' : ''}`);
      process.exit(2);
    } else found.filters.push(words[i]);
  }
  return found;
}

/** Runs a script of tools/golden in one of its environments. */
export async function python(environment, script, ...args) {
  const env = {
    ...process.env,
    TL_GOLDEN_HOME: goldenHome,
    TF_CPP_MIN_LOG_LEVEL: '3',
    TF_ENABLE_ONEDNN_OPTS: '0',
    PYTHONDONTWRITEBYTECODE: '1',
    PYTHONWARNINGS: 'ignore',
  };
  const program = join(goldenHome, environment, 'bin', 'python');
  return await run(program, [join(golden, script), ...args], { env, maxBuffer: 1 << 26 });
}

/** Makes a store of its own below `work`, beside the engine that is set up. */
export async function makeHome(work) {
  const home = join(work, 'home');
  await mkdir(home);
  await symlink(join(toolkitHome, 'engine'), join(home, 'engine'));
  return home;
}

/** Runs `tl ... --json` of a build with that store. */
export function commandLine(dist, home) {
  return async (...args) => {
    const { stdout } = await run(process.execPath, [join(dist, 'cli', 'main.js'), ...args, '--json'], {
      env: { ...process.env, TL_HOME: home },
      maxBuffer: 1 << 26,
    });
    return JSON.parse(stdout);
  };
}

/** An array of float32 or bytes as `.npy`, format 1.0. @see https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
export async function writeNpy(path, data, shape) {
  const type = data instanceof Uint8Array ? '|u1' : '<f4';
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')}, ), }`;
  const padded = `${header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11)}\n`;
  const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, padded.length & 255, padded.length >> 8]);
  await writeFile(path, Buffer.concat([start, Buffer.from(padded, 'latin1'), Buffer.from(data.buffer)]));
}
