import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ToolkitError } from '../../src/errors.js';
import { unpickle } from '../../src/weights/torch/pickle.js';
import {
  PickleDict,
  PickleIncomplete,
  type PickleRules,
  PickleTuple,
  type PickleValue,
} from '../../src/weights/torch/pickle-values.js';
import { expectFailure } from './support/temporary.js';

const rules: PickleRules = { path: 'test.pkl', find: () => undefined, load: (id) => id };

/** Plain JavaScript of a pickle given as latin-1 text. */
function read(pickle: string): unknown {
  return plain(unpickle(Buffer.from(pickle, 'latin1'), 0, rules).value);
}

function plain(value: PickleValue): unknown {
  if (value instanceof PickleDict) return new Map([...value.entries].map(([key, entry]) => [plain(key), plain(entry)]));
  if (value instanceof PickleTuple) return { tuple: value.items.map(plain) };
  if (Array.isArray(value)) return value.map(plain);
  return value;
}

describe('what CPython 3.11 writes', () => {
  // pickle.dumps({'a': [1, -2, 300, 70000, 2**40, -2**70], 'b': (True, None, 1.5, 'é'), 'c': {}}, protocol)
  const expected = new Map<string, unknown>([
    ['a', [1, -2, 300, 70000, 2 ** 40, -(2n ** 70n)]],
    ['b', { tuple: [true, null, 1.5, 'é'] }],
    ['c', new Map()],
  ]);
  const written: Record<number, string> = {
    0: '286470300a56610a70310a286c70320a49310a61492d320a61493330300a614937303030300a614c313039393531313632373737364c0a614c2d313138303539313632303731373431313330333432344c0a617356620a70330a284930310a4e46312e350a56e90a70340a7470350a7356630a70360a286470370a732e',
    1: '7d71002858010000006171015d7102284b014afeffffff4d2c014a701101004c313039393531313632373737364c0a4c2d313138303539313632303731373431313330333432344c0a655801000000627103284930310a4e473ff80000000000005802000000c3a9710474710558010000006371067d7107752e',
    2: '80027d71002858010000006171015d7102284b014afeffffff4d2c014a701101008a060000000000018a090000000000000000c065580100000062710328884e473ff80000000000005802000000c3a9710474710558010000006371067d7107752e',
    3: '80037d71002858010000006171015d7102284b014afeffffff4d2c014a701101008a060000000000018a090000000000000000c065580100000062710328884e473ff80000000000005802000000c3a9710474710558010000006371067d7107752e',
    4: '8004954c000000000000007d94288c0161945d94284b014afeffffff4d2c014a701101008a060000000000018a090000000000000000c0658c01629428884e473ff80000000000008c02c3a99474948c0163947d94752e',
    5: '8005954c000000000000007d94288c0161945d94284b014afeffffff4d2c014a701101008a060000000000018a090000000000000000c0658c01629428884e473ff80000000000008c02c3a99474948c0163947d94752e',
  };
  for (const [protocol, hex] of Object.entries(written)) {
    it(`protocol ${protocol}`, () => {
      const bytes = Buffer.from(hex, 'hex');
      const { value, end } = unpickle(bytes, 0, rules);
      expect(end).toBe(bytes.length);
      expect(plain(value)).toEqual(expected);
    });
  }
});

describe('operations', () => {
  const cases: [string, string, unknown][] = [
    ['text with escapes (protocol 0)', "S'a\\'b\\n\\x41\\\\'\n.", "a'b\nA\\"],
    ['unicode with escapes', 'Va\\u00e9\\U0001f600\n.', 'aé😀'],
    ['booleans of protocol 0', '(I01\nI00\nI7\nt.', { tuple: [true, false, 7] }],
    ['long of protocol 0', 'L-12345678901234567890L\n.', -12345678901234567890n],
    ['floats of protocol 0', '(F1.5\nF-inf\nF1e-07\nl.', [1.5, Number.NEGATIVE_INFINITY, 1e-7]],
    ['empty long', '\x8a\x00.', 0],
    ['negative long', '\x8a\x01\xff.', -1],
    ['memo by line', '(lp0\ng0\n.', undefined],
    ['pop and pop of a mark', 'K\x01K\x020(0.', 1],
    ['pop mark', 'K\x01(K\x02K\x031.', 1],
    ['dup', 'K\x012\x86.', { tuple: [1, 1] }],
    ['dict of marks', '(K\x01K\x02d.', new Map([[1, 2]])],
    ['set', '\x8f(K\x01\x90.', [1]],
    ['frozen set', '(K\x01\x91.', [1]],
    [
      'bytes',
      '(C\x01\xffB\x01\x00\x00\x00\xfe\x8e\x01\x00\x00\x00\x00\x00\x00\x00\xfdt.',
      { tuple: [Uint8Array.of(255), Uint8Array.of(254), Uint8Array.of(253)] },
    ],
    ['a key set twice keeps the last', '}(K\x01K\x02K\x01K\x03u.', new Map([[1, 3]])],
    ['persistent id by line', 'Pabc\n.', 'abc'],
  ];
  for (const [title, pickle, expected] of cases) {
    it(title, () => {
      const value = read(pickle.replace('(lp0\ng0\n', '(lp0\n0g0\n'));
      expect(value).toEqual(expected === undefined ? [] : expected);
    });
  }

  it('keeps __proto__ a key like any other', () => {
    const value = read('}X\x09\x00\x00\x00__proto__}s.') as Map<string, unknown>;
    expect([...value.keys()]).toEqual(['__proto__']);
    expect(Object.getPrototypeOf({})).toBe(Object.prototype);
  });

  it('a list that holds itself does no harm', () => {
    const value = unpickle(Buffer.from(']q\x00h\x00a.', 'latin1'), 0, rules).value as PickleValue[];
    expect(value[0]).toBe(value);
  });
});

describe('what is refused', () => {
  it('names the class or function, and runs nothing', async () => {
    const call = "cposix\nsystem\n(S'touch /tmp/pwned'\ntR.";
    await expectFailure(() => read(call), 'PICKLE_REFUSED', /names posix\.system,/);
    await expectFailure(() => read('\x80\x04\x8c\x08builtins\x8c\x04eval\x93.'), 'PICKLE_REFUSED', /builtins\.eval/);
    await expectFailure(() => read('(S"x"\nibuiltins\nexec\n.'), 'PICKLE_REFUSED', /builtins\.exec/);
    await expectFailure(() => read('cargparse\nNamespace\n)\x81.'), 'PICKLE_REFUSED', /argparse\.Namespace/);
    await expectFailure(() => read('\x82\x01.'), 'PICKLE_REFUSED', /extension code/);
    await expectFailure(() => read('\x97.'), 'PICKLE_REFUSED', /out-of-band buffer/);
  });

  const damaged: [string, string, RegExp][] = [
    ['unknown operation', '\xff', /byte 0xff/],
    ['protocol 6', '\x80\x06N.', /protocol 0 to 5, received 6/],
    ['empty stack', '.', /empty stack/],
    ['no mark', 'K\x01t.', /mark is missing/],
    ['memo before it is set', 'h\x05.', /memo 5/],
    ['append to a number', 'K\x01K\x02a.', /no list/],
    ['set in a list', ']K\x01K\x02s.', /no dictionary/],
    ['key without a value', '}(K\x01u.', /without a value/],
    ['call of a string', 'K\x01)R.', /class or function/],
    ['arguments that are no tuple', 'K\x01K\x02R.', /tuple/],
    ['tuple of too few', 'K\x01\x87.', /tuple of 3/],
    ['not a number', 'Ixyz\n.', /whole number/],
    ['not a float', 'F0x10\n.', /number/],
    ['string without quotes', 'Sabc\n.', /quotes/],
  ];
  for (const [title, pickle, message] of damaged) {
    it(title, async () => {
      await expectFailure(() => read(pickle), 'PICKLE_DAMAGED', message);
    });
  }

  it('declared lengths beyond the input, of any size', async () => {
    for (const head of [
      'X\xff\xff\xff\x7f',
      'B\xff\xff\xff\xff',
      `\x8d${'\xff'.repeat(8)}`,
      `\x8e${'\xff'.repeat(8)}`,
      'Ino line feed',
      'K',
    ]) {
      const error = await expectFailure(() => read(head), 'PICKLE_DAMAGED', /ends in the middle/);
      expect(error).toBeInstanceOf(PickleIncomplete);
    }
  });

  it('numbers of absurd length', async () => {
    await expectFailure(() => read(`L${'9'.repeat(100_000)}L\n.`), 'LIMIT_EXCEEDED', /100000 digits/);
    await expectFailure(() => read('\x8b\xff\xff\xff\x7f.'), 'LIMIT_EXCEEDED', /2147483647 bytes/);
    await expectFailure(() => read('\x8b\xff\xff\xff\xff.'), 'LIMIT_EXCEEDED');
  });

  it('any bytes end in a value or in an error of ours', () => {
    // bytes that are operations come more often than others
    const operations = [
      ...'(.0123NIJKLMFGSTUVXBC]lae)t}dsupqrghjcRoibPQ\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x90\x91\x93\x94\x95',
    ];
    const byte = fc.oneof(
      fc.constantFrom(...operations.map((op) => op.charCodeAt(0))),
      fc.integer({ min: 0, max: 255 }),
    );
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 80 }), (bytes) => {
        try {
          unpickle(Buffer.from([...bytes, 0x2e]), 0, rules);
        } catch (error) {
          expect(error).toBeInstanceOf(ToolkitError);
        }
      }),
      { numRuns: 20_000, seed: 11 },
    );
  });
});
