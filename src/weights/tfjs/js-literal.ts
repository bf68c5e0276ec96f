/**
 * Literals of JavaScript, read as data: bundlers turn JSON into them (`{a:!0,b:.5}`). Nothing is executed, and anything
 * but a plain value ends the reading.
 * @see https://tc39.es/ecma262/#sec-object-initializer
 */

/** Objects and arrays in one another: a model's topology has 15. */
const MOST_DEPTH = 200;

const SPACE = /\s*/y;
const NAME = /[\p{ID_Start}$_][\p{ID_Continue}$]*/uy;
const NUMBER = /[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?/iy;

/** Values that are written as words; minifiers write booleans as negated numbers. */
const WORDS: readonly (readonly [word: RegExp, value: unknown])[] = [
  [/(?:!0|true\b)/y, true],
  [/(?:!1|false\b)/y, false],
  [/(?:null\b|void 0\b|undefined\b)/y, null],
];

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v', 0: '\0' };

/**
 * The literal that begins at `start`.
 * @returns what JSON of the same meaning would parse to, and where it ends
 * @throws SyntaxError where it is no plain value, with the place
 */
export function parseLiteral(text: string, start: number): { value: unknown; end: number } {
  let at = start;

  const fail = (expected: string): SyntaxError =>
    new SyntaxError(`expected ${expected} at character ${at}, received ${JSON.stringify(text.slice(at, at + 20))}`);

  function take(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    const found = pattern.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  }

  function next(): string {
    take(SPACE);
    return text[at] ?? '';
  }

  /** Items up to the closing bracket, with commas between them and perhaps after the last. */
  function items(close: string, item: () => void): void {
    at++;
    while (next() !== close) {
      item();
      if (next() === ',') at++;
      else if (text[at] !== close) throw fail(`, or ${close}`);
    }
    at++;
  }

  function read(depth: number): unknown {
    if (depth > MOST_DEPTH) throw fail(`at most ${MOST_DEPTH} objects in one another`);
    const first = next();
    if (first === '{') {
      const pairs: [string, unknown][] = [];
      items('}', () => {
        const key = /["'`]/.test(next()) ? string() : (take(NAME) ?? take(NUMBER));
        if (key === undefined || next() !== ':') throw fail('a key and a value');
        at++;
        pairs.push([key, read(depth + 1)]);
      });
      return Object.fromEntries(pairs);
    }
    if (first === '[') {
      const values: unknown[] = [];
      items(']', () => values.push(read(depth + 1)));
      return values;
    }
    if (/["'`]/.test(first)) return string();
    for (const [word, value] of WORDS) if (take(word) !== undefined) return value;
    const number = take(NUMBER);
    if (number === undefined) throw fail('a plain value');
    return Number(number);
  }

  function string(): string {
    const quote = text[at]!;
    let out = '';
    for (at++; text[at] !== quote; at++) {
      const character = text[at];
      if (character === undefined || (quote === '`' && text.startsWith('${', at))) throw fail('a plain string');
      out += character === '\\' ? escaped() : character;
    }
    at++;
    return out;
  }

  /** At a backslash; leaves the place at the last character of the escape. */
  function escaped(): string {
    const letter = text[++at] ?? '';
    const digits = letter === 'u' ? 4 : letter === 'x' ? 2 : 0;
    if (digits === 0) return letter === '\n' ? '' : (ESCAPES[letter] ?? letter);
    const code = text.slice(at + 1, at + 1 + digits);
    if (code.length < digits || !/^[\da-f]+$/i.test(code)) throw fail(`${digits} hexadecimal digits`);
    at += digits;
    return String.fromCharCode(Number.parseInt(code, 16));
  }

  return { value: read(0), end: at };
}
