/**
 * Models of TensorFlow.js as JavaScript modules: packages ship them so (`nsfwjs`), the JSON as a literal and each file of
 * weights as base64. They are read as text and never executed.
 */
import { open, readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FormatError, messageOf } from '../../errors.js';
import { fileError } from '../../files.js';
import { withByteFile } from '../byte-file.js';
import { limitExceeded, MAX_TENSOR_BYTES } from '../limits.js';
import type { TensorSource } from '../source.js';
import { parseLiteral } from './js-literal.js';
import type { ShardFile } from './tfjs-manifest.js';
import { tfjsSource } from './tfjs-model.js';

const MODULE = /\.[cm]?js$/;

/** What a model's module is called in a folder. */
const MODEL = /^model(\.min)?\.[cm]?js$/;

/** As of JSON (readJsonFile): the topology of the largest network has a few MB. */
const MOST_TEXT_BYTES = 64 * 1024 * 1024;

/** What bundlers write around a module before its value: 1 kB. */
const WRAPPER_BYTES = 16 * 1024;

/** Before the value of a module, of CommonJS and of ECMAScript. */
const VALUE = /(?:exports(?:\.default)?\s*=|export\s+default)\s*(?=[{"'`])/;

/** The module of a model: a file, and what is in it. */
export interface TfjsModule {
  readonly file: string;
  readonly text: string;
}

/** The module of a model in a folder, or in that file. */
export async function findTfjsModule(path: string): Promise<TfjsModule | undefined> {
  const info = await stat(path).catch(() => undefined);
  if (info?.isFile() && MODULE.test(path)) {
    const text = await readText(path);
    return text.includes('weightsManifest') ? { file: path, text } : undefined;
  }
  if (!info?.isDirectory()) return undefined;
  const name = (await readdir(path)).find((each) => MODEL.test(each));
  return name === undefined ? undefined : await findTfjsModule(join(path, name));
}

/**
 * Opens a model by its module; no weights are read.
 * @throws TFJS_MODULE, and as {@link tfjsSource}
 */
export async function openTfjsModule({ file, text }: TfjsModule): Promise<TensorSource> {
  const before = VALUE.exec(text);
  if (before === null) throw invalid(file, 'it exports no plain object');
  let value: unknown;
  try {
    value = parseLiteral(text, before.index + before[0].length).value;
  } catch (error) {
    throw invalid(file, `what it exports is no plain object: ${messageOf(error)}`, error);
  }
  return await tfjsSource(file, value, (path) => shardModule(file, path));
}

async function readText(path: string): Promise<string> {
  const file = await open(path, 'r').catch((error: unknown) => {
    throw fileError('FILE_NOT_READ', path, 'cannot be read', error);
  });
  try {
    const { size } = await file.stat();
    if (size > MOST_TEXT_BYTES) throw limitExceeded(path, `a module of ${size} bytes`, MOST_TEXT_BYTES);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/** The module of a file of weights: beside the model's, under the file's name and the ending of the model's own. */
async function shardModule(model: string, path: string): Promise<ShardFile> {
  const ending = /(\.min)?\.[cm]?js$/.exec(basename(model))![0];
  const name = join(dirname(model), `${path}${ending}`);
  const { begin, length, bytes } = await locateBase64(name);
  return {
    size: bytes,
    read: async (offset, count, what) => {
      return await withByteFile(name, async (file) => {
        // four characters stand for three bytes
        const first = Math.floor(offset / 3);
        const last = Math.min(Math.ceil((offset + count) / 3), length / 4);
        const text = await file.read(begin + 4 * first, 4 * (last - first), what);
        const decoded = Buffer.from(text.toString('latin1'), 'base64');
        const part = decoded.subarray(offset - 3 * first, offset - 3 * first + count);
        if (part.length !== count) throw invalid(name, `${what} is no base64`);
        return Buffer.from(part);
      });
    },
  };
}

/** Where the base64 of a module lies, told by its two ends. */
async function locateBase64(name: string): Promise<{ begin: number; length: number; bytes: number }> {
  return await withByteFile(name, async (file) => {
    const head = (await file.read(0, Math.min(WRAPPER_BYTES, file.size), 'the module')).toString('latin1');
    const before = VALUE.exec(head);
    const quote = before === null ? undefined : head[before.index + before[0].length];
    if (before === null || quote === undefined || quote === '{') throw invalid(name, 'it exports no text');
    const begin = before.index + before[0].length + 1;
    const from = Math.max(begin, file.size - WRAPPER_BYTES);
    const tail = (await file.read(from, file.size - from, 'the end of the module')).toString('latin1');
    const end = from + tail.indexOf(quote);
    const length = end - begin;
    if (end < from || length % 4 !== 0) throw invalid(name, 'the text that it exports is no base64');
    const padding = /=*$/.exec(tail.slice(0, end - from))![0].length;
    const bytes = (length / 4) * 3 - padding;
    if (bytes > MAX_TENSOR_BYTES) throw limitExceeded(name, `weights of ${bytes} bytes`, MAX_TENSOR_BYTES);
    return { begin, length, bytes };
  });
}

function invalid(file: string, what: string, cause?: unknown): FormatError {
  return new FormatError({
    code: 'TFJS_MODULE',
    message: `${file}: ${what}; expected a model.json of TensorFlow.js as a JavaScript module`,
    hint: 'give the model.json itself, beside its files of weights; modules are read as text and never executed',
    cause,
  });
}
