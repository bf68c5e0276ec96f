/**
 * What runs in the thread that writes HDF5. As in `h5-thread.ts`, the function is handed to the thread as its source text,
 * so it may use nothing but its arguments.
 */
import type { MessagePort } from 'node:worker_threads';

export interface H5WriteRequest {
  readonly id: number;
  readonly command:
    | { readonly do: 'create'; readonly path: string }
    /** Makes the groups on the way to `path`, and itself. */
    | { readonly do: 'group'; readonly path: string }
    /** `strings`: one string is a scalar attribute. `anyLength`: kept apart from its object, whose header has 64 KiB. */
    | {
        readonly do: 'attribute';
        readonly object: string;
        readonly name: string;
        readonly strings: string | string[];
        readonly anyLength?: boolean;
      }
    | {
        readonly do: 'dataset';
        readonly path: string;
        readonly dtype: 'float32' | 'int64';
        readonly shape: readonly number[];
        /** Little-endian numbers. */
        readonly bytes: Uint8Array;
      }
    | { readonly do: 'close' };
}

export type H5WriteReply =
  | { readonly id: number; readonly ok: true }
  | { readonly id: number; readonly ok: false; readonly reason: string };

/** The part of Node's `fs` whose output is caught: the library prints its error stack to file descriptor 2. */
interface Writes {
  writeSync: (...args: never[]) => number;
}

export function serveH5Writer(h5: typeof import('h5wasm/node'), port: MessagePort, fs: Writes): void {
  /** H5T_class_t. */
  const types = { float32: { type: 1, size: 4 }, int64: { type: 0, size: 8 } } as const;
  /** Larger datasets go to the file in slices of about this size, so that the library's memory stays small. */
  const SLICE_BYTES = 16 * 1024 * 1024;
  const lib = h5.Module;
  let file: InstanceType<typeof h5.File> | undefined;
  let diagnosis = '';

  const writeSync = fs.writeSync as unknown as (fd: number, data: Uint8Array | string, ...rest: unknown[]) => number;
  const caught = (fd: number, data: Uint8Array | string, ...rest: unknown[]): number => {
    if (fd !== 2) return writeSync(fd, data, ...rest);
    const [offset = 0, length] = rest as [number | undefined, number | undefined];
    const bytes =
      typeof data === 'string' ? Buffer.from(data) : data.subarray(offset, offset + (length ?? data.length));
    diagnosis += Buffer.from(bytes).toString('latin1');
    return bytes.length;
  };
  fs.writeSync = caught as unknown as Writes['writeSync'];

  /** The library's calls for writing tell of a failure by their error stack alone; its last line is the cause. */
  const checkDiagnosis = (): void => {
    const lines = diagnosis.split('\n').filter((line) => /^\s*#\d{3}: /.test(line));
    if (lines.length > 0)
      throw new Error(
        lines
          .at(-1)!
          .replace(/^.*\(\): /, '')
          .trim(),
      );
  };

  const opened = (): InstanceType<typeof h5.File> => {
    if (file === undefined) throw new Error('no file is open');
    return file;
  };

  const made = new Set<string>();
  const group = (path: string): void => {
    const parts = path.split('/').filter((part) => part !== '');
    parts.forEach((_, i) => {
      const each = parts.slice(0, i + 1).join('/');
      if (made.has(each)) return;
      lib.create_group(opened().file_id, `/${each}`, false);
      made.add(each);
    });
  };

  const withMemory = (bytes: Uint8Array, use: (pointer: bigint) => void): void => {
    const pointer = lib._malloc(Math.max(8, bytes.length));
    if (pointer === 0) throw new Error(`no memory for ${bytes.length} bytes`);
    try {
      lib.HEAPU8.set(bytes, pointer);
      use(BigInt(pointer));
    } finally {
      lib._free(pointer);
    }
  };

  const dataset = (path: string, dtype: keyof typeof types, shape: readonly number[], bytes: Uint8Array): void => {
    const id = opened().file_id;
    const { type, size } = types[dtype];
    const counts = shape.map(BigInt);
    const metadata = {
      ...{ type, size, signed: true, littleEndian: true, vlen: false, total_size: bytes.length / size },
      ...{ shape: counts, maxshape: counts, chunks: null, compression: 0, compression_opts: [], track_order: false },
    };
    if (bytes.length <= SLICE_BYTES) {
      withMemory(bytes, (pointer) => lib.create_dataset(id, path, pointer, metadata));
      return;
    }
    // Without numbers the dataset is made all the same, and the library says that it was given none.
    lib.create_dataset(id, path, 0n, metadata);
    if (diagnosis.includes('no input buffer')) diagnosis = '';
    checkDiagnosis();
    const [rows = 1] = shape;
    const rowBytes = bytes.length / rows;
    const step = Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
    const strides = shape.map(() => 1n);
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const slice = [BigInt(count), ...counts.slice(1)];
      const start = [BigInt(row), ...shape.slice(1).map(() => 0n)];
      withMemory(bytes.subarray(row * rowBytes, (row + count) * rowBytes), (pointer) => {
        if (lib.set_dataset_data(id, path, slice, start, strides, pointer) < 0)
          throw new Error('a slice is not written');
      });
    }
  };

  const perform = (command: H5WriteRequest['command']): void => {
    switch (command.do) {
      case 'create':
        file = new h5.File(command.path, 'w');
        if (file.file_id < 0n) throw new Error('the file cannot be made');
        return;
      case 'group':
        group(command.path);
        return;
      case 'attribute': {
        const { object, name, strings, anyLength = false } = command;
        const target = (object === '' ? opened() : opened().get(object)) as InstanceType<typeof h5.Group>;
        const list = typeof strings === 'string' ? [strings] : strings;
        const bytes = Math.max(1, ...list.map((each) => Buffer.byteLength(each)));
        const shape = typeof strings === 'string' ? [] : [list.length];
        target.create_attribute(name, strings, shape, anyLength ? 'S' : `S${bytes}`);
        return;
      }
      case 'dataset':
        group(command.path.slice(0, Math.max(0, command.path.lastIndexOf('/'))));
        dataset(`/${command.path}`, command.dtype, command.shape, command.bytes);
        return;
      case 'close':
        opened().close();
    }
  };

  port.on('message', ({ id, command }: H5WriteRequest) => {
    diagnosis = '';
    let reply: H5WriteReply = { id, ok: true };
    try {
      perform(command);
      checkDiagnosis();
    } catch (error) {
      reply = { id, ok: false, reason: error instanceof Error ? error.message.split('\n')[0]! : String(error) };
    }
    port.postMessage(reply);
  });
}
