/**
 * How the value of a setting is written, and which values are good: the same for the command line, a configuration file
 * and a program. Nothing heavy is loaded here, because `tl --help` reads it.
 */
import type { Channels, ImageSize } from '../../augment/image.js';

/** A kind of value. */
export interface Kind<T> {
  /** What stands for the value in the help, `<n>`; undefined for a switch, which has none. */
  readonly placeholder: string | undefined;
  /** The values there are, where they can be counted. */
  readonly choices?: readonly string[];
  /** What is expected, to be read after that word. */
  readonly expected: string;
  /** Reads what a user wrote; undefined where it is not of this kind. */
  parse(text: string): T | undefined;
  accepts(value: unknown): value is T;
}

function kind<T>(
  placeholder: string | undefined,
  expected: string,
  accepts: (value: unknown) => boolean,
  read: (text: string) => unknown,
): Kind<T> {
  const isGood = (value: unknown): value is T => accepts(value);
  const parse = (text: string): T | undefined => {
    const value = read(text);
    return isGood(value) ? value : undefined;
  };
  return { placeholder, expected, parse, accepts: isGood };
}

const numberIn = (text: string): number => (text.trim() === '' ? Number.NaN : Number(text));

/** A whole number. */
export function whole(least: number, most = Number.MAX_SAFE_INTEGER, placeholder = '<n>'): Kind<number> {
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
  const isGood = (value: unknown): boolean =>
    Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
  return kind(placeholder, `a whole number ${range}`, isGood, (text) =>
    /^\d+$/.test(text) ? Number(text) : undefined,
  );
}

/** The bounds of a number. */
export interface Range {
  readonly atLeast?: number;
  readonly above?: number;
  readonly atMost?: number;
  readonly below?: number;
}

/** A number. */
export function real(range: Range, placeholder = '<x>'): Kind<number> {
  const { atLeast = -Infinity, above = -Infinity, atMost = Infinity, below = Infinity } = range;
  const words = { 'at least': range.atLeast, above: range.above, 'at most': range.atMost, below: range.below };
  const bounds = Object.entries(words).flatMap(([word, bound]) => (bound === undefined ? [] : [`${word} ${bound}`]));
  const isGood = (value: unknown): boolean =>
    typeof value === 'number' &&
    Number.isFinite(value) &&
    value >= atLeast &&
    value > above &&
    value <= atMost &&
    value < below;
  return kind(placeholder, `a number ${bounds.join(' and ')}`, isGood, numberIn);
}

/** A part of a whole, which is never all of it. */
export const share = (placeholder = '<share>'): Kind<number> => real({ atLeast: 0, below: 1 }, placeholder);

/** One of some words. */
export function choice<T extends string>(choices: readonly T[], placeholder = '<name>'): Kind<T> {
  const isGood = (value: unknown): boolean => choices.includes(value as T);
  return { ...kind<T>(placeholder, `one of ${choices.join(', ')}`, isGood, (text) => text), choices };
}

/** Text. A pattern in it is checked where its meaning is known. */
export const text = (placeholder: string): Kind<string> =>
  kind(
    placeholder,
    'text',
    (value) => typeof value === 'string' && value !== '',
    (value) => value,
  );

/** The numbers of a list such as `0.4,0.4,0.1`. */
export const numbersIn = (list: string): number[] => list.split(',').map(numberIn);

/** Numbers with commas between them, as text. */
export const numbers = (
  placeholder: string,
  expected: string,
  accepts: (values: readonly number[]) => boolean,
): Kind<string> =>
  kind(
    placeholder,
    expected,
    (value) => typeof value === 'string' && accepts(numbersIn(value)),
    (value) => value,
  );

/** An interval, or moments with commas between them, in epochs. */
export const epochsOfFalls: Kind<number | string> = kind(
  '<epochs>',
  'a number above 0, or numbers that rise, such as 30,60,80',
  (value) => {
    const all = numbersIn(String(value));
    return all.every((each, i) => each > (all[i - 1] ?? 0) && Number.isFinite(each));
  },
  (value) => (value.includes(',') ? value : numberIn(value)),
);

const switched: Readonly<Record<string, boolean>> = { true: true, false: false };

/** On where it is named; `true` or `false` in a file. */
export const flag: Kind<boolean> = kind(
  undefined,
  'true or false',
  (value) => typeof value === 'boolean',
  (value) => switched[value],
);

/** The most pixels that a side of an input may have. */
const MOST_PIXELS = 65_536;
const side = whole(1, MOST_PIXELS);

/** `N` or `HxW`: a height and a width in pixels. */
export const imageSize: Kind<number | ImageSize> = kind(
  '<size>',
  `N, or HxW, with sides of 1 to ${MOST_PIXELS}`,
  (value) => {
    if (typeof value !== 'object' || value === null) return side.accepts(value);
    const { height, width } = value as Partial<ImageSize>;
    return side.accepts(height) && side.accepts(width);
  },
  (value) => {
    const [height, width = height, ...others] = value.toLowerCase().split('x');
    if (height === undefined || others.length > 0) return undefined;
    return { height: side.parse(height), width: side.parse(width!) };
  },
);

/** Channels of pictures: 1 grey, 3 RGB, 4 RGBA. */
export const channels: Kind<Channels> = kind(
  '<n>',
  '1, 3 or 4',
  (value) => value === 1 || value === 3 || value === 4,
  (value) => (/^[134]$/.test(value) ? Number(value) : undefined),
);
