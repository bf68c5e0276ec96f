/** What can go wrong between asking for a file and having it, and which of it another try may mend. */
import { STATUS_CODES } from 'node:http';
import { messageOf } from '../../errors.js';

/** A failed try. */
export class FetchFault extends Error {
  /** Whether another try may succeed. */
  readonly again: boolean;
  /** The HTTP status, where the server answered. */
  readonly status: number | undefined;
  /** Milliseconds that the server wants us to wait first. */
  readonly afterMs: number | undefined;

  constructor(
    reason: string,
    options: { again: boolean; status?: number | undefined; afterMs?: number | undefined; cause?: unknown },
  ) {
    super(reason, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'FetchFault';
    this.again = options.again;
    this.status = options.status;
    this.afterMs = options.afterMs;
  }
}

/** 408 Request Timeout, 429 Too Many Requests (RFC 6585), and what is the server's own fault, except 501 and 505. */
const passing = (status: number): boolean =>
  status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505);

/** @param more the header Retry-After: seconds, or a date (RFC 9110, section 10.2.3); and who answers */
export function statusFault(
  status: number,
  more: { readonly retryAfter?: string | undefined; readonly who?: string; readonly cause?: unknown } = {},
): FetchFault {
  const { retryAfter, who = 'the server', cause } = more;
  const words = STATUS_CODES[status];
  return new FetchFault(`${who} answers ${status}${words === undefined ? '' : ` ${words}`}`, {
    again: passing(status),
    status,
    afterMs: waitOf(retryAfter),
    cause,
  });
}

function waitOf(retryAfter: string | undefined): number | undefined {
  if (retryAfter === undefined) return undefined;
  if (/^\d+$/.test(retryAfter.trim())) return 1000 * Number(retryAfter);
  const date = Date.parse(retryAfter);
  return Number.isNaN(date) ? undefined : Math.max(0, date - Date.now());
}

/** What the network says by the codes of Node and undici, and whether to try again. */
const NETWORK: Readonly<Record<string, readonly [again: boolean, reason: string]>> = {
  ENOTFOUND: [false, 'its host has no address (ENOTFOUND)'],
  EAI_AGAIN: [true, 'the name server does not answer (EAI_AGAIN)'],
  ECONNREFUSED: [false, 'its host refuses the connection (ECONNREFUSED)'],
  ECONNRESET: [true, 'the connection was dropped (ECONNRESET)'],
  EPIPE: [true, 'the connection was dropped (EPIPE)'],
  ETIMEDOUT: [true, 'its host does not answer (ETIMEDOUT)'],
  EHOSTUNREACH: [true, 'no way leads to its host (EHOSTUNREACH)'],
  ENETUNREACH: [true, 'the network is unreachable (ENETUNREACH)'],
  ENETDOWN: [true, 'the network is down (ENETDOWN)'],
  UND_ERR_CONNECT_TIMEOUT: [true, 'its host does not answer in time'],
  UND_ERR_HEADERS_TIMEOUT: [true, 'the server takes the request and does not answer in time'],
  UND_ERR_BODY_TIMEOUT: [true, 'the server has stopped sending'],
  UND_ERR_SOCKET: [true, 'the connection was dropped'],
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: [true, 'the connection was dropped'],
  HPE_INVALID_CONSTANT: [false, 'what answers there does not speak HTTP'],
};

/** A failed try by what was thrown; undefined where that is neither of the network nor of HTTP. */
export function networkFault(error: unknown): FetchFault | undefined {
  if (error instanceof FetchFault) return error;
  const code = codeOf(error);
  if (code === undefined) return undefined;
  const proxys = /Proxy response \((\d+)\)/.exec(messageOf(error))?.[1]; // undici's proxy-agent.js
  if (proxys !== undefined) return statusFault(Number(proxys), { who: 'the proxy', cause: error });
  const [again, reason] = NETWORK[code] ?? [];
  if (again !== undefined) return new FetchFault(reason!, { again, cause: error });
  // TLS (ERR_TLS_..., CERT_HAS_EXPIRED, SELF_SIGNED_CERT_IN_CHAIN, ...), HTTP parser and proxy: no try will mend it
  if (/^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HPE_|UND_ERR_)/.test(code)) {
    return new FetchFault(`${messageOf(error)} (${code})`, { again: false, cause: error });
  }
  return undefined;
}

/** The code of an error or, as of several addresses that were tried, of the first of those inside it. */
function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('code' in error && typeof error.code === 'string') return error.code;
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  return codeOf(error.cause);
}
