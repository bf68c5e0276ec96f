/** Runs other programs with a time limit, and finds the ones that setup needs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';

/** How a program ended. */
export interface CommandResult {
  /** Exit status; undefined when it was ended by a signal, by the time limit, or never started. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** Why it did not succeed, in one line; undefined on success. */
  readonly failure: string | undefined;
}

/** Settings of {@link runCommand}. */
export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs: number;
}

/** Characters of each stream that are kept, from its end: enough for any compiler's last words. */
const KEPT_CHARACTERS = 200_000;

/**
 * Runs a program and waits for its end. The program gets its own process group, and the whole group is ended at the
 * time limit or when this process is interrupted: install scripts start children of their own.
 */
export function runCommand(file: string, args: readonly string[], options: CommandOptions): Promise<CommandResult> {
  return new Promise((resolve) => {
    let stdout = '';
    let stderr = '';
    let timedOut = false;
    const child = spawn(file, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: process.platform !== 'win32',
      windowsHide: true,
    });
    const end = (): void => endGroup(child);
    const release = endWithThisProcess(end);
    const timer = setTimeout(() => {
      timedOut = true;
      end();
    }, options.timeoutMs);
    const finish = (status: number | undefined, failure: string | undefined): void => {
      clearTimeout(timer);
      release();
      resolve({ status, stdout, stderr, failure });
    };
    child.stdout.on('data', (chunk: Buffer) => {
      stdout = (stdout + chunk).slice(-KEPT_CHARACTERS);
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk).slice(-KEPT_CHARACTERS);
    });
    child.once('error', (error) => finish(undefined, `${basename(file)} did not start: ${error.message}`));
    child.once('close', (code, signal) => {
      if (timedOut) finish(undefined, `${basename(file)} ran past ${options.timeoutMs / 1000} s`);
      else if (signal) finish(undefined, `${basename(file)} was ended by ${signal}`);
      else if (code !== 0)
        finish(code ?? undefined, `${basename(file)} exited with ${code}: ${lastWords(stderr, stdout)}`);
      else finish(0, undefined);
    });
  });
}

/** The line that most likely says what went wrong, of a failed program's output. */
export function lastWords(...streams: readonly string[]): string {
  const lines = streams.flatMap((text) => text.split('\n')).map((line) => line.trim());
  const telling = lines.filter((line) => line && !NOISE.test(line));
  return (telling.find((line) => ERROR_LINE.test(line)) ?? telling.at(-1) ?? 'it said nothing').slice(0, 300);
}

/** Stack frames, npm's pointer to its log, and carets under source lines. */
const NOISE = /^(at |npm (error|ERR!) A complete log|[~^ |]+$)/;

/** An error of Node, Python, npm, pip or a compiler, by its usual marks. */
const ERROR_LINE = /\b\w*[Ee]rror\b|\bERR(OR|!)|\bE[A-Z]{4,}\b|[Nn]ot found|No such/;

function endGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    if (process.platform === 'win32') child.kill('SIGKILL');
    else process.kill(-child.pid, 'SIGKILL');
  } catch {
    // already gone
  }
}

/** Calls `end` when this process exits or is interrupted, and then lets the signal do what it would have done. */
function endWithThisProcess(end: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const onSignal = (signal: NodeJS.Signals): void => {
    end();
    release();
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  const release = (): void => {
    process.off('exit', end);
    for (const signal of signals) process.off(signal, onSignal);
  };
  process.on('exit', end);
  for (const signal of signals) process.on(signal, onSignal);
  return release;
}

/** Full path of the first of these programs that is on the PATH. */
export function which(names: readonly string[]): string | undefined {
  const suffixes = process.platform === 'win32' ? ['.exe', '.cmd', ''] : [''];
  for (const name of names) {
    if (name.includes('/') && isExecutable(name)) return name;
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      for (const suffix of suffixes) {
        const file = join(folder, name + suffix);
        if (folder && isExecutable(file)) return file;
      }
    }
  }
  return undefined;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** How to start npm: its own script under this Node where it can be found, else whatever `npm` is on the PATH. */
export function npmCommand(): { file: string; args: string[] } | undefined {
  const bin = dirname(process.execPath);
  const told = process.env.npm_execpath;
  const scripts = [
    ...(told && basename(told) === 'npm-cli.js' ? [told] : []),
    join(bin, '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    join(bin, 'node_modules', 'npm', 'bin', 'npm-cli.js'),
  ];
  const script = scripts.find((candidate) => existsSync(candidate));
  if (script) return { file: process.execPath, args: [script] };
  const npm = which(['npm']);
  return npm ? { file: npm, args: [] } : undefined;
}
