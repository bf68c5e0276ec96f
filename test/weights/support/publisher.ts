/** A publisher on loopback, as good or as bad as a test wants it; what it was asked and what it sent can be looked at. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** One request, and how many bytes of a body it was answered with. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  sent: number;
}

/** Answers one request. */
export type Answering = (asked: Asked, response: ServerResponse, nth: number) => void | Promise<void>;

export interface Publisher {
  readonly url: string;
  readonly asked: readonly Asked[];
  /** Answers from now on, and forgets what it was asked. */
  answer(by: Answering): void;
  close(): Promise<void>;
}

export async function openPublisher(): Promise<Publisher> {
  let answering: Answering = (_, response) => void response.writeHead(404).end();
  const asked: Asked[] = [];
  const server: Server = createServer((request, response) => {
    const each = { method: request.method!, path: request.url!, headers: request.headers, sent: 0 };
    asked.push(each);
    response.on('error', () => {}); // the client has hung up
    void answering(each, response, asked.length - 1);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    answer: (by) => {
      answering = by;
      asked.length = 0;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

/** How {@link serve} differs from a good server. */
export interface Manners {
  readonly etag?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sends so many bytes, and then `after` happens instead of the rest. */
  readonly only?: number;
  readonly after?: 'drop' | 'stall';
  readonly ignoresRange?: boolean;
  readonly ignoresIfRange?: boolean;
}

/** Answers like a file server that knows Range and If-Range. */
export async function serve(
  file: Buffer,
  asked: Asked,
  response: ServerResponse,
  manners: Manners = {},
): Promise<void> {
  const { etag, headers = {}, only = Infinity, after = 'drop' } = manners;
  const { range, 'if-range': ifRange } = asked.headers;
  const same = ifRange === undefined || ifRange === etag || manners.ignoresIfRange === true;
  const from =
    range === undefined || !same || manners.ignoresRange === true ? undefined : Number(/\d+/.exec(range)![0]);
  const common = { ...(etag === undefined ? {} : { etag }), ...headers };
  if (from !== undefined && from >= file.length) {
    response.writeHead(416, { ...common, 'content-range': `bytes */${file.length}` }).end();
    return;
  }
  const body = file.subarray(from ?? 0);
  const whole = { 'content-length': body.length, ...common };
  if (from === undefined) response.writeHead(200, whole);
  else response.writeHead(206, { ...whole, 'content-range': `bytes ${from}-${file.length - 1}/${file.length}` });
  if (only >= body.length) {
    asked.sent += body.length;
    response.end(body);
    return;
  }
  asked.sent += only;
  await new Promise((done) => response.write(body.subarray(0, only), done));
  if (after === 'drop') setTimeout(() => response.destroy(), 100); // when the client has read what was sent
}
