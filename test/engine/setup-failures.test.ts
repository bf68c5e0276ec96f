import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { compileBinding } from '../../src/engine/setup/build.js';
import { lastWords, runCommand } from '../../src/engine/setup/command.js';
import { enginesDir, findSetUp } from '../../src/engine/setup/home.js';
import { setUpEngine } from '../../src/engine/setup/index.js';
import { runInstallScript } from '../../src/engine/setup/prebuilt.js';
import { type Wheel, wheelFor } from '../../src/engine/setup/recipe.js';
import { cudaRequirements, findPip, unpackTensorflow } from '../../src/engine/setup/wheel.js';

const scratch = await mkdtemp(join(tmpdir(), 'tl-failures-'));
const environment = { ...process.env };
let home = '';
beforeEach(async () => {
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
  Object.assign(process.env, environment);
  home = await mkdtemp(join(scratch, 'home-'));
  process.env.TL_HOME = home;
});
afterAll(() => rm(scratch, { recursive: true }));

/** A PATH on which there is nothing but Node. */
async function barePath(): Promise<string> {
  const bin = await mkdtemp(join(scratch, 'bin-'));
  await symlink(process.execPath, join(bin, 'node'));
  return bin;
}

/** A wheel of TensorFlow's name with other content, in a folder that pip is told to look in instead of PyPI. */
async function serveWheel(files: Record<string, string>): Promise<void> {
  const folder = await mkdtemp(join(scratch, 'index-'));
  const zip = new ZipFile();
  const info = 'tensorflow_cpu-2.18.1.dist-info';
  const all = {
    ...files,
    [`${info}/METADATA`]: 'Metadata-Version: 2.1\nName: tensorflow-cpu\nVersion: 2.18.1\n',
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_17_x86_64\n',
    [`${info}/RECORD`]: '',
  };
  for (const [name, text] of Object.entries(all)) zip.addBuffer(Buffer.from(text), name);
  zip.end();
  const file = join(folder, 'tensorflow_cpu-2.18.1-cp311-cp311-manylinux_2_17_x86_64.whl');
  await pipeline(zip.outputStream, createWriteStream(file));
  Object.assign(process.env, { PIP_NO_INDEX: '1', PIP_FIND_LINKS: folder });
}

/** A host that answers and has no file. */
async function serveNothing(): Promise<string> {
  const server = createServer((request, response) => {
    response.statusCode = request.url === '/' ? 200 : 404;
    response.end();
  });
  server.listen(0, '127.0.0.1').unref();
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const wheel = wheelFor('cpu', 'linux', 'x64') as Wheel;

async function pip(): Promise<readonly string[]> {
  const found = await findPip();
  if ('missing' in found) throw new Error(found.missing);
  return found.command;
}

describe('setUpEngine where it cannot succeed', () => {
  it('lists what it tried and what to install, without Python and a compiler', async () => {
    process.env.PATH = await barePath();
    delete process.env.CXX;
    process.env.TFJS_NODE_CDN_STORAGE = await serveNothing();
    const lines: string[] = [];
    const setup = setUpEngine({ onProgress: (line) => lines.push(line) });
    await expect(setup).rejects.toMatchObject({
      code: 'ENGINE_SETUP_FAILED',
      hint: expect.stringMatching(/install g\+\+ and python3-pip.*--engine wasm/),
    });
    await expect(setup).rejects.toThrow(
      /prebuilt binary: its install script failed: .*\n.*no C\+\+ compiler .*; no python3, python or py on the PATH/,
    );
    expect(lines.some((line) => line.startsWith('npm install @tensorflow/tfjs-node@4.22.0'))).toBe(true);
    expect(await readdir(enginesDir())).toEqual([]);
    expect(findSetUp('cpu')).toBeUndefined();
  });

  it('says that the npm registry cannot be reached, and leaves nothing', async () => {
    Object.assign(process.env, {
      npm_config_registry: 'http://127.0.0.1:9/',
      npm_config_fetch_retries: '0',
      npm_config_cache: join(home, 'npm-cache'),
    });
    await expect(setUpEngine()).rejects.toThrow(/npm install of the engine's binding 4\.22\.0 failed: .*ECONNREFUSED/);
    expect(await readdir(enginesDir())).toEqual([]);
  });
});

describe('runInstallScript', () => {
  it('is not tried where its download cannot be reached', async () => {
    process.env.TFJS_NODE_CDN_STORAGE = 'http://127.0.0.1:9/';
    for (const name of ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY']) delete process.env[name];
    expect(await runInstallScript('/no/such/package', 'cpu')).toMatch(
      /^its download cannot be reached: http:\/\/127\.0\.0\.1:9\/: ./,
    );
  });
});

describe('unpackTensorflow', () => {
  it('says that the package index cannot be reached', async () => {
    Object.assign(process.env, { PIP_INDEX_URL: 'http://127.0.0.1:9/simple', PIP_FIND_LINKS: '', PIP_RETRIES: '0' });
    await expect(unpackTensorflow(await pip(), wheel, home, false)).rejects.toMatchObject({
      code: 'ENGINE_DOWNLOAD_FAILED',
      message: expect.stringContaining('pip download tensorflow-cpu==2.18.1'),
    });
  });

  it('refuses a wheel of other content under the same name', async () => {
    await serveWheel({ 'tensorflow/libtensorflow_cc.so.2': 'not a library' });
    const unpacking = unpackTensorflow(await pip(), wheel, home, false);
    await expect(unpacking).rejects.toMatchObject({ code: 'ENGINE_WHEEL_MISMATCH' });
    await expect(unpacking).rejects.toThrow(new RegExp(`expected sha256 ${wheel.sha256}, received [0-9a-f]{64}`));
    await expect(readdir(join(home, 'tensorflow'))).rejects.toThrow('ENOENT');
  });
});

describe('compileBinding', () => {
  it("gives the compiler's own words", async () => {
    await mkdir(join(home, 'binding'));
    for (const name of ['tfjs_backend.cc', 'tfjs_binding.cc']) {
      await writeFile(join(home, 'binding', name), '#include "tensorflow/c/c_api.h"\n');
    }
    await expect(compileBinding('g++', home, home, join(home, 'library'), wheel)).rejects.toMatchObject({
      code: 'ENGINE_COMPILE_FAILED',
      message: expect.stringMatching(/fatal error: tensorflow\/c\/c_api\.h/),
      hint: expect.stringContaining('apt-get install g++'),
    });
  });
});

describe('wheelFor', () => {
  it.each([
    ['cpu', 'win32', 'x64'],
    ['cpu', 'darwin', 'x64'],
    ['gpu', 'linux', 'arm64'],
    ['cpu', 'freebsd', 'x64'],
  ] as const)('has none for %s on %s %s', (kind, platform, arch) => {
    expect(wheelFor(kind, platform, arch)).toBeUndefined();
  });
});

describe('findPip', () => {
  it('tells a Python without pip from no Python', async () => {
    const bin = await barePath();
    process.env.PATH = bin;
    expect(await findPip()).toEqual({ missing: 'no python3, python or py on the PATH' });
    await writeFile(join(bin, 'python3'), '#!/bin/sh\necho "No module named pip" >&2\nexit 1\n', { mode: 0o755 });
    expect(await findPip()).toEqual({ missing: 'python3 has no pip' });
  });
});

describe('runCommand', () => {
  it('ends a program and its children at the time limit', async () => {
    const began = performance.now();
    const { failure, status } = await runCommand('sh', ['-c', 'sleep 60 & sleep 60; wait'], { timeoutMs: 300 });
    expect(failure).toBe('sh ran past 0.3 s');
    expect(status).toBeUndefined();
    expect(performance.now() - began).toBeLessThan(20_000);
  });

  it('reports a program that is not there', async () => {
    const { failure } = await runCommand('/no/such/program', [], { timeoutMs: 1000 });
    expect(failure).toContain('program did not start: spawn /no/such/program ENOENT');
  });

  it.each([
    ['npm error code ENOTFOUND\nnpm error network\nnpm error A complete log of this run', 'npm error code ENOTFOUND'],
    ['/home/engine/index.js:1\nthrow\n^\n\nError: no library\n    at Module._compile', 'Error: no library'],
    [
      'a.cc:1:10: fatal error: x.h: No such file\n  1 | #include\n    |   ^~~~',
      'a.cc:1:10: fatal error: x.h: No such file',
    ],
    ["Traceback\nModuleNotFoundError: No module named 'pip'", "ModuleNotFoundError: No module named 'pip'"],
    ['first\nlast\n', 'last'],
    ['', 'it said nothing'],
  ])('finds the telling line of %j', (output, line) => {
    expect(lastWords(output)).toBe(line);
  });
});

describe('cudaRequirements', () => {
  it('reads the exact versions of the extra, old and new style', () => {
    const metadata = [
      'Requires-Dist: numpy<2.1.0,>=1.26.0',
      'Requires-Dist: nvidia-cublas-cu12==12.5.3.2; extra == "and-cuda"',
      "Requires-Dist: nvidia-cudnn-cu12 (==9.3.0.75) ; extra == 'and-cuda'",
      'Requires-Dist: nvidia-other==1.0; extra == "else"',
    ].join('\n');
    expect(cudaRequirements(metadata)).toEqual(['nvidia-cublas-cu12==12.5.3.2', 'nvidia-cudnn-cu12==9.3.0.75']);
  });
});
