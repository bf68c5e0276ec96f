/** Damage to bytes, drawn from a seeded generator so that every case can be repeated alone. */

/** What lengths, offsets and counts are turned into most often, by accident or by malice. */
const EDGES = [
  0n,
  1n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** The same for numbers that are written in letters: JSON, headers of NumPy. */
const WRITTEN_EDGES = [
  '0',
  '-1',
  '1',
  '2147483648',
  '9007199254740993',
  '18446744073709551616',
  '1e308',
  '0.5',
  'null',
];

const LONGEST_RUN = 64;
const LONGEST_BLOCK = 4096;

/**
 * Every way of damaging one file: `(bytes, random, other) => bytes`. `other` is another file, to be spliced in.
 * None of them changes what it is given.
 */
const KINDS = {
  flipBits(bytes, random) {
    const out = Buffer.from(bytes);
    for (let n = 1 + random.integer(4); n > 0; n--) out[random.integer(out.length)] ^= 1 << random.integer(8);
    return out;
  },
  setByte(bytes, random) {
    const out = Buffer.from(bytes);
    out[random.integer(out.length)] = random.integer(256);
    return out;
  },
  setRun(bytes, random) {
    const out = Buffer.from(bytes);
    const [start, length] = [random.integer(out.length), 1 + random.integer(LONGEST_RUN)];
    const fill = [() => 0, () => 255, () => random.integer(256)][random.integer(3)];
    for (let i = start; i < Math.min(start + length, out.length); i++) out[i] = fill();
    return out;
  },
  truncate: (bytes, random) => bytes.subarray(0, place(bytes, random)),
  loseHead: (bytes, random) => bytes.subarray(place(bytes, random)),
  insert(bytes, random) {
    const at = place(bytes, random);
    const added = Buffer.from(Array.from({ length: 1 + random.integer(LONGEST_RUN) }, () => random.integer(256)));
    return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at)]);
  },
  remove(bytes, random) {
    const [start, length] = stretch(bytes, random);
    return Buffer.concat([bytes.subarray(0, start), bytes.subarray(start + length)]);
  },
  repeat(bytes, random) {
    const [start, length] = stretch(bytes, random);
    const section = bytes.subarray(start, start + length);
    const times = Array.from({ length: 1 + random.integer(3) }, () => section);
    return Buffer.concat([bytes.subarray(0, start), ...times, bytes.subarray(start)]);
  },
  swapBlocks(bytes, random) {
    const length = 1 + random.integer(Math.min(512, bytes.length));
    const [a, b] = [random.integer(bytes.length - length + 1), random.integer(bytes.length - length + 1)];
    const out = Buffer.from(bytes);
    bytes.copy(out, a, b, b + length);
    bytes.copy(out, b, a, a + length);
    return out;
  },
  setInteger(bytes, random) {
    const width = [1, 2, 4, 8][random.integer(4)];
    if (bytes.length < width) return bytes;
    const out = Buffer.from(bytes);
    const value = BigInt.asUintN(8 * width, EDGES[random.integer(EDGES.length)]);
    const start = Math.min(lengthField(bytes, random, width), out.length - width);
    const little = random.integer(4) > 0;
    for (let i = 0; i < width; i++) {
      out[start + i] = Number((value >> BigInt(8 * (little ? i : width - 1 - i))) & 0xffn);
    }
    return out;
  },
  /** One more or one less: what a wrong count looks like. */
  stepInteger(bytes, random) {
    const out = Buffer.from(bytes);
    const at = lengthField(bytes, random, 1);
    out[at] = (out[at] + (random.integer(2) === 0 ? 1 : 255)) & 255;
    return out;
  },
  setWrittenNumber(bytes, random) {
    const numbers = [...bytes.toString('latin1', 0, 65_536).matchAll(/\d+/g)];
    if (numbers.length === 0) return KINDS.flipBits(bytes, random);
    const { 0: digits, index } = numbers[random.integer(numbers.length)];
    const edge = Buffer.from(WRITTEN_EDGES[random.integer(WRITTEN_EDGES.length)]);
    return Buffer.concat([bytes.subarray(0, index), edge, bytes.subarray(index + digits.length)]);
  },
  splice(bytes, random, other) {
    return Buffer.concat([bytes.subarray(0, place(bytes, random)), other.subarray(place(other, random))]);
  },
};

const NAMES = Object.keys(KINDS);

/** One damaged copy, and the kind of its damage. */
export function mutate(bytes, random, other = bytes) {
  const kind = NAMES[random.integer(NAMES.length)];
  if (bytes.length === 0) return { kind: 'fill', bytes: Buffer.from([random.integer(256)]) };
  return { kind, bytes: KINDS[kind](bytes, random, other) };
}

/** Anywhere, but more often near the ends and at the borders of pages, where headers and directories lie. */
function place(bytes, random) {
  const { length } = bytes;
  const near = random.integer(Math.min(length, LONGEST_RUN) + 1);
  return [random.integer(length + 1), near, length - near, (random.integer(length + 1) >> 9) << 9][random.integer(4)];
}

function stretch(bytes, random) {
  const start = random.integer(bytes.length);
  const most = random.integer(4) === 0 ? bytes.length - start : Math.min(LONGEST_BLOCK, bytes.length - start);
  return [start, 1 + random.integer(random.integer(2) === 0 ? Math.min(16, most) : most)];
}

/** A byte that may begin a length or an offset: a small number followed by zeros; else any. */
function lengthField(bytes, random, width) {
  for (let tries = 0; tries < 20; tries++) {
    const at = random.integer(bytes.length);
    const rest = bytes.subarray(at + 1, at + width);
    if (bytes[at] !== 0 && (width === 1 ? bytes[at] < 128 : rest.at(-1) === 0)) return at;
  }
  return random.integer(bytes.length);
}

const HOSTILE_VALUES = [
  null,
  -1,
  0.5,
  1e308,
  2 ** 53,
  '',
  '../../etc/passwd',
  '/etc/passwd',
  '__proto__',
  'x'.repeat(5000),
  [],
  {},
  true,
  [[[[]]]],
];

/** Damage to one value of a JSON text, which stays JSON. */
export function mutateJson(json, random) {
  const root = { value: JSON.parse(json) };
  const places = [];
  const visit = (holder, key) => {
    places.push([holder, key]);
    const value = holder[key];
    if (typeof value !== 'object' || value === null) return;
    for (const inner of Object.keys(value)) visit(value, inner);
  };
  visit(root, 'value');
  const [holder, key] = places[random.integer(places.length)];
  const [from, at] = places[random.integer(places.length)];
  const ways = [
    () => {
      holder[key] = HOSTILE_VALUES[random.integer(HOSTILE_VALUES.length)];
    },
    () => {
      if (holder !== root) Array.isArray(holder) ? holder.splice(Number(key), 1) : delete holder[key];
    },
    () => {
      holder[key] = structuredClone(from[at]);
    },
    () => {
      if (typeof holder[key] === 'number') holder[key] += [1, -1, 2 ** 31, 0.25][random.integer(4)];
      else if (Array.isArray(holder[key])) holder[key].push(...structuredClone(holder[key]));
      else holder[`${key}_`] = structuredClone(holder[key]);
    },
  ];
  ways[random.integer(ways.length)]();
  return Buffer.from(JSON.stringify(root.value) ?? '');
}
