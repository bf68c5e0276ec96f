/**
 * Makes the native engine ready: `tl setup`. Steps, the cheapest first:
 * 1. an engine in the toolkit's folder that loads and computes rightly is ready;
 * 2. a tfjs-node that the project has installed, with a binary that loads, is used in place;
 * 3. the binding from npm, with the binary that its own install script downloads;
 * 4. the binding from npm, its source compiled against TensorFlow's library from PyPI.
 *
 * An engine is made in a folder beside its place and renamed at the end, so an interrupted setup leaves nothing that
 * could be taken for an engine.
 */
import { mkdir, readdir, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError, listFaults, messageOf } from '../../errors.js';
import { compileBinding, findCompiler, hasAddons } from './build.js';
import { type EngineRecord, enginesDir, findSetUp, RECORD_FILE, toolkitHome } from './home.js';
import { installBinding } from './install.js';
import { withLock } from './lock.js';
import { removeLeftovers, runInstallScript } from './prebuilt.js';
import { BINDING_VERSION, bindingPackage, type EngineKind, engineKey, TENSORFLOW_VERSION, wheelFor } from './recipe.js';
import { findResolvable } from './resolvable.js';
import { probeEngine } from './verify.js';
import { findPip, unpackTensorflow } from './wheel.js';

/** Settings of {@link setUpEngine}. */
export interface SetupOptions {
  /** Also takes the CUDA kernels and libraries (Linux x64; 3 GB). Real use of a GPU has not been verified. */
  readonly gpu?: boolean;
  /** Called with one line for each step as it begins or fails. */
  readonly onProgress?: (line: string) => void;
}

/** What setup did. */
export interface SetupReport {
  /** The engine's folder; for `found`, that of the package. */
  readonly engineDir: string;
  readonly how: 'ready' | 'found' | 'prebuilt' | 'built';
  readonly packageName: string;
  readonly tensorflowVersion: string;
  readonly seconds: number;
  readonly steps: readonly { readonly what: string; readonly seconds: number }[];
}

type Outcome = Omit<SetupReport, 'seconds' | 'steps'>;

/** What one run of setup carries from step to step. */
interface Attempt {
  readonly kind: EngineKind;
  /** What was tried and why it failed, for the final error. */
  readonly failures: string[];
  readonly step: <T>(what: string, work: () => Promise<T>) => Promise<T>;
  readonly say: (line: string) => void;
}

/**
 * Makes the native engine ready and reports how; an engine that is ready already takes under two seconds.
 * @throws EngineError ENGINE_SETUP_FAILED listing every attempt and why it failed
 */
export async function setUpEngine(options: SetupOptions = {}): Promise<SetupReport> {
  const began = performance.now();
  const steps: { what: string; seconds: number }[] = [];
  const say = options.onProgress ?? (() => undefined);
  const step = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    say(what);
    const start = performance.now();
    try {
      return await work();
    } finally {
      steps.push({ what, seconds: (performance.now() - start) / 1000 });
    }
  };
  const attempt: Attempt = { kind: options.gpu ? 'gpu' : 'cpu', failures: [], step, say };
  const outcome = (await existing(attempt)) ?? (await lockedCreate(attempt));
  return { ...outcome, seconds: (performance.now() - began) / 1000, steps };
}

/** Steps 1 and 2: an engine that is there already. */
async function existing({ kind, failures, step, say }: Attempt): Promise<Outcome | undefined> {
  const ready = findSetUp(kind);
  if (ready?.record.how === 'built' && !hasAddons(ready.packageDir)) {
    say(`the engine in ${ready.engineDir} was built by an older release and will be built anew`);
  } else if (ready) {
    const probe = await step(`checking the engine in ${ready.engineDir}`, () => probeEngine(ready.packageDir));
    if (!('failure' in probe)) {
      const { packageName } = ready.record;
      const { tensorflowVersion } = probe;
      return { engineDir: ready.engineDir, how: 'ready', packageName, tensorflowVersion };
    }
    say(`it does not work (${probe.failure}) and will be replaced`);
  }
  for (const { packageDir, packageName, unfit } of findResolvable(kind)) {
    const probe = unfit ? { failure: unfit } : await step(`trying ${packageDir}`, () => probeEngine(packageDir));
    if (!('failure' in probe)) {
      return { engineDir: packageDir, how: 'found', packageName, tensorflowVersion: probe.tensorflowVersion };
    }
    failures.push(`${packageDir}: ${probe.failure}`);
  }
  return undefined;
}

async function lockedCreate(attempt: Attempt): Promise<Outcome> {
  const dir = enginesDir();
  await mkdir(dir, { recursive: true });
  const waited = { value: false };
  return withLock(
    join(dir, '.lock'),
    async () => {
      const made = waited.value ? await existing(attempt) : undefined;
      return made ?? create(attempt, dir);
    },
    {
      onWait: () => {
        waited.value = true;
        attempt.say('waiting for another setup to finish');
      },
    },
  );
}

/** Steps 3 and 4, in a private folder. */
async function create(attempt: Attempt, dir: string): Promise<Outcome> {
  const { kind, failures, step, say } = attempt;
  const packageName = bindingPackage(kind);
  await removeAbandoned(dir);
  const partial = join(dir, `.partial-${process.pid}-${Date.now()}`);
  try {
    const packageDir = await step(`npm install ${packageName}@${BINDING_VERSION}`, () => installBinding(partial, kind));
    const noPrebuilt = await step("trying the package's own prebuilt binary", () => prebuilt(packageDir, kind));
    if (noPrebuilt === undefined) return await finish(attempt, dir, partial, packageDir, { how: 'prebuilt' });
    failures.push(`prebuilt binary: ${noPrebuilt}`);
    say(`no prebuilt binary: ${noPrebuilt}`);
    const wheelSha256 = await built(attempt, partial, packageDir);
    return await finish(attempt, dir, partial, packageDir, { how: 'built', wheelSha256 });
  } catch (error) {
    failures.push(messageOf(error));
    throw new EngineError({
      code: 'ENGINE_SETUP_FAILED',
      message: `no native engine could be made ready (${process.platform} ${process.arch}). Tried:\n${listFaults(failures)}`,
      hint: `${hintOf(error)}; without it \`--engine wasm\` predicts, and trains a head on a frozen backbone`,
      cause: error,
    });
  } finally {
    await removeAbandoned(dir); // this one, and what an npm that outlived its killed setup has written since
  }
}

async function prebuilt(packageDir: string, kind: EngineKind): Promise<string | undefined> {
  const failure = await runInstallScript(packageDir, kind);
  if (failure) return failure;
  const probe = await probeEngine(packageDir);
  if (!('failure' in probe)) return undefined;
  await removeLeftovers(packageDir);
  return `it was downloaded but does not work: ${probe.failure}`;
}

/** Step 4. Everything that it needs is looked for before anything is downloaded. */
async function built({ kind, step, say }: Attempt, partial: string, packageDir: string): Promise<string> {
  const wheel = wheelFor(kind, process.platform, process.arch);
  if (!wheel || isMusl()) {
    throw new EngineError({
      code: 'ENGINE_UNSUPPORTED_PLATFORM',
      message: `build: TensorFlow ${TENSORFLOW_VERSION} publishes no library for ${kind} on ${process.platform} ${
        process.arch
      }${isMusl() ? ' with musl' : ''}`,
      hint: 'builds are for Linux with glibc (x64, arm64) and macOS (arm64)',
    });
  }
  const compiler = findCompiler();
  const pip = await findPip();
  const missing = [
    ...(compiler ? [] : ['no C++ compiler (g++, clang++ or c++) on the PATH']),
    ...('missing' in pip ? [pip.missing] : []),
  ];
  if (!compiler || 'missing' in pip) {
    throw new EngineError({
      code: 'ENGINE_TOOLS_MISSING',
      message: `build: ${missing.join('; ')}`,
      hint: 'install g++ and python3-pip (Debian, Ubuntu: apt-get install g++ python3-pip) and run `tl setup` again',
    });
  }
  if (!wheel.tried) say(`note: the build for ${kind} on ${process.platform} ${process.arch} is untried`);
  const { bavail, bsize } = await statfs(partial);
  if (bavail * bsize < wheel.space) {
    throw new EngineError({
      code: 'ENGINE_NO_SPACE',
      message: `build: needs ${gigabytes(wheel.space)} below ${toolkitHome()}, ${gigabytes(bavail * bsize)} are free`,
      hint: 'free some space, or set TL_HOME to a folder on a larger disk',
    });
  }
  const library = join(partial, 'library');
  await step(`pip download ${wheel.project}==${TENSORFLOW_VERSION} and unpack its library`, () =>
    unpackTensorflow(pip.command, wheel, library, kind === 'gpu'),
  );
  await step(`compiling the binding with ${compiler}`, () =>
    compileBinding(compiler, partial, packageDir, library, wheel),
  );
  return wheel.sha256;
}

/** Proves the engine, writes its record, and puts it in its place. */
async function finish(
  { kind, step }: Attempt,
  dir: string,
  partial: string,
  packageDir: string,
  made: Pick<EngineRecord, 'how' | 'wheelSha256'>,
): Promise<Outcome> {
  const probe = await step('checking that it loads and computes', () => probeEngine(packageDir));
  if ('failure' in probe) {
    throw new EngineError({
      code: 'ENGINE_BROKEN',
      message: `the engine was made but does not work: ${probe.failure}`,
    });
  }
  const record: EngineRecord = {
    packageName: bindingPackage(kind),
    packageVersion: BINDING_VERSION,
    tensorflowVersion: probe.tensorflowVersion,
    kind,
    created: new Date().toISOString(),
    ...made,
  };
  await writeFile(join(partial, RECORD_FILE), `${JSON.stringify(record, null, 2)}\n`);
  const engineDir = join(dir, engineKey(kind, probe.tensorflowVersion, process.platform, process.arch));
  const old = `${partial}-replaced`;
  await rename(engineDir, old).catch(() => undefined); // a damaged engine, if any
  await rename(partial, engineDir);
  await rm(old, { recursive: true, force: true });
  return {
    engineDir,
    how: made.how,
    packageName: record.packageName,
    tensorflowVersion: record.tensorflowVersion,
  };
}

/** What setups left unfinished; the lock is held, so none of it is in use. */
async function removeAbandoned(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    if (!name.startsWith('.partial-')) continue;
    await rm(join(dir, name), { recursive: true, force: true, maxRetries: 3 }).catch(() => undefined); // still written to
  }
}

function hintOf(error: unknown): string {
  return (error instanceof EngineError && error.hint) || 'install g++ and python3-pip and run `tl setup` again';
}

function isMusl(): boolean {
  if (process.platform !== 'linux') return false;
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`;
}
