/** Options that several commands share, and how their values are read. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Precision } from '../engine/precision.js';
import type { EngineName, EngineOptions } from '../engine/tensorflow.js';
import { channels, imageSize, type Kind, whole } from '../train/settings/kinds.js';
import type { TestTimeAugmentation } from '../train/test-time.js';

/** What computes. */
export interface EngineChoice {
  readonly engine: 'auto' | EngineName;
  readonly device: 'auto' | 'cpu' | 'gpu';
  readonly threads?: number;
}

/** Options of the commands that compute. */
export interface ComputeOptions extends EngineChoice {
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
export function withEngine(command: Command): Command {
  return command
    .addOption(engineOption())
    .addOption(new Option('--device <device>', 'what it computes on').choices(['auto', 'cpu', 'gpu']).default('auto'))
    .option('--threads <n>', 'threads of the native engine (default: all)', wholeNumber(1));
}

/** Adds the options that choose what computes, and in what. */
export function withCompute(command: Command): Command {
  return withEngine(command).addOption(
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

export function engineOptions({ engine, device, threads }: EngineChoice): EngineOptions {
  return { engine, device, ...(threads === undefined ? {} : { threads }) };
}

/** Reads a value of a kind, for commander. */
export function argument<T>(kind: Kind<T>): (text: string) => T {
  return (text) => {
    const value = kind.parse(text);
    if (value === undefined) throw new InvalidArgumentError(`Expected ${kind.expected}.`);
    return value;
  };
}

/** `--tta`, of `predict` and `evaluate`. */
export function testTimeOption(): Option {
  return new Option(
    '--tta <views>',
    'show each picture in several views and take the mean: flip (mirrored too), or crops (corners and middle, mirrored too)',
  ).choices(['flip', 'crops'] satisfies TestTimeAugmentation[]);
}

/** Reads a whole number from `least`. */
export const wholeNumber = (least: number, most?: number): ((text: string) => number) => argument(whole(least, most));

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

/** Reads `N` or `HxW`: a height and a width in pixels. */
export const inputSize = argument(imageSize);

/** `--channels`; `what` says which it is by default. */
export const channelsOption = (what: string): Option =>
  new Option('--channels <n>', `of the pictures: 1 grey, 3 RGB, 4 RGBA (default: ${what})`).argParser(
    argument(channels),
  );

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
