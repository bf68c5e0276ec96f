/**
 * What lies inside a file with checksums, taken apart and put together again with the right ones: damage inside then
 * reaches the parser that stands behind the checksum.
 */
import { deflateRawSync, gunzipSync, gzipSync, inflateRawSync } from 'node:zlib';
import { mutate, mutateJson } from './mutations.mjs';

/** leveldb's kTableMagicNumber, as it lies in the file. */
const TABLE_MAGIC = Buffer.from('57fb808b247547db', 'hex');
const FOOTER_BYTES = 48;

/** A format of parts: `open` gives `[{ name, data }]`, `close` the file again. */
const ENVELOPES = [
  { is: (b) => b.length > 22 && b.readUInt32LE(0) === 0x04034b50, open: openZip, close: closeZip },
  { is: (b) => b[0] === 0x1f && b[1] === 0x8b, open: (b) => [{ name: '', data: gunzipSync(b) }], close: closeGzip },
  { is: (b) => b.toString('latin1', 257, 262) === 'ustar', open: openTar, close: closeTar },
  { is: (b) => b.subarray(-8).equals(TABLE_MAGIC), open: openTable, close: closeTable },
  { is: isSafetensors, open: openSafetensors, close: closeSafetensors },
];

/**
 * Damages something inside the innermost envelope that the generator walks to, checksums and lengths put right.
 * @param sums maskedCrc32c and crc32 of the toolkit
 */
export function mutateInside(bytes, random, sums) {
  const envelope = ENVELOPES.find(({ is }) => is(bytes));
  if (envelope === undefined) {
    if (isJson(bytes) && random.integer(2) === 0) return { kind: 'json', bytes: mutateJson(bytes.toString(), random) };
    return mutate(bytes, random);
  }
  const parts = partsOf(envelope, bytes);
  if (parts.length === 0) return mutate(bytes, random);
  if (random.integer(5) === 0) {
    const kind = rearrange(parts, random);
    return { kind, bytes: envelope.close(parts, sums) };
  }
  const part = parts[random.integer(parts.length)];
  const inner = mutateInside(part.data, random, sums);
  part.data = inner.bytes;
  return { kind: `inside ${inner.kind}`, bytes: envelope.close(parts, sums) };
}

/** None where the file has something of its format that these few lines do not know, such as zip64. */
function partsOf(envelope, bytes) {
  try {
    return envelope.open(bytes);
  } catch {
    return [];
  }
}

const HOSTILE_NAMES = [
  '../outside',
  '/absolute',
  'a/../../b',
  '',
  '.',
  'C:\\x',
  'x'.repeat(300),
  'nul\0l',
  '__proto__',
];

/** Damage to the list of parts itself. */
function rearrange(parts, random) {
  const [a, b] = [random.integer(parts.length), random.integer(parts.length)];
  const ways = {
    'part lost': () => void parts.splice(a, 1),
    'part twice': () => void parts.splice(b, 0, { ...parts[a] }),
    'parts swapped': () => {
      [parts[a].data, parts[b].data] = [parts[b].data, parts[a].data];
    },
    'part renamed': () => {
      parts[a].name = HOSTILE_NAMES[random.integer(HOSTILE_NAMES.length)];
    },
    'name of another': () => {
      parts[a].name = parts[b].name;
    },
    'part empty': () => {
      parts[a].data = Buffer.alloc(0);
    },
  };
  const names = Object.keys(ways);
  const name = names[random.integer(names.length)];
  ways[name]();
  return name;
}

const isJson = (bytes) => {
  try {
    return bytes[0] === 0x7b && typeof JSON.parse(bytes.toString()) === 'object';
  } catch {
    return false;
  }
};

// ---- zip: APPNOTE.TXT 4.3 ----------------------------------------------------------------------------------------

export function openZip(bytes) {
  const end = bytes.lastIndexOf(Buffer.from('504b0506', 'hex'));
  const parts = [];
  for (let at = bytes.readUInt32LE(end + 16); bytes.readUInt32LE(at) === 0x02014b50; ) {
    const [method, packed, nameLength] = [10, 20, 28].map((o) =>
      (o === 20 ? bytes.readUInt32LE : bytes.readUInt16LE).call(bytes, at + o),
    );
    const local = bytes.readUInt32LE(at + 42);
    const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    const raw = bytes.subarray(start, start + packed);
    const name = bytes.toString('latin1', at + 46, at + 46 + nameLength);
    parts.push({ name, method, data: method === 8 ? inflateRawSync(raw) : Buffer.from(raw) });
    at += 46 + nameLength + bytes.readUInt16LE(at + 30) + bytes.readUInt16LE(at + 32);
  }
  return parts;
}

/** Without alignment and zip64, which small files do not need. */
export function closeZip(parts, { crc32 }) {
  const [files, directory] = [[], []];
  let offset = 0;
  for (const { name, method, data } of parts) {
    const label = Buffer.from(name, 'latin1');
    const raw = method === 8 ? deflateRawSync(data) : data;
    const common = Buffer.alloc(26); // from "version needed" to "extra field length", the same in both headers
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(method, 4);
    common.writeUInt32LE(crc32(data), 10);
    common.writeUInt32LE(raw.length, 14);
    common.writeUInt32LE(data.length, 18);
    common.writeUInt16LE(label.length, 22);
    const local = Buffer.concat([Buffer.from('504b0304', 'hex'), common, label, raw]);
    const after = Buffer.alloc(14);
    after.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('504b01021400', 'hex'), common, after, label);
    files.push(local);
    offset += local.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('504b0506', 'hex');
  end.writeUInt16LE(parts.length, 8);
  end.writeUInt16LE(parts.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...files, list, end]);
}

// ---- gzip and tar: RFC 1952, POSIX.1-1988 ------------------------------------------------------------------------

export function closeGzip([part]) {
  return gzipSync(part?.data ?? Buffer.alloc(0));
}

function openTar(bytes) {
  const parts = [];
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0; ) {
    const header = bytes.subarray(at, at + 512);
    const size = Number.parseInt(header.toString('latin1', 124, 136), 8) || 0;
    const name = header.toString('latin1', 0, 100).replace(/\0.*$/s, '');
    parts.push({ name, type: header[156], data: Buffer.from(bytes.subarray(at + 512, at + 512 + size)) });
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return parts;
}

export function closeTar(parts) {
  const out = [];
  for (const { name, data, type = 0x30, link = '' } of parts) {
    const header = Buffer.alloc(512);
    header.write(name.slice(0, 100), 0, 'latin1');
    header.write('0000644\x000000000\x000000000\0', 100);
    header.write(`${data.length.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0`, 124);
    header[156] = type;
    header.write(link, 157, 'latin1');
    header.write('ustar\x0000', 257);
    header.fill(' ', 148, 156);
    const sum = header.reduce((a, b) => a + b, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    out.push(header, data, Buffer.alloc((512 - (data.length % 512)) % 512));
  }
  return Buffer.concat([...out, Buffer.alloc(1024)]);
}

// ---- tables of TensorFlow's checkpoints: tensorflow/core/lib/io/table_builder.cc -----------------------------------

function varintAt(bytes, at) {
  let [value, factor] = [0, 1];
  for (; ; factor *= 128) {
    const byte = bytes[at++];
    value += (byte & 127) * factor;
    if (!(byte & 128)) return [value, at];
  }
}

function varint(value) {
  const out = [];
  for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return Buffer.from([...out, value]);
}

function entriesOf(block) {
  const end = block.length - 4 * (block.readUInt32LE(block.length - 4) + 1);
  const entries = [];
  let key = Buffer.alloc(0);
  for (let at = 0; at < end; ) {
    const [shared, a] = varintAt(block, at);
    const [own, b] = varintAt(block, a);
    const [length, c] = varintAt(block, b);
    key = Buffer.concat([key.subarray(0, shared), block.subarray(c, c + own)]);
    entries.push({ key, value: Buffer.from(block.subarray(c + own, c + own + length)) });
    at = c + own + length;
  }
  return entries;
}

/** One part an entry; its name is the key. */
function openTable(bytes) {
  const footer = bytes.subarray(-FOOTER_BYTES);
  const [, a] = varintAt(footer, 0);
  const [, b] = varintAt(footer, a);
  const [offset, c] = varintAt(footer, b);
  const [size] = varintAt(footer, c);
  return entriesOf(bytes.subarray(offset, offset + size)).flatMap(({ value: handle }) => {
    const [at, next] = varintAt(handle, 0);
    const [length] = varintAt(handle, next);
    return entriesOf(bytes.subarray(at, at + length)).map(({ key, value }) => ({
      name: key.toString('latin1'),
      data: value,
    }));
  });
}

function blockOf(entries) {
  const out = [];
  const starts = [];
  let at = 0;
  for (const { key, value } of entries) {
    const entry = Buffer.concat([varint(0), varint(key.length), varint(value.length), key, value]);
    starts.push(at);
    at += entry.length;
    out.push(entry);
  }
  const tail = Buffer.alloc(4 * (Math.max(1, starts.length) + 1));
  starts.forEach((start, i) => void tail.writeUInt32LE(start, 4 * i));
  tail.writeUInt32LE(Math.max(1, starts.length), tail.length - 4);
  return Buffer.concat([...out, tail]);
}

/** One block an entry, no shared keys: as valid as any table. */
function closeTable(parts, { maskedCrc32c }) {
  const out = [];
  let at = 0;
  const add = (block) => {
    const body = Buffer.concat([block, Buffer.from([0])]);
    const sum = Buffer.alloc(4);
    sum.writeUInt32LE(maskedCrc32c(body));
    out.push(body, sum);
    const handle = Buffer.concat([varint(at), varint(block.length)]);
    at += body.length + 4;
    return handle;
  };
  const index = parts.map(({ name, data }) => {
    const key = Buffer.from(name, 'latin1');
    return { key, value: add(blockOf([{ key, value: data }])) };
  });
  const footer = Buffer.alloc(FOOTER_BYTES);
  Buffer.concat([add(blockOf([])), add(blockOf(index))]).copy(footer);
  TABLE_MAGIC.copy(footer, FOOTER_BYTES - 8);
  return Buffer.concat([...out, footer]);
}

/**
 * The index of a checkpoint of version 2 with the checksums of a damaged data file: field 6 of every entry, of the bytes
 * at field 4, as many as field 5 says. Texts have other sums and keep theirs.
 */
export function resumIndex(index, data, sums) {
  const parts = openTable(index);
  for (const part of parts) {
    if (part.name === '') continue;
    const at = { 4: 0, 5: 0, 6: undefined };
    for (let i = 0; i < part.data.length; ) {
      const [tag, next] = varintAt(part.data, i);
      if (tag % 8 === 0) [at[Math.floor(tag / 8)], i] = varintAt(part.data, next);
      else if (tag % 8 === 5) [at[Math.floor(tag / 8)], i] = [next, next + 4];
      else {
        const [length, start] = varintAt(part.data, next);
        i = start + length;
      }
    }
    if (at[6] !== undefined) part.data.writeUInt32LE(sums.maskedCrc32c(data.subarray(at[4], at[4] + at[5])), at[6]);
  }
  return closeTable(parts, sums);
}

// ---- safetensors ---------------------------------------------------------------------------------------------------

function isSafetensors(bytes) {
  if (bytes.length < 10 || bytes[8] !== 0x7b) return false;
  const length = Number(bytes.readBigUInt64LE(0));
  return length <= bytes.length - 8 && isJson(bytes.subarray(8, 8 + length));
}

function openSafetensors(bytes) {
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  return [
    { name: 'header', data: bytes.subarray(8, end) },
    { name: 'numbers', data: bytes.subarray(end) },
  ];
}

function closeSafetensors(parts) {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(parts[0]?.data.length ?? 0));
  return Buffer.concat([length, ...parts.map(({ data }) => data)]);
}
