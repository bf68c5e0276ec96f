/** Options that several commands share, and how their values are read. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Channels, ImageSize } from '../augment/image.js';
import type { Precision } from '../engine/precision.js';
import type { EngineName, EngineOptions } from '../engine/tensorflow.js';

/** Options of the commands that compute. */
export interface ComputeOptions {
  readonly engine: 'auto' | EngineName;
  readonly device: 'auto' | 'cpu' | 'gpu';
  readonly threads?: number;
  readonly precision: Precision;
}

/** Adds `--json`, `--quiet` and `--debug`, which every command has. */
export function withCommon(command: Command): Command {
  return command
    .option('--json', 'write the result to stdout as JSON, and nothing else')
    .option('--quiet', 'no progress on stderr')
    .option('--debug', 'show the stack of an error');
}

/** Adds the options that choose what computes. */
export function withCompute(command: Command): Command {
  return command
    .addOption(engineOption())
    .addOption(new Option('--device <device>', 'what it computes on').choices(['auto', 'cpu', 'gpu']).default('auto'))
    .option('--threads <n>', 'threads of the native engine (default: all)', wholeNumber(1))
    .addOption(
      new Option('--precision <type>', 'what convolutions and matrix products compute in; bfloat16 takes less time')
        .choices(['float32', 'bfloat16'])
        .default('float32'),
    );
}

/** `auto` is the native engine where it is ready, else wasm. */
export function engineOption(): Option {
  return new Option('--engine <engine>', 'what computes: the native library, or tfjs in WebAssembly or JavaScript')
    .choices(['auto', 'tensorflow', 'wasm', 'cpu'])
    .default('auto');
}

export function engineOptions({ engine, device, threads }: ComputeOptions): EngineOptions {
  return { engine, device, ...(threads === undefined ? {} : { threads }) };
}

/** Reads a whole number from `least`. */
export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
      throw new InvalidArgumentError(`Expected a whole number ${range}.`);
    }
    return value;
  };
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
};

/** Reads a number of bytes: `600kB`, `1.5 MB`, `2MiB`, `500000`. */
export function byteSize(text: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
  const size = Math.floor(Number(amount) * (BYTE_UNITS[(unit ?? '').toLowerCase()] ?? Number.NaN));
  if (!(size >= 1)) throw new InvalidArgumentError('Expected a size such as 600kB or 4MB.');
  return size;
}

/** The most pixels that a side of an input may have. */
const MOST_PIXELS = 65_536;

/** Reads `N` or `HxW`: a height and a width in pixels. */
export function inputSize(text: string): ImageSize {
  const [height, width = height, ...others] = text.toLowerCase().split('x');
  const side = wholeNumber(1, MOST_PIXELS);
  if (height === undefined || others.length > 0) throw new InvalidArgumentError('Expected N, or HxW.');
  return { height: side(height), width: side(width!) };
}

/** `--channels`; `what` says which it is by default. */
export function channelsOption(what: string): Option {
  return new Option('--channels <n>', `of the pictures: 1 grey, 3 RGB, 4 RGBA (default: ${what})`).argParser((text) => {
    const channels = (['1', '3', '4'] as const).find((each) => each === text);
    if (channels === undefined) throw new InvalidArgumentError('Expected 1, 3 or 4.');
    return Number(channels) as Channels;
  });
}

/** Reads a number that lies in a range. */
export function realNumber(range: {
  readonly atLeast?: number;
  readonly above?: number;
  readonly atMost?: number;
  readonly below?: number;
}): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    const { atLeast = -Infinity, above = -Infinity, atMost = Infinity, below = Infinity } = range;
    if (Number.isFinite(value) && value >= atLeast && value > above && value <= atMost && value < below) return value;
    const words = Object.entries({
      'at least': range.atLeast,
      above: range.above,
      'at most': range.atMost,
      below: range.below,
    });
    const bounds = words.flatMap(([word, bound]) => (bound === undefined ? [] : [`${word} ${bound}`]));
    throw new InvalidArgumentError(`Expected a number ${bounds.join(' and ')}.`);
  };
}

/** Reads `a,b`; the option may be given again. */
export function list(text: string, before: readonly string[] = []): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('')) throw new InvalidArgumentError('Expected names with commas between them.');
  return [...before, ...names];
}

/** Collects the values of an option that may be given again, each as it is. */
export function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}
