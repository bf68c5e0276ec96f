/**
 * What each operation of a pickle does, by its byte.
 * @see https://github.com/python/cpython/blob/3.12/Lib/pickletools.py
 */

import { quote } from '../limits.js';
import type { PickleMachine } from './pickle-machine.js';
import { PickleDict, PickleTuple, pickleRefused } from './pickle-values.js';

type Operation = (m: PickleMachine) => void;

export const STOP = 0x2e;

const PROTOCOLS = 5;

const BY_CHARACTER: Readonly<Record<string, Operation>> = {
  // Frame of the stream
  '\x80': (m) => {
    const protocol = m.byte();
    if (protocol > PROTOCOLS) throw m.fail(`expected pickle protocol 0 to ${PROTOCOLS}, received ${protocol}`);
  },
  '\x95': (m) => void m.take(8), // FRAME: only a hint for buffering

  // Stack
  '(': (m) => m.mark(),
  '0': (m) => void (m.isEmpty ? m.popMark() : m.pop()), // POP takes a mark like any other item
  '1': (m) => void m.popMark(),
  '2': (m) => m.push(m.top()),

  // Plain values
  N: (m) => m.push(null),
  '\x88': (m) => m.push(true),
  '\x89': (m) => m.push(false),
  I: (m) => {
    const line = m.line();
    m.push(line === '00' ? false : line === '01' ? true : m.decimal(line)); // how protocol 0 writes booleans
  },
  L: (m) => m.push(m.decimal(m.line().replace(/L$/, ''))),
  J: (m) => m.push(m.take(4).readInt32LE()),
  K: (m) => m.push(m.byte()),
  M: (m) => m.push(m.take(2).readUInt16LE()),
  '\x8a': (m) => m.push(m.long(m.byte())),
  '\x8b': (m) => m.push(m.long(m.take(4).readInt32LE())),
  F: (m) => m.push(parseFloatLine(m)),
  G: (m) => m.push(m.take(8).readDoubleBE()),

  // Text and bytes
  S: (m) => {
    const literal = /^(['"])(.*)\1$/s.exec(m.line())?.[2];
    if (literal === undefined) throw m.fail('expected a string in quotes');
    m.push(withoutEscapes(literal));
  },
  T: (m) => m.push(m.latin1(m.count4())),
  U: (m) => m.push(m.latin1(m.byte())),
  V: (m) => m.push(withoutEscapes(m.line())),
  X: (m) => m.push(m.utf8(m.count4())),
  '\x8c': (m) => m.push(m.utf8(m.byte())),
  '\x8d': (m) => m.push(m.utf8(m.count8())),
  B: (m) => m.push(m.bytes(m.count4())),
  C: (m) => m.push(m.bytes(m.byte())),
  '\x8e': (m) => m.push(m.bytes(m.count8())),
  '\x96': (m) => m.push(m.bytes(m.count8())),

  // Containers. Sets are kept as lists: nothing here asks for membership.
  ']': (m) => m.push([]),
  l: (m) => m.push(m.popMark()),
  a: (m) => m.append([m.pop()]),
  e: (m) => m.append(m.popMark()),
  ')': (m) => m.push(new PickleTuple([])),
  t: (m) => m.push(new PickleTuple(m.popMark())),
  '\x85': (m) => m.push(m.popTuple(1)),
  '\x86': (m) => m.push(m.popTuple(2)),
  '\x87': (m) => m.push(m.popTuple(3)),
  '}': (m) => m.push(new PickleDict()),
  d: (m) => {
    const pairs = m.popMark();
    m.push(new PickleDict());
    m.setItems(pairs);
  },
  s: (m) => {
    const value = m.pop();
    m.setItems([m.pop(), value]);
  },
  u: (m) => m.setItems(m.popMark()),
  '\x8f': (m) => m.push([]),
  '\x90': (m) => m.append(m.popMark()),
  '\x91': (m) => m.push(m.popMark()),

  // Memo
  p: (m) => m.remember(m.memoIndex(m.line())),
  q: (m) => m.remember(m.byte()),
  r: (m) => m.remember(m.count4()),
  '\x94': (m) => m.remember(m.memo.size),
  g: (m) => m.recall(m.memoIndex(m.line())),
  h: (m) => m.recall(m.byte()),
  j: (m) => m.recall(m.count4()),

  // Names, and calls of what they stand for
  c: (m) => {
    const module = m.line();
    m.push(m.find(module, m.line()));
  },
  '\x93': (m) => {
    const name = m.pop();
    m.push(m.find(m.pop(), name));
  },
  R: makeObject,
  '\x81': makeObject,
  '\x92': (m) => {
    const named = m.pop();
    if (!(named instanceof PickleDict) || named.entries.size > 0) throw m.fail('named arguments are not read');
    makeObject(m);
  },
  o: (m) => {
    const [type, ...args] = m.popMark();
    if (type === undefined) throw m.fail('an object without a class');
    m.push(m.make(type, new PickleTuple(args)));
  },
  i: (m) => {
    const module = m.line();
    const type = m.find(module, m.line());
    m.push(m.make(type, new PickleTuple(m.popMark())));
  },
  b: (m) => {
    // BUILD sets attributes, such as the version numbers (_metadata) of a state dict; they are not kept
    m.pop();
    m.top();
  },
  P: (m) => m.push(m.rules.load(m.line())),
  Q: (m) => m.push(m.rules.load(m.pop())),

  // Extension codes are registered in a running Python; out-of-band buffers lie outside the file
  '\x82': refuse('an extension code'),
  '\x83': refuse('an extension code'),
  '\x84': refuse('an extension code'),
  '\x97': refuse('an out-of-band buffer'),
  '\x98': refuse('an out-of-band buffer'),
};

export const OPERATIONS: readonly (Operation | undefined)[] = Array.from(
  { length: 256 },
  (_, byte) => BY_CHARACTER[String.fromCharCode(byte)],
);

function makeObject(m: PickleMachine): void {
  const args = m.pop();
  m.push(m.make(m.pop(), args));
}

function refuse(what: string): Operation {
  return (m) => {
    throw pickleRefused(m.rules.path, what);
  };
}

/** The words that Python's repr of a float uses; everything else is written as in JavaScript. */
const FLOAT_WORDS: ReadonlyMap<string, number> = new Map([
  ['inf', Number.POSITIVE_INFINITY],
  ['-inf', Number.NEGATIVE_INFINITY],
  ['nan', Number.NaN],
]);

function parseFloatLine(m: PickleMachine): number {
  const line = m.line();
  const word = FLOAT_WORDS.get(line);
  if (word !== undefined) return word;
  if (!/^-?\d+(\.\d*)?(e[+-]?\d+)?$/i.test(line)) throw m.fail(`expected a number, received ${quote(line)}`);
  return Number(line);
}

/** Resolves the escapes that Python's repr and raw-unicode-escape write. */
function withoutEscapes(text: string): string {
  const letters: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };
  return text.replace(
    /\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|([\\'"nrt]))/g,
    (whole: string, u?: string, U?: string, x?: string, letter?: string) => {
      if (letter !== undefined) return letters[letter] ?? letter;
      const code = Number.parseInt(u ?? U ?? x ?? '', 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}
