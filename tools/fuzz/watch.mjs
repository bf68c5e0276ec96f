/** Runs the reader's process, and names what becomes of it: an answer, a hang, a crash, a full memory. */
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const READER = fileURLToPath(new URL('reader.mjs', import.meta.url));

/** Of JavaScript values; typed arrays lie outside it and count for the whole process. */
const HEAP_MB = 256;
/**
 * Of the whole process: a library loaded and a file of at most 300 kB, which deflate may unpack 1032 times
 * (MAX_DEFLATE_RATIO).
 */
const MOST_BYTES = 600e6;
/** The HDF5 library believes what a damaged file declares, in a memory of its own that ends here (getHeapMax of h5wasm). */
const MOST_HDF5_BYTES = 2 ** 31;
/** Longer than the HDF5 library is given for a small file, after which its thread is ended with an error. */
const LIMIT_MS = 20_000;
const LOOK_EVERY_MS = 20;

/** A process that answers one request at a time; it is started again whenever it had to be ended. */
export function startReader(dist) {
  let child;
  let said = '';
  let pending;

  const settle = (reply) => {
    const { resolve, timer, watch } = pending ?? {};
    clearTimeout(timer);
    clearInterval(watch);
    pending = undefined;
    resolve?.(reply);
  };
  const end = (reply) => {
    const { pid } = child;
    child.kill('SIGKILL');
    child = undefined;
    settle({ ...reply, pid });
  };

  const start = async () => {
    said = '';
    const started = fork(READER, [dist], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      execArgv: [`--max-old-space-size=${HEAP_MB}`],
      serialization: 'advanced',
    });
    const listen = (data) => {
      said = (said + data).slice(-4000);
    };
    started.stdout.on('data', listen);
    started.stderr.on('data', listen);
    await new Promise((resolve, reject) => {
      started.once('message', resolve);
      started.once('exit', (code) => reject(new Error(`the reader's process ended with ${code}: ${said}`)));
    });
    started.removeAllListeners('exit');
    started.on('message', (reply) => settle(reply));
    started.on('exit', (code, signal) => {
      if (child !== started) return;
      child = undefined;
      settle({ outcome: 'crash', message: `the process ended with ${signal ?? code}: ${said}` });
    });
    child = started;
  };

  return {
    async ask(request, mayHoldHdf5) {
      if (child === undefined) await start();
      return await new Promise((resolve) => {
        const timer = setTimeout(() => end({ outcome: 'hang', message: `no answer in ${LIMIT_MS} ms` }), LIMIT_MS);
        const watch = setInterval(() => {
          const bytes = child === undefined ? 0 : resident(child.pid);
          if (bytes > MOST_BYTES + (mayHoldHdf5 ? MOST_HDF5_BYTES : 0))
            end({ outcome: 'memory', message: `${Math.round(bytes / 1e6)} MB` });
        }, LOOK_EVERY_MS);
        pending = { resolve, timer, watch };
        child.send(request);
      });
    },
    stop() {
      const ended = child;
      child = undefined;
      ended?.disconnect();
    },
  };
}

/** Memory of a process in bytes (proc(5), statm counts pages of 4 KiB); 0 where the system does not tell. */
function resident(pid) {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096;
  } catch {
    return 0;
  }
}
