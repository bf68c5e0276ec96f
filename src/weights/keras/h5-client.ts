/** The one thread that reads HDF5: started at the first file, ended when it hangs, traps or has grown too large. */

import { resolve } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { FormatError } from '../../errors.js';
import { DAMAGED_HINT, MAX_TENSORS } from '../limits.js';
import { type H5Attributes, type H5Reply, type H5Request, type H5Tree, serveHdf5 } from './h5-thread.js';
import { startH5Worker } from './h5-worker.js';

/** A loop in the library takes for ever. Opening any file takes it 10 ms, and starting the thread half a second. */
const PATIENCE_MS = 10_000;
/** No step reads more than the file: 5 MB/s is a slow network drive. */
const SLOWEST_BYTES_PER_MS = 5000;

/** A model configuration of Keras has some 100 kB; HDF5 itself keeps attributes below 64 KiB unless told otherwise. */
const MAX_ATTRIBUTE_BYTES = 16 * 1024 * 1024;

/** A dataset a tensor, and a group or two a layer. */
const MAX_OBJECTS = 2 * MAX_TENSORS;

/** Keras nests a model in a model in a layer; names with slashes add some more. */
const MAX_DEPTH = 64;

/** WebAssembly memory never shrinks: a thread that has grown beyond this is ended once its last file is closed. */
const KEEP_HEAP_BYTES = 128 * 1024 * 1024;

/** An open HDF5 file. */
export interface H5File {
  tree(): Promise<H5Tree>;
  attributes(objects: readonly string[]): Promise<H5Attributes>;
  /** Little-endian numbers of a dataset, `bytes` in all. */
  read(dataset: string, bytes: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

interface Thread {
  readonly worker: Worker;
  pending: { readonly id: number; readonly path: string; settle(reply: H5Reply | FormatError): void } | undefined;
}

let thread: Thread | undefined;
let lastId = 0;
/** Requests wait for each other: the library does one thing at a time. */
let queue: Promise<unknown> = Promise.resolve();

/** How long one step of the library may take with a file of this size. */
export function patienceFor(fileBytes: number): number {
  return PATIENCE_MS + fileBytes / SLOWEST_BYTES_PER_MS;
}

/**
 * @param fileBytes its size
 * @param called what errors call the file, where it is a part of another one
 */
export function h5File(path: string, fileBytes: number, timeoutMs: number, called = path): H5File {
  const file = ++lastId;
  const mostAttributeBytes = Math.min(MAX_ATTRIBUTE_BYTES, fileBytes); // they are never packed
  const ask = async (command: H5Request['command']): Promise<unknown> => {
    const request: H5Request = { id: ++lastId, file, path: resolve(path), command };
    const answer = queue.then(() => perform(request, called, timeoutMs));
    queue = answer.catch(() => undefined);
    return await answer;
  };
  return {
    tree: async () => (await ask({ do: 'tree', maxObjects: MAX_OBJECTS, maxDepth: MAX_DEPTH })) as H5Tree,
    attributes: async (objects) =>
      (await ask({ do: 'attributes', objects, maxBytes: mostAttributeBytes })) as H5Attributes,
    read: async (dataset, bytes) => (await ask({ do: 'read', dataset, bytes })) as Uint8Array,
    async close() {
      if (thread !== undefined) await ask({ do: 'close' });
    },
  };
}

async function perform(request: H5Request, path: string, timeoutMs: number): Promise<unknown> {
  thread ??= start();
  const current = thread;
  const reply = await exchange(current, request, path, timeoutMs);
  if (reply instanceof FormatError) {
    await end(current);
    throw reply;
  }
  if (!reply.ok) {
    if (reply.fatal) await end(current);
    const code = reply.limit ? 'LIMIT_EXCEEDED' : 'H5_DAMAGED';
    throw new FormatError({ code, message: `${path}: ${reply.reason}`, hint: DAMAGED_HINT });
  }
  if (request.command.do === 'close' && reply.value === 0 && reply.heapBytes > KEEP_HEAP_BYTES) await end(current);
  return reply.value;
}

async function exchange(
  to: Thread,
  request: H5Request,
  path: string,
  timeoutMs: number,
): Promise<H5Reply | FormatError> {
  let timer: NodeJS.Timeout | undefined;
  to.worker.ref(); // the process waits for an answer, but not for a thread that has nothing to do
  try {
    return await new Promise<H5Reply | FormatError>((settle) => {
      to.pending = { id: request.id, path, settle };
      timer = setTimeout(() => settle(timeout(path, timeoutMs)), timeoutMs);
      to.worker.postMessage(request);
    });
  } finally {
    clearTimeout(timer);
    to.pending = undefined;
    to.worker.unref();
  }
}

function timeout(path: string, timeoutMs: number): FormatError {
  return new FormatError({
    code: 'H5_TIMEOUT',
    message: `${path}: the HDF5 library gave no answer within ${Math.round(timeoutMs / 100) / 10} s`,
    hint: DAMAGED_HINT,
  });
}

function start(): Thread {
  const worker = startH5Worker(serveHdf5);
  const started: Thread = { worker, pending: undefined };
  worker.on('message', (reply: H5Reply) => {
    if (started.pending?.id === reply.id) started.pending.settle(reply);
  });
  const stopped = (reason: string): void => {
    if (thread === started) thread = undefined;
    const { path, settle } = started.pending ?? {};
    settle?.(
      new FormatError({
        code: 'H5_STOPPED',
        message: `${path}: the HDF5 library (h5wasm) stopped: ${reason}`,
        hint: 'if it does so for every file, install the packages again (npm ci); if only for this one, it is damaged',
      }),
    );
  };
  worker.on('error', (error) => stopped(String(error).split('\n')[0]!));
  worker.on('exit', (code) => stopped(`exit code ${code}`));
  worker.unref();
  return started;
}

async function end(old: Thread): Promise<void> {
  if (thread === old) thread = undefined;
  await old.worker.terminate();
}
