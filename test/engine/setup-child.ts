/** Runs a script against the engine's modules in a process of its own: another Node, another environment, or to be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** What an engine that this process has loaded has left in its environment. */
const UNSET = { TF_NUM_INTRAOP_THREADS: undefined, TF_NUM_INTEROP_THREADS: undefined, TF_CPP_MIN_LOG_LEVEL: undefined };

export interface ChildEnd {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Child {
  readonly process: ChildProcess;
  /** What it has written to stderr so far. */
  readonly stderr: () => string;
  readonly ended: Promise<ChildEnd>;
}

/**
 * Starts a script that may use `loadEngine`, `setUpEngine`, `picturesAddonFile` and `tf`.
 * @param node the Node to run it under
 */
export function startChild(
  script: string,
  { env = {}, node = process.execPath, cwd = root }: { env?: NodeJS.ProcessEnv; node?: string; cwd?: string } = {},
): Child {
  const child = spawn(node, ['--input-type=module', '-e', preamble() + script], {
    cwd,
    env: { ...process.env, NODE_OPTIONS: '', ...UNSET, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<ChildEnd>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve({ status, stdout, stderr }));
  });
  return { process: child, stderr: () => stderr, ended };
}

function preamble(): string {
  const compiled = compile();
  const url = (path: string): string => JSON.stringify(pathToFileURL(path).href);
  return `
import { loadEngine } from ${url(join(compiled, 'engine/tensorflow.js'))};
import { setUpEngine } from ${url(join(compiled, 'engine/setup/index.js'))};
import { picturesAddonFile } from ${url(join(compiled, 'addon.js'))};
import * as tf from ${url(join(root, 'node_modules/@tensorflow/tfjs-core/dist/tf-core.node.js'))};
`;
}

/**
 * The modules as plain Node runs them, in a folder named by their content: dist/ may be older, or be rebuilt under a
 * running test. It lies in node_modules, so that packages resolve from it as from dist/.
 */
function compile(): string {
  const sources = new Map<string, string>();
  for (const entry of ['tensorflow.ts', 'setup/index.ts']) collect(join(root, 'src/engine', entry), sources);
  const hash = createHash('sha256')
    .update(JSON.stringify([...sources]))
    .digest('hex')
    .slice(0, 16);
  const dir = join(root, 'node_modules', '.cache', `tl-engine-${hash}`);
  if (existsSync(dir)) return dir;
  const partial = `${dir}.${process.pid}`;
  for (const [file, text] of sources) {
    const path = join(partial, relative(join(root, 'src'), file).replace(/\.ts$/, '.js'));
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, ts.transpileModule(text, { compilerOptions }).outputText);
  }
  writeFileSync(join(partial, 'package.json'), '{ "type": "module" }');
  try {
    renameSync(partial, dir);
  } catch {
    rmSync(partial, { recursive: true }); // another test file was faster
  }
  return dir;
}

function collect(file: string, sources: Map<string, string>): void {
  if (sources.has(file)) return;
  const text = readFileSync(file, 'utf8');
  sources.set(file, text);
  for (const { fileName } of ts.preProcessFile(text).importedFiles) {
    if (fileName.startsWith('.')) collect(join(dirname(file), fileName.replace(/\.js$/, '.ts')), sources);
  }
}
