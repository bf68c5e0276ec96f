/** Step: TensorFlow's C library and headers out of a pinned PyPI wheel. */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { openPromise } from 'yauzl';
import { EngineError } from '../../errors.js';
import { runCommand, which } from './command.js';
import { TENSORFLOW_VERSION, WHEEL_PYTHON, type Wheel } from './recipe.js';

/** Measured 3 s on a fast line for 230 MB. */
const PIP_TIMEOUT_MS = 30 * 60_000;

/** Every header that the binding's source reaches, by the start of its path in the wheel. */
const HEADERS = ['tensorflow/c/', 'tensorflow/core/platform/ctstring', 'tsl/c/', 'tsl/platform/ctstring', 'xla/tsl/c/'];

/**
 * Finds a Python that has pip.
 * @returns the command before `download`, or why there is none
 */
export async function findPip(): Promise<{ readonly command: readonly string[] } | { readonly missing: string }> {
  const missing: string[] = [];
  for (const name of ['python3', 'python', 'py']) {
    const python = which([name]);
    if (!python) continue;
    const { failure } = await runCommand(python, ['-m', 'pip', '--version'], { timeoutMs: 60_000 });
    if (!failure) return { command: [python, '-m', 'pip'] };
    missing.push(`${name} has no pip`);
  }
  return { missing: missing.join(', ') || 'no python3, python or py on the PATH' };
}

/**
 * Downloads the pinned wheel with pip, checks its sha256, and unpacks the library and its C headers to
 * `<target>/tensorflow/`, as pip would lay them out; the wheel is deleted.
 * @param extras unpacks the exact `nvidia-*` wheels of the extra `and-cuda` beside it, for the run path
 *   `$ORIGIN/../nvidia/<lib>/lib` of the library
 * @throws EngineError ENGINE_DOWNLOAD_FAILED, ENGINE_WHEEL_MISMATCH
 */
export async function unpackTensorflow(
  pip: readonly string[],
  wheel: Wheel,
  target: string,
  extras: boolean,
): Promise<void> {
  const download = join(target, 'download');
  const file = await pipDownload(pip, wheel, `${wheel.project}==${TENSORFLOW_VERSION}`, download);
  const sha256 = await hashFile(file);
  if (sha256 !== wheel.sha256) {
    throw new EngineError({
      code: 'ENGINE_WHEEL_MISMATCH',
      message: `${file}: expected sha256 ${wheel.sha256}, received ${sha256}`,
      hint: 'a package index or proxy serves another file under this name: set PIP_INDEX_URL to https://pypi.org/simple',
    });
  }
  const libraries = wheel.libraries.map((name) => `tensorflow/${name}`);
  const headers = HEADERS.map((start) => `tensorflow/include/${start}`);
  const metadata = extras ? [`tensorflow-${TENSORFLOW_VERSION}.dist-info/METADATA`] : [];
  const unpacked = await unzip(
    file,
    target,
    (name) => [...libraries, ...metadata].includes(name) || headers.some((start) => name.startsWith(start)),
  );
  await rm(file);
  const absent = [...libraries, ...metadata].filter((name) => !unpacked.includes(name));
  if (absent.length > 0) {
    throw new EngineError({
      code: 'ENGINE_WHEEL_MISMATCH',
      message: `the wheel of ${wheel.project} ${TENSORFLOW_VERSION} lacks ${absent.join(', ')}`,
    });
  }
  if (extras) await unpackCuda(pip, wheel, join(target, metadata[0]!), target, download);
  await rm(download, { recursive: true, force: true });
}

/** The CUDA libraries that TensorFlow names with exact versions under its extra `and-cuda`; 2 GB. */
async function unpackCuda(
  pip: readonly string[],
  wheel: Wheel,
  metadata: string,
  target: string,
  download: string,
): Promise<void> {
  for (const requirement of cudaRequirements(await readFile(metadata, 'utf8'))) {
    const file = await pipDownload(pip, wheel, requirement, download);
    await unzip(file, target, (name) => /^nvidia\/[^/]+\/(lib\/|bin\/|nvvm\/)/.test(name));
    await rm(file);
  }
}

/** `nvidia-cudnn-cu12==9.3.0.75` and its like, from a wheel's METADATA. */
export function cudaRequirements(metadata: string): string[] {
  const rows = metadata.matchAll(/^Requires-Dist: (nvidia-[\w-]+) ?\(?==([\w.]+)\)? ?;.*extra == ["']and-cuda["']/gm);
  return [...rows].map(([, name, version]) => `${name}==${version}`);
}

async function pipDownload(pip: readonly string[], wheel: Wheel, requirement: string, folder: string): Promise<string> {
  const [python, ...prefix] = pip;
  const legacy = wheel.platform.startsWith('manylinux_2_17_')
    ? ['--platform', wheel.platform.replace('manylinux_2_17', 'manylinux2014')]
    : [];
  const target = ['--platform', wheel.platform, ...legacy, '--implementation', 'cp', '--python-version', WHEEL_PYTHON];
  const only = [
    '--no-deps',
    '--only-binary=:all:',
    '--no-cache-dir',
    '--disable-pip-version-check',
    '--progress-bar=off',
  ];
  await mkdir(folder, { recursive: true });
  const { failure } = await runCommand(
    python!,
    [...prefix, 'download', ...only, ...target, '--dest', folder, requirement],
    { timeoutMs: PIP_TIMEOUT_MS },
  );
  const file = (await readdir(folder)).find((name) => name.endsWith('.whl'));
  if (failure || !file) {
    throw new EngineError({
      code: 'ENGINE_DOWNLOAD_FAILED',
      message: `pip download ${requirement} (${wheel.platform}) failed: ${failure ?? 'it left no wheel'}`,
      hint: 'check that PyPI or your PIP_INDEX_URL can be reached, then run `tl setup` again',
    });
  }
  return join(folder, file);
}

/** Unpacks the chosen entries below a folder; yauzl refuses absolute paths and `..`. */
async function unzip(file: string, target: string, chosen: (name: string) => boolean): Promise<string[]> {
  const zip = await openPromise(file);
  const unpacked: string[] = [];
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith('/') || !chosen(entry.fileName)) continue;
    const path = join(target, entry.fileName);
    await mkdir(dirname(path), { recursive: true });
    await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(path));
    unpacked.push(entry.fileName);
  }
  return unpacked;
}

async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
