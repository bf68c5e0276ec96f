/** Writes files as torch.save does, in both of its formats, so that tests can also write what it never would. */

import yazl from 'yazl';

/** A pickle of protocol 2, piece by piece. */
export const p = {
  proto: Buffer.from([0x80, 2]),
  stop: Buffer.from('.'),
  mark: Buffer.from('('),
  none: Buffer.from('N'),
  false: Buffer.from([0x89]),
  emptyDict: Buffer.from('}'),
  emptyList: Buffer.from(']'),
  emptyTuple: Buffer.from(')'),
  setItems: Buffer.from('u'),
  appends: Buffer.from('e'),
  tuple: Buffer.from('t'),
  persId: Buffer.from('Q'),
  reduce: Buffer.from('R'),
  global: (module: string, name: string): Buffer => Buffer.from(`c${module}\n${name}\n`),
  text(value: string): Buffer {
    const bytes = Buffer.from(value);
    const head = Buffer.alloc(5);
    head.write('X');
    head.writeUInt32LE(bytes.length, 1);
    return Buffer.concat([head, bytes]);
  },
  int(value: number): Buffer {
    const out = Buffer.alloc(5);
    out.write('J');
    out.writeInt32LE(value, 1);
    return out;
  },
  long(value: bigint): Buffer {
    const bytes: number[] = [];
    for (let rest = value; bytes.length < 16 && (rest > 0n || (bytes.at(-1) ?? 0x80) >= 0x80); rest >>= 8n) {
      bytes.push(Number(rest & 0xffn));
    }
    return Buffer.from([0x8a, bytes.length, ...bytes]);
  },
  tupleOf: (...items: Buffer[]): Buffer => Buffer.concat([p.mark, ...items, p.tuple]),
  listOf: (...items: Buffer[]): Buffer => Buffer.concat([p.emptyList, p.mark, ...items, p.appends]),
  dictOf: (pairs: readonly (readonly [string, Buffer])[]): Buffer =>
    Buffer.concat([p.emptyDict, p.mark, ...pairs.flatMap(([key, value]) => [p.text(key), value]), p.setItems]),
};

export interface TorchStorageSpec {
  readonly key: string;
  /** Class name in module torch: `FloatStorage`. */
  readonly type: string;
  /** Numbers of one storage as they lie in the file. */
  readonly bytes: Uint8Array;
  /** What the file claims; the real count by default. */
  readonly count: number;
}

/** A tensor over a storage; offset, shape and strides in numbers. */
export function tensor(
  storage: Omit<TorchStorageSpec, 'bytes'>,
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): Buffer {
  const id = p.tupleOf(
    p.text('storage'),
    p.global('torch', storage.type),
    p.text(storage.key),
    p.text('cpu'),
    p.int(storage.count),
  );
  const args = p.tupleOf(
    Buffer.concat([id, p.persId]),
    p.int(offset),
    p.tupleOf(...shape.map(p.int)),
    p.tupleOf(...strides.map(p.int)),
    p.false,
    Buffer.concat([p.global('collections', 'OrderedDict'), p.emptyTuple, p.reduce]),
  );
  return Buffer.concat([p.global('torch._utils', '_rebuild_tensor_v2'), args, p.reduce]);
}

export function floats(...values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** Bytes of a zip with these entries, stored or deflated. */
export async function zipOf(
  entries: readonly (readonly [string, Uint8Array | string])[],
  options: { readonly compress?: boolean; readonly forceZip64Format?: boolean } = {},
): Promise<Buffer> {
  const zip = new yazl.ZipFile();
  for (const [name, content] of entries) {
    zip.addBuffer(Buffer.from(content), name, {
      compress: options.compress ?? false,
      mtime: new Date(1980, 0, 1),
      forceDosTimestamp: true,
      forceZip64Format: options.forceZip64Format ?? false,
    });
  }
  zip.end({ forceZip64Format: options.forceZip64Format ?? false, comment: '' });
  const chunks: Buffer[] = [];
  for await (const chunk of zip.outputStream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** The zip format: the object without its framing, and the storages. */
export async function torchZip(
  object: Buffer,
  storages: readonly TorchStorageSpec[],
  options: {
    readonly prefix?: string;
    readonly byteorder?: string;
    readonly compress?: boolean;
    readonly forceZip64Format?: boolean;
  } = {},
): Promise<Buffer> {
  const prefix = options.prefix ?? 'archive/';
  return await zipOf(
    [
      [`${prefix}data.pkl`, Buffer.concat([p.proto, object, p.stop])],
      ...(options.byteorder === undefined ? [] : [[`${prefix}byteorder`, options.byteorder] as const]),
      ...storages.map(({ key, bytes }) => [`${prefix}data/${key}`, bytes] as const),
      [`${prefix}version`, '3\n'],
    ],
    options,
  );
}

/** The older format: five pickles, then the storages. */
export function torchStream(
  object: Buffer,
  storages: readonly TorchStorageSpec[],
  options: { readonly littleEndian?: boolean; readonly magic?: bigint; readonly protocol?: number } = {},
): Buffer {
  const pickle = (...parts: Buffer[]): Buffer => Buffer.concat([p.proto, ...parts, p.stop]);
  const isLittle = options.littleEndian ?? true;
  return Buffer.concat([
    pickle(p.long(options.magic ?? 0x1950a86a20f9469cfc6cn)),
    pickle(p.int(options.protocol ?? 1001)),
    pickle(p.dictOf([['little_endian', Buffer.from([isLittle ? 0x88 : 0x89])]])),
    pickle(object),
    pickle(p.listOf(...storages.map(({ key }) => p.text(key)))),
    ...storages.flatMap(({ bytes, count }) => {
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(count));
      return [length, Buffer.from(bytes)];
    }),
  ]);
}
