/** What is wrong with an input size, and which sizes a network takes. */
import { UsageError } from '../errors.js';

export interface SizeAttempt {
  /** Of the backbone; undefined for a variant that belongs to none. */
  readonly name: string | undefined;
  readonly source: string;
  readonly size: { readonly height: number; readonly width: number };
  /** Builds the same network for square pictures. */
  buildAt(side: number): unknown;
}

/**
 * The error of a layer that a picture does not fit, with the network's name and the sizes that do fit; any other error
 * as it is.
 */
export function sizeError(error: unknown, attempt: SizeAttempt): unknown {
  if (!(error instanceof UsageError) || !isOfSize(error)) return error;
  const { name, source, size } = attempt;
  const hint = error.code === TOO_SMALL ? smallestOf(attempt) : error.hint;
  return new UsageError({
    code: error.code,
    message: `${name ?? 'this network'} (source ${source}) cannot take pictures of ${size.height}x${size.width}: ${error.message}`,
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}

const TOO_SMALL = 'INPUT_TOO_SMALL';

const isOfSize = ({ code }: UsageError): boolean => code === TOO_SMALL || code === 'INPUT_SIZE';

/** No network here needs more. */
const LARGEST = 4096;

/** The smallest square into which every window fits, found by halving; a network with a fixed grid says its own sizes. */
function smallestOf(attempt: SizeAttempt): string {
  let [low, high] = [1, LARGEST];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (faultAt(attempt, middle)?.code === TOO_SMALL) low = middle + 1;
    else high = middle;
  }
  return faultAt(attempt, low)?.hint ?? `give a height and width of at least ${low}`;
}

function faultAt({ buildAt }: SizeAttempt, side: number): UsageError | undefined {
  try {
    buildAt(side);
    return undefined;
  } catch (error) {
    if (error instanceof UsageError && isOfSize(error)) return error;
    throw error;
  }
}
