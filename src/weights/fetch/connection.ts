/**
 * HTTP requests through undici: proxies as the environment names them (HTTPS_PROXY, HTTP_PROXY and NO_PROXY, which Node's
 * own fetch does not read), time limits for silence but not for slowness, and redirects within bounds.
 */
import type { Readable } from 'node:stream';
import { Agent, type Dispatcher, EnvHttpProxyAgent, Pool, type ProxyAgent, request } from 'undici';
import { type Address, type Environment, shown } from './address.js';
import { FetchFault, networkFault } from './fault.js';

/** In milliseconds. */
export interface TimeLimits {
  /** Until a connection stands. */
  readonly connectMs: number;
  /** Between the request and the first byte of the answer. */
  readonly answerMs: number;
  /** Between two bytes: however slow a download is, it goes on. */
  readonly silenceMs: number;
}

/** An answer whose body has not been read; it must be read or destroyed. */
export interface Answer {
  readonly status: number;
  /** The last of several headers of one name, by lower case. */
  readonly header: (name: string) => string | undefined;
  /** Every header of a name. */
  readonly all: (name: string) => readonly string[];
  /** A header of the first answer, which may have been a redirect. */
  readonly first: (name: string) => string | undefined;
  readonly body: Readable;
  /** The address that answered, after redirects. */
  readonly url: string;
}

export interface Connection {
  /**
   * One GET, redirects followed.
   * @throws FetchFault; AbortError when `signal` says so
   */
  get(address: Address, headers: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Answer>;
  close(): Promise<void>;
}

/** As many as fetch follows. @see https://fetch.spec.whatwg.org/#http-redirect-fetch */
const MOST_REDIRECTS = 20;

const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];

/** @throws FetchFault where a proxy's address is none */
export function connect(limits: TimeLimits, env: Environment): Connection {
  const dispatcher = dispatcherFor(limits, env);
  return {
    get: async (address, headers, signal) => {
      let at = address.url;
      let first: Answer['first'] | undefined;
      for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
        const answer = await ask(at, headersFor(at, address, headers), dispatcher, signal);
        const to = REDIRECTS.includes(answer.status) ? answer.header('location') : undefined;
        first ??= answer.header;
        if (to === undefined) return { ...answer, first };
        discard(answer);
        at = redirected(at, to);
      }
      throw new FetchFault(`it redirects more than ${MOST_REDIRECTS} times, the last time to ${shown(at)}`, {
        again: false,
      });
    },
    close: () => dispatcher.destroy(),
  };
}

/** Lets go of an answer that is not read. */
export function discard({ body }: Answer): void {
  body.destroy();
}

/** The proxies that an environment names; the lower-case names come first, as in curl. */
export const proxiesOf = (env: Environment) => ({
  httpProxy: env.http_proxy || env.HTTP_PROXY,
  httpsProxy: env.https_proxy || env.HTTPS_PROXY,
});

function dispatcherFor({ connectMs, answerMs, silenceMs }: TimeLimits, env: Environment): Dispatcher {
  const options = { connect: { timeout: connectMs }, headersTimeout: answerMs, bodyTimeout: silenceMs };
  const { httpProxy, httpsProxy } = proxiesOf(env);
  if (!httpProxy && !httpsProxy) return new Agent(options);
  for (const proxy of [httpProxy, httpsProxy]) {
    if (!proxy || (URL.canParse(proxy) && /^https?:$/.test(new URL(proxy).protocol))) continue;
    throw new FetchFault(`the proxy ${shown(proxy)} is no address such as http://proxy.example:3128`, { again: false });
  }
  const proxied: EnvHttpProxyAgent.Options & Pick<ProxyAgent.Options, 'proxyTls' | 'clientFactory'> = {
    ...options,
    ...(httpProxy ? { httpProxy } : {}),
    ...(httpsProxy ? { httpsProxy } : {}),
    noProxy: env.no_proxy ?? env.NO_PROXY ?? '',
    proxyTls: { timeout: connectMs },
    clientFactory: (origin, inner) => new Pool(origin, { ...inner, headersTimeout: answerMs }), // of CONNECT
  };
  return quietly(() => new EnvHttpProxyAgent(proxied));
}

/** undici warns, once a process, that its EnvHttpProxyAgent may change; it is pinned, and users can do nothing about it. */
function quietly<T>(make: () => T): T {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return make();
  } finally {
    process.emitWarning = emitWarning;
  }
}

async function ask(
  url: string,
  headers: Record<string, string>,
  dispatcher: Dispatcher,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  try {
    const answer = await request(url, { dispatcher, headers, ...(signal === undefined ? {} : { signal }) });
    answer.body.on('error', () => {}); // whoever reads it, later, meets the error then
    const all = (name: string): readonly string[] => [answer.headers[name] ?? []].flat();
    const header = (name: string): string | undefined => all(name).at(-1);
    return { status: answer.statusCode, header, all, first: header, body: answer.body, url };
  } catch (error) {
    throw networkFault(error) ?? error;
  }
}

/** A file is wanted as it lies on the server; credentials are for the host that they were given for. */
function headersFor(url: string, { url: first, authorization }: Address, headers: Readonly<Record<string, string>>) {
  const same = new URL(url).origin === new URL(first).origin;
  return {
    'user-agent': 'tl-toolkit',
    'accept-encoding': 'identity',
    ...headers,
    ...(same && authorization !== undefined ? { authorization } : {}),
  };
}

/** Where a redirect leads. @throws FetchFault where that is no address, or a way out of https */
export function redirected(from: string, location: string): string {
  if (!URL.canParse(location, from)) {
    throw new FetchFault(`${shown(from)} redirects to ${shown(location)}, which is no address`, { again: false });
  }
  const to = new URL(location, from);
  const secure = new URL(from).protocol === 'https:';
  if (to.protocol !== 'https:' && (secure || to.protocol !== 'http:')) {
    throw new FetchFault(`${shown(from)} redirects to ${shown(to.href)}, which is not https`, { again: false });
  }
  return to.href;
}
