/** A file on a Hugging Face hub: its address, size and sha256, through the hub's own client. */
import { fileDownloadInfo, HubApiError, InvalidApiResponseFormatError } from '@huggingface/hub';
import type { HubFile } from '../../backbones/index.js';
import { messageOf } from '../../errors.js';
import type { Address, HubAddress } from './address.js';
import { type Connection, discard } from './connection.js';
import { FetchFault, statusFault } from './fault.js';

export interface FileOnHub {
  readonly address: Address;
  readonly bytes: number;
  /** Of files that lie in the hub's large file storage, as all weights do; their ETag. */
  readonly sha256: string | undefined;
}

/** An answer of the hub beyond this is no message. */
const MOST_MESSAGE_BYTES = 64 * 1024;

/**
 * Asks a hub for a file. Its bytes are then fetched as any other file's: the client has no way to go on with a part only
 * where the file is still the same.
 * @throws FetchFault
 */
export async function findOnHub(
  { base, accessToken }: HubAddress,
  { repo, file, revision = 'main' }: HubFile,
  connection: Connection,
  signal: AbortSignal | undefined,
): Promise<FileOnHub> {
  const info = await fileDownloadInfo({
    repo: { type: 'model', name: repo },
    path: file,
    revision,
    hubUrl: base.url,
    ...(accessToken === undefined ? {} : { accessToken }),
    fetch: fetchThrough(connection, base, signal),
  }).catch((error: unknown) => {
    if (error instanceof HubApiError) throw hubFault(error);
    if (error instanceof InvalidApiResponseFormatError) {
      throw new FetchFault(`its answer is not that of a hub: ${messageOf(error)}`, { again: false, cause: error });
    }
    throw error;
  });
  if (info === null) throw new FetchFault(`the hub has no file ${file} in ${repo}`, { again: false, status: 404 });
  const authorization = accessToken === undefined ? base.authorization : `Bearer ${accessToken}`;
  return {
    address: { url: info.url, ...(authorization === undefined ? {} : { authorization }) },
    bytes: info.size,
    sha256: /^"?([0-9a-f]{64})"?$/.exec(info.etag)?.[1],
  };
}

function hubFault(error: HubApiError): FetchFault {
  const { message, status } = statusFault(error.statusCode);
  const said = typeof error.data?.error === 'string' ? `: ${error.data.error.slice(0, 300)}` : '';
  return new FetchFault(`${message}${said}`, { again: false, status, cause: error });
}

/**
 * `fetch` for the client, with our proxies, time limits and redirects. The client asks for the first byte only; a server
 * that sends the whole file all the same is cut off.
 */
function fetchThrough(connection: Connection, base: Address, signal: AbortSignal | undefined): typeof fetch {
  return async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    const { authorization = base.authorization, ...headers } = Object.fromEntries(new Headers(init?.headers));
    const address = { url, ...(authorization === undefined ? {} : { authorization }) };
    const answer = await connection.get(address, headers, signal);
    const { status, header, first, body } = answer;
    const fault = statusFault(status, { retryAfter: header('retry-after') });
    const chunks: Buffer[] = [];
    if (status >= 400 && !fault.again) {
      let length = 0;
      for await (const chunk of body) {
        chunks.push(chunk as Buffer);
        length += (chunk as Buffer).length;
        if (length > MOST_MESSAGE_BYTES) break;
      }
    }
    discard(answer);
    if (fault.again) throw fault;
    const kept = ['content-type', 'content-range', 'etag', 'link', 'x-error-code', 'x-linked-etag', 'x-linked-size'];
    const told = [...kept, 'x-request-id', 'x-xet-hash'].flatMap((name): [string, string][] => {
      // Of a file in another storage, the hub states size and hash as it redirects there
      const value = name.startsWith('x-linked-') ? (first(name) ?? header(name)) : header(name);
      return value === undefined ? [] : [[name, value]];
    });
    return new Response(chunks.length === 0 ? null : Buffer.concat(chunks), { status, headers: told });
  };
}
