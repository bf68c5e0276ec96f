/**
 * What runs in the thread that reads HDF5. The C library behind h5wasm can loop for ever on a damaged file, and after
 * a trap its memory is not to be trusted, so it lives in a thread of its own that can be ended.
 *
 * `serveHdf5` is handed to that thread as its source text: the same code then runs from TypeScript sources, from the
 * built package and from an installed one, without a second file to find. So it may use nothing but its arguments.
 */

import type { MessagePort } from 'node:worker_threads';

/** `file` names an open file to the thread; it opens `path` when it does not know the name. */
export interface H5Request {
  readonly id: number;
  readonly file: number;
  readonly path: string;
  readonly command:
    | { readonly do: 'tree'; readonly maxObjects: number; readonly maxDepth: number }
    | { readonly do: 'attributes'; readonly objects: readonly string[]; readonly maxBytes: number }
    | { readonly do: 'read'; readonly dataset: string; readonly bytes: number }
    | { readonly do: 'close' };
}

export interface H5Dataset {
  readonly path: string;
  /** H5T_class_t: 0 integer, 1 float, 5 opaque, 8 enumeration, ... */
  readonly type: number;
  /** Bytes a number. */
  readonly size: number;
  readonly signed: boolean;
  /** null for a null dataspace. */
  readonly shape: readonly number[] | null;
  readonly chunked: boolean;
  /** Of an enumeration: the names of its members. */
  readonly members: readonly string[];
  /** Assembled from other files. */
  readonly virtual: boolean;
}

export interface H5Tree {
  readonly groups: readonly string[];
  readonly datasets: readonly H5Dataset[];
  /** Soft and external links, which are not followed. */
  readonly links: readonly string[];
}

/** Object -> attribute -> strings; attributes of another type have no entry, empty ones an empty list. */
export type H5Attributes = readonly (readonly [string, readonly (readonly [string, readonly string[]])[]])[];

export type H5Reply =
  | { readonly id: number; readonly ok: true; readonly value: unknown; readonly heapBytes: number }
  /** `fatal`: the thread must not be used again. `limit`: a declared size is beyond the limits of the request. */
  | {
      readonly id: number;
      readonly ok: false;
      readonly reason: string;
      readonly fatal: boolean;
      readonly limit: boolean;
    };

/**
 * The part of Node's `fs` that is watched. The library prints its error stack to file descriptor 2. And it opens every
 * file that a dataset says its numbers lie in (external storage), which may be any file of the machine.
 */
interface Watched {
  writeSync: (...args: never[]) => number;
  openSync: (...args: never[]) => number;
}

/**
 * @param h5 the module `h5wasm/node`, loaded
 * @param fs the thread's own `fs`: its writes to standard error are kept for the error message, and it opens only what
 *   was asked for
 */
export function serveHdf5(h5: typeof import('h5wasm/node'), port: MessagePort, fs: Watched): void {
  const H5T_INTEGER = 0;
  const H5T_FLOAT = 1;
  const H5T_STRING = 3;
  const H5T_OPAQUE = 5;
  const H5T_ENUM = 8;
  /** Contiguous datasets are read in slices of about this size, so that the library's memory stays small. */
  const SLICE_BYTES = 16 * 1024 * 1024;
  const lib = h5.Module;
  const open = new Map<number, bigint>();
  let diagnosis = '';

  const writeSync = fs.writeSync as unknown as (fd: number, data: Uint8Array | string, ...rest: unknown[]) => number;
  const caught = (fd: number, data: Uint8Array | string, ...rest: unknown[]): number => {
    if (fd !== 2) return writeSync(fd, data, ...rest);
    const [offset, length] = rest as [number | undefined, number | undefined];
    const bytes =
      typeof data === 'string'
        ? Buffer.from(data)
        : data.subarray(offset ?? 0, (offset ?? 0) + (length ?? data.length));
    if (diagnosis.length < 100_000) diagnosis += Buffer.from(bytes).toString('latin1');
    return bytes.length;
  };
  fs.writeSync = caught as unknown as Watched['writeSync'];

  const permitted = new Set<string>();
  let elsewhere: string | undefined;
  const openSync = fs.openSync as unknown as (path: string, ...rest: unknown[]) => number;
  const guarded = (path: string, ...rest: unknown[]): number => {
    if (permitted.has(path)) return openSync(path, ...rest);
    elsewhere = path;
    throw Object.assign(new Error(`EACCES: permission denied, open '${path}'`), { code: 'EACCES', errno: -13 });
  };
  fs.openSync = guarded as unknown as Watched['openSync'];

  class Refusal extends Error {
    readonly limit: boolean;
    constructor(message: string, limit = false) {
      super(message);
      this.limit = limit;
    }
  }

  /** The innermost line of the library's error stack: "#004: .../H5F.c line 1035 in H5Fclose(): not a file ID". */
  const innermost = (): string | undefined => {
    const lines = diagnosis.split('\n').filter((line) => /^\s*#\d{3}: /.test(line));
    return lines
      .at(-1)
      ?.replace(/^.*\(\): /, '')
      .trim();
  };

  const fileId = (file: number, path: string): bigint => {
    const known = open.get(file);
    if (known !== undefined) return known;
    permitted.add(path);
    const id = lib.open(path, lib.H5F_ACC_RDONLY, false, -1, -1);
    if (id < 0n) throw new Refusal('the file cannot be opened');
    open.set(file, id);
    return id;
  };

  /** Zeroed memory of the library for one call; a read that fails must not show what was there before. */
  const withMemory = <T>(bytes: number, use: (pointer: number) => T): T => {
    const pointer = lib._malloc(Math.max(8, bytes));
    if (pointer === 0) throw new Refusal(`no memory for ${bytes} bytes`, true);
    try {
      lib.HEAPU8.fill(0, pointer, pointer + bytes);
      return use(pointer);
    } finally {
      lib._free(pointer);
    }
  };

  const tree = (id: bigint, maxObjects: number, maxDepth: number): unknown => {
    const groups: string[] = [];
    const links: string[] = [];
    const datasets: unknown[] = [];
    const visit = (group: string, depth: number): void => {
      if (depth > maxDepth) throw new Refusal(`groups are nested deeper than ${maxDepth}`, true);
      for (const name of lib.get_names(id, group === '' ? '/' : group, false)) {
        if (groups.length + datasets.length + links.length >= maxObjects) {
          throw new Refusal(`there are more than ${maxObjects} objects`, true);
        }
        const path = group === '' ? name : `${group}/${name}`;
        const isLink =
          lib.get_symbolic_link(id, path) !== null || lib.get_external_link(id, path).filename !== undefined;
        const type = isLink ? lib.H5G_LINK : lib.get_type(id, path);
        if (type === lib.H5G_GROUP) {
          groups.push(path);
          visit(path, depth + 1);
        } else if (type === lib.H5G_DATASET) {
          const meta = lib.get_dataset_metadata(id, path);
          datasets.push({
            path,
            type: meta.type,
            size: meta.size,
            signed: meta.signed,
            shape: meta.shape,
            chunked: meta.chunks !== null,
            members: meta.type === H5T_ENUM ? Object.keys(meta.enum_type?.members ?? {}) : [],
            virtual: meta.virtual_sources !== undefined,
          });
        } else if (isLink) {
          links.push(path);
        } else if (type !== lib.H5G_TYPE) {
          throw new Refusal(`the object ${JSON.stringify(path)} cannot be read`);
        }
      }
    };
    visit('', 0);
    return { groups, datasets, links };
  };

  const readStrings = (id: bigint, object: string, name: string, maxBytes: number): string[] | undefined => {
    const meta = lib.get_attribute_metadata(id, object, name);
    if (meta.shape === null || meta.total_size === 0) return [];
    if (meta.type !== H5T_STRING) return undefined;
    const bytes = meta.size * meta.total_size;
    if (!(bytes <= maxBytes))
      throw new Refusal(`attribute ${JSON.stringify(name)} has ${bytes} bytes; expected at most ${maxBytes}`, true);
    return withMemory(bytes, (pointer) => {
      if (lib.get_attribute_data(id, object, name, BigInt(pointer)) < 0) {
        throw new Refusal(`attribute ${JSON.stringify(name)} cannot be read`);
      }
      const values: string[] = [];
      if (meta.vlen) {
        for (let i = 0; i < meta.total_size; i++) {
          values.push(lib.UTF8ToString(new DataView(lib.HEAPU8.buffer).getUint32(pointer + 4 * i, true)));
        }
        lib.reclaim_vlen_memory(id, object, name, BigInt(pointer));
      } else {
        for (let i = 0; i < meta.total_size; i++) {
          const text = lib.HEAPU8.slice(pointer + i * meta.size, pointer + (i + 1) * meta.size);
          const end = text.indexOf(0);
          values.push(Buffer.from(end < 0 ? text : text.subarray(0, end)).toString('utf8'));
        }
      }
      return values;
    });
  };

  const attributes = (id: bigint, objects: readonly string[], maxBytes: number): unknown =>
    objects.map((object) => {
      const found: [string, string[]][] = [];
      for (const name of lib.get_attribute_names(id, object)) {
        const values = readStrings(id, object, name, maxBytes);
        if (values !== undefined) found.push([name, values]);
      }
      return [object, found];
    });

  const read = (id: bigint, dataset: string, expected: number): Uint8Array => {
    const meta = lib.get_dataset_metadata(id, dataset);
    const shape = meta.shape ?? [0];
    const bytes = meta.size * shape.reduce((product, size) => product * size, 1);
    if (bytes !== expected || ![H5T_INTEGER, H5T_FLOAT, H5T_OPAQUE, H5T_ENUM].includes(meta.type)) {
      throw new Refusal('the dataset is not what it was when the file was opened');
    }
    const out = new Uint8Array(bytes);
    const [rows = 1] = shape;
    const rowBytes = bytes / Math.max(1, rows);
    // chunks are unpacked whole: slicing them would do that again and again
    const step = meta.chunks !== null || shape.length === 0 ? rows : Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
    for (let row = 0; row < rows && bytes > 0; row += step) {
      const count = Math.min(step, rows - row);
      withMemory(count * rowBytes, (pointer) => {
        const whole = count === rows;
        const counts = whole ? null : [count, ...shape.slice(1)].map(BigInt);
        const starts = whole ? null : [row, ...shape.slice(1).map(() => 0)].map(BigInt);
        const strides = whole ? null : shape.map(() => 1n);
        if (lib.get_dataset_data(id, dataset, counts, starts, strides, BigInt(pointer)) < 0) {
          throw new Refusal('the numbers cannot be read');
        }
        out.set(lib.HEAPU8.subarray(pointer, pointer + count * rowBytes), row * rowBytes);
      });
    }
    return out;
  };

  const perform = ({ file, path, command }: H5Request): unknown => {
    if (command.do === 'close') {
      const id = open.get(file);
      open.delete(file);
      if (id !== undefined) lib.close_file(id);
      return open.size;
    }
    const id = fileId(file, path);
    if (command.do === 'tree') return tree(id, command.maxObjects, command.maxDepth);
    if (command.do === 'attributes') return attributes(id, command.objects, command.maxBytes);
    return read(id, command.dataset, command.bytes);
  };

  port.on('message', (request: H5Request) => {
    diagnosis = '';
    elsewhere = undefined;
    let reply: H5Reply;
    let transfer: ArrayBuffer[] = [];
    try {
      const value = perform(request);
      if (value instanceof Uint8Array) transfer = [value.buffer as ArrayBuffer];
      reply = { id: request.id, ok: true, value, heapBytes: lib.HEAPU8.length };
    } catch (error) {
      // what the library's glue throws as a plain Error is an expected failure; a trap is a WebAssembly.RuntimeError
      const expected = error instanceof Error && error.name !== 'RuntimeError';
      const said = error instanceof Error ? error.message.split('\n')[0]! : String(error);
      // what the glue says of every object that cannot be opened, for whatever cause
      const own = said.startsWith('error - name not defined') ? 'an object cannot be read' : said;
      const isExternal = elsewhere !== undefined && diagnosis.includes('H5Defl.c'); // the part that reads such storage
      const cause = isExternal ? `its numbers lie in another file, ${elsewhere}, which is not read` : innermost();
      reply = {
        id: request.id,
        ok: false,
        reason: cause === undefined ? own : `${own} (${cause})`,
        fatal: !expected || error instanceof RangeError,
        limit: error instanceof Refusal && error.limit,
      };
    }
    port.postMessage(reply, transfer);
  });
}
