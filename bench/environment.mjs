/** Where both sides run: the references' Python environments, our compiled code, the machine. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, homedir, loadavg, platform, release, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));
const goldenHome = resolve(process.env.TL_GOLDEN_HOME ?? join(homedir(), '.cache', 'tl', 'golden'));

/** Folder of the toolkit's own downloads and engine. */
export const toolkitHome = resolve(process.env.TL_HOME ?? join(homedir(), '.cache', 'tl'));

export const say = (text) => process.stderr.write(`${text}\n`);

/** Makes the references' Python environments where they are missing or out of date. */
export function setUpReferences() {
  execFileSync('bash', [join(root, 'tools', 'golden', 'run.sh'), 'setup'], {
    env: { ...process.env, TL_GOLDEN_HOME: goldenHome },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
}

/** The Python program of an environment: `tf`, `torch` or `keras3`. */
export const pythonOf = (environment) => join(goldenHome, environment, 'bin', 'python');

const pythonEnv = {
  TF_CPP_MIN_LOG_LEVEL: '3',
  CUDA_VISIBLE_DEVICES: '-1', // both sides on the processor
  PYTHONDONTWRITEBYTECODE: '1',
  PYTHONWARNINGS: 'ignore',
  PYTHONPATH: join(root, 'tools', 'golden'),
};

/**
 * Runs a program of its own, waits for its end, and gives its output as JSON: the last line, or all of it where it
 * begins with a brace.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {unknown} task what it reads from its standard input, as JSON
 */
export function runJson(program, args, task, env = {}) {
  return new Promise((done, fail) => {
    const child = spawn(program, args, { env: { ...process.env, ...pythonEnv, ...env } });
    const out = [];
    const err = [];
    child.stdout.on('data', (chunk) => out.push(chunk));
    child.stderr.on('data', (chunk) => err.push(chunk));
    child.on('error', fail);
    child.on('close', (code, signal) => {
      const text = Buffer.concat(out).toString().trim();
      try {
        if (code !== 0) throw new Error(`it ended with ${signal ?? code}`);
        done(JSON.parse(text.startsWith('{') ? text : text.slice(text.lastIndexOf('\n') + 1)));
      } catch (cause) {
        const last = Buffer.concat(err).toString().trim().split('\n').slice(-15).join('\n');
        fail(new Error(`${[program, ...args].join(' ')}: ${cause.message}\n${last}`, { cause }));
      }
    });
    child.stdin.end(JSON.stringify(task));
  });
}

/** Imports a compiled module of ours. */
export const importFrom = (dist, path) => import(pathToFileURL(join(dist, path)).href);

/** @throws where `npm run build` is still to be done */
export function assertBuilt(dist) {
  if (!existsSync(join(dist, 'cli', 'main.js'))) throw new Error(`${dist} is not built: run npm run build`);
}

/** What results depend on besides the code. */
export function machine() {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    flags: flags(),
    memoryGb: Math.round(totalmem() / 1e9),
    system: `${platform()} ${release()} ${arch()}`,
    node: process.version,
  };
}

/** The instruction sets that decide how fast a matrix product is. */
function flags() {
  try {
    const found = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1].split(/\s+/) ?? [];
    return ['avx2', 'fma', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16'].filter((flag) => found.includes(flag));
  } catch {
    return [];
  }
}

/** Processes that want to run, averaged over a minute; 0 where the system does not tell. */
export const load = () => Math.round(loadavg()[0] * 100) / 100;

/** The revision that was measured, `+` after it where files differ from it. */
export function revision() {
  const git = (...args) => execFileSync('git', ['-C', root, ...args], { encoding: 'utf8' }).trim();
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '--', 'src') === '' ? '' : '+');
  } catch {
    return 'unknown';
  }
}
