/** Trying again: after waits that double, or as long as the server asks. */
import { setTimeout as sleep } from 'node:timers/promises';
import { FetchFault } from './fault.js';

/** How often and how patiently. */
export interface Patience {
  /** Failures in a row; a try that brought something does not count. */
  readonly tries: number;
  /** Before the second try; it doubles from try to try. */
  readonly firstWaitMs: number;
  /** No wait is longer, and a server that asks for more is not waited for. */
  readonly longestWaitMs: number;
}

/** What {@link withRetries} tells of itself. */
export interface RetryOptions extends Patience {
  readonly signal: AbortSignal | undefined;
  /** Something that only grows while tries bring something: the bytes that have arrived. */
  readonly progress: () => number;
  readonly onRetry: (fault: FetchFault, waitMs: number) => void;
}

/**
 * Tries until it succeeds, or until a fault cannot be mended by trying.
 * @throws FetchFault of the last try, or what `attempt` throws besides; AbortError
 */
export async function withRetries<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { tries, firstWaitMs, longestWaitMs, signal, progress, onRetry } = options;
  let failures = 0;
  for (;;) {
    signal?.throwIfAborted();
    const before = progress();
    try {
      return await attempt();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof FetchFault) || !error.again) throw error;
      failures = progress() > before ? 1 : failures + 1;
      const { afterMs } = error;
      if (afterMs !== undefined && afterMs > longestWaitMs) {
        const asked = `${error.message}, and asks to wait ${Math.ceil(afterMs / 1000)} s`;
        throw new FetchFault(asked, { again: false, status: error.status, cause: error });
      }
      if (failures >= tries) {
        throw new FetchFault(`${error.message}, ${tries} times in a row`, {
          again: false,
          status: error.status,
          cause: error,
        });
      }
      const waitMs = afterMs ?? backOff(failures, firstWaitMs, longestWaitMs);
      onRetry(error, waitMs);
      await sleep(waitMs, undefined, signal === undefined ? {} : { signal });
    }
  }
}

/** Doubled, with up to a quarter more by chance, so that many who were dropped at once do not come back at once. */
function backOff(failures: number, firstWaitMs: number, longestWaitMs: number): number {
  return Math.min(longestWaitMs, firstWaitMs * 2 ** (failures - 1) * (1 + Math.random() / 4));
}
