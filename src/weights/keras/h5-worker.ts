/** A thread with the HDF5 library in it, which reads or writes: what it serves is sent to it as text. */
import { Worker } from 'node:worker_threads';
import type { serveHdf5 } from './h5-thread.js';
import type { serveH5Writer } from './h5-writer-thread.js';

export function startH5Worker(serve: typeof serveHdf5 | typeof serveH5Writer): Worker {
  const library = import.meta.resolve('h5wasm/node');
  return new Worker(
    `(async () => {
       const { parentPort } = await import('node:worker_threads');
       const { default: fs } = await import('node:fs');
       console.log = console.warn = console.error = () => undefined; // the library warns of every odd byte it meets
       const h5 = await import(${JSON.stringify(library)});
       await h5.ready;
       (${serve.toString()})(h5, parentPort, fs);
     })();`,
    // none of the parent's options: some (--input-type, --import) change what this source means
    { eval: true, execArgv: [] },
  );
}
