/**
 * LiteRT, as TensorFlow Lite is called now, in WebAssembly, on a thread of its own: what a written model's user has,
 * with none of this toolkit's code between a picture and its probabilities.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { messageOf, ToolkitError } from '../../errors.js';
import type { Runtime } from '../format.js';
import { type ExportRecord, pixelsOf } from '../record.js';
import { type Served, startThread } from '../thread.js';
import { fixBatch } from './batch.js';

/** An optional dependency: whoever runs models elsewhere can do without. */
const PACKAGE = '@litertjs/core';

/** What the thread is started with. */
interface LiteRtThread {
  readonly model: Uint8Array;
  /** Address of the package's module, and its folder of WebAssembly. */
  readonly core: string;
  readonly wasm: string;
}

/** Pictures, `[N, height, width, channels]`, in the type that the model takes. */
interface Question {
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint8Array;
}

/** As far as it is used here. @see @litertjs/core, dist/index.d.ts */
interface LiteRt {
  loadLiteRt(folder: string): Promise<{ loadAndCompile(model: Uint8Array, options: object): Promise<LiteRtModel> }>;
  readonly Tensor: new (data: Float32Array | Uint8Array, shape: readonly number[]) => LiteRtTensor;
}
interface LiteRtModel {
  run(inputs: Readonly<Record<string, LiteRtTensor>>): Promise<Readonly<Record<string, LiteRtTensor>>>;
}
interface LiteRtTensor {
  toTypedArray(): Float32Array;
  delete(): void;
}

/** What the thread does: gives probabilities, `[N, classes]`. */
async function serve(
  { model: bytes, core, wasm }: LiteRtThread,
  require: NodeJS.Require,
  load: (address: string) => Promise<unknown>,
): Promise<Served<null, Question, Float32Array>> {
  const { readFileSync }: typeof import('node:fs') = require('node:fs');
  const { dirname }: typeof import('node:path') = require('node:path');
  const { compileFunction }: typeof import('node:vm') = require('node:vm');
  // LiteRT fetches its own WebAssembly loader as a script of a browser's worker; the loader itself knows Node.
  const scope = globalThis as Record<string, unknown>;
  scope.self = globalThis;
  scope.importScripts = (script: string): void => {
    const module: { exports: unknown } = { exports: {} };
    const names = ['module', 'exports', 'require', '__filename', '__dirname'];
    const run = compileFunction(readFileSync(script, 'utf8'), names, { filename: script });
    run(module, module.exports, require, script, dirname(script));
    scope.ModuleFactory = module.exports;
  };
  const { loadLiteRt, Tensor } = (await load(core)) as LiteRt;
  const runtime = await loadLiteRt(wasm);
  const model = await runtime.loadAndCompile(bytes, { accelerator: 'wasm' });

  const answer = async ({ shape, data }: Question): Promise<Float32Array> => {
    const [pictures, ...picture] = shape as [number, number, number, number];
    const size = picture.reduce((a, b) => a * b);
    let probabilities: Float32Array | undefined;
    for (let i = 0; i < pictures; i++) {
      const x = new Tensor(data.slice(i * size, (i + 1) * size), [1, ...picture]);
      const outputs = await model.run({ input: x });
      const row = outputs.probabilities!.toTypedArray();
      probabilities ??= new Float32Array(row.length * pictures);
      probabilities.set(row, row.length * i);
      for (const tensor of [x, ...Object.values(outputs)]) tensor.delete();
    }
    return probabilities!;
  };
  return { about: null, answer };
}

/**
 * Opens a written model, which then runs one picture after the other; a Runtime's questions are answered likewise.
 * @throws EXPORT_NO_RUNTIME, EXPORT_UNREADABLE
 */
export async function openLiteRt(
  file: string,
  record: Pick<ExportRecord, 'input' | 'preprocessing'>,
): Promise<Runtime> {
  const { core, wasm, version } = await findLiteRt();
  const model = await readModel(file);
  const thread = await startThread(serve, {
    data: { model, core, wasm } satisfies LiteRtThread,
    silent: true, // its own messages are about kernels and threads
    failed: (why) => unreadable(file, why),
  });
  return {
    name: `LiteRT ${version} (${PACKAGE})`,
    run: (input) => {
      const data = record.input === 'pixels' ? pixelsOf(input, record) : input.data;
      return thread.ask({ shape: input.shape, data });
    },
    close: thread.close,
  };
}

async function findLiteRt(): Promise<{ core: string; wasm: string; version: string }> {
  const { resolve } = createRequire(import.meta.url);
  let main: string;
  try {
    main = resolve(PACKAGE);
  } catch (cause) {
    throw new ToolkitError({
      code: 'EXPORT_NO_RUNTIME',
      message: `LiteRT, which runs TensorFlow Lite models here, is not installed: ${PACKAGE} was not found`,
      hint: 'install the optional dependencies of tl-toolkit (npm install --include=optional)',
      cause,
    });
  }
  const root = join(dirname(main), '..');
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
  return { core: pathToFileURL(main).href, wasm: join(root, 'wasm'), version };
}

/** @throws EXPORT_UNREADABLE */
async function readModel(file: string): Promise<Uint8Array> {
  try {
    return fixBatch(new Uint8Array(await readFile(file)));
  } catch (cause) {
    throw unreadable(file, messageOf(cause), cause);
  }
}

function unreadable(file: string, why: string, cause?: unknown): ToolkitError {
  return new ToolkitError({
    code: 'EXPORT_UNREADABLE',
    message: `${file}: LiteRT fails on this model: ${why}`,
    hint: 'the file may be damaged: export the model again; if it was just written, please report it',
    cause,
  });
}
