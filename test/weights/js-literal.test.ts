/** Literals of JavaScript as data, and models of TensorFlow.js in modules that hold them. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openWeights } from '../../src/weights/source.js';
import { parseLiteral } from '../../src/weights/tfjs/js-literal.js';
import { readFileFixtures } from '../support/golden.js';
import { expectFailure, temporary, withSource } from './support/temporary.js';

describe('a literal', () => {
  test.each([
    ['{a:1,"b":[.5,-.25,1e-3,2.],\'c d\':!0,_$:!1}', { a: 1, b: [0.5, -0.25, 0.001, 2], 'c d': true, _$: false }],
    ['[null,void 0,undefined,true,false,]', [null, null, null, true, false]],
    ['"\\u00e9\\x41\\n\\"\\\\"', 'éA\n"\\'],
    ['`plain`', 'plain'],
    [' { } ', {}],
    ['{1:2,é:3}', { 1: 2, é: 3 }],
  ])('%s', (text, value) => {
    expect(parseLiteral(text, 0).value).toEqual(value);
  });

  test('never reaches the prototype', () => {
    const { value } = parseLiteral('{"__proto__":{polluted:!0}}', 0);
    expect(Object.getOwnPropertyNames(value)).toEqual(['__proto__']);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test.each([
    'f()',
    '{a:b}',
    '{a:1+1}',
    '{[a]:1}',
    '{get a(){}}',
    '`$' + '{a}`',
    '"open',
    '{a:1',
    '[1 2]',
    '"\\u00"',
    '!2',
    '',
    '['.repeat(300),
  ])('%s is none', (text) => {
    expect(() => parseLiteral(text, 0)).toThrow(SyntaxError);
  });

  test('ends where it ends', () => {
    expect(parseLiteral('x={a:1},f()', 2)).toEqual({ value: { a: 1 }, end: 7 });
  });
});

describe('a model in modules', () => {
  const from = dirname(readFileFixtures('tfjs').find(({ file }) => file.startsWith('tfjs-layers/'))!.path);
  let made = 0;

  /** The fixture as a bundler wraps it: keys without quotes where they need none, numbers without a leading zero. */
  function write(change: (name: string, value: string) => string = (_, value) => value): string {
    const folder = temporary(`module-${made++}`);
    mkdirSync(folder);
    const save = (name: string, value: string): void =>
      writeFileSync(
        join(folder, `${name}.min.js`),
        `!function(e){if("object"==typeof exports)module.exports=e();else self.model=e()}(function(){return{1:[function(e,t,n){t.exports=${change(name, value)}},{}]}});`,
      );
    for (const name of readdirSync(from)) {
      if (name !== 'model.json') save(name, JSON.stringify(readFileSync(join(from, name)).toString('base64')));
    }
    const json = readFileSync(join(from, 'model.json'), 'utf8');
    save(
      'model',
      json
        .replaceAll(/"([a-z_]+)":/gi, '$1:')
        .replaceAll(/\b0\./g, '.')
        .replaceAll(/: true/g, ':!0'),
    );
    return folder;
  }

  test('is what the same model is in files', async () => {
    for (const path of [write(), join(write(), 'model.min.js')]) {
      await withSource(path, async (source) => {
        await withSource(from, async (plain) => {
          expect(source.tensors).toEqual(plain.tensors);
          expect(source.metadata).toEqual(plain.metadata);
          for (const { name } of plain.tensors) expect(await source.read(name), name).toEqual(await plain.read(name));
        });
      });
    }
  });

  test('is refused where it would have to be executed, or its weights are no base64', async () => {
    const computed = write((name, value) => (name === 'model' ? value.replace('format:', 'format:f()||') : value));
    await expectFailure(() => openWeights(computed), 'TFJS_MODULE', /no plain object: expected a plain value at/);
    const called = write((name, value) => (name === 'model' ? `make(${value})` : value));
    await expectFailure(() => openWeights(called), 'TFJS_MODULE', /exports no plain object/);
    const object = write((name, value) => (name === 'model' ? value : `{data:${value}}`));
    await expectFailure(() => openWeights(object), 'TFJS_MODULE', /exports no text/);
    const short = write((name, value) => (name === 'model' ? value : value.slice(0, -2)));
    await expectFailure(() => openWeights(short), 'TFJS_MODULE', /no base64/);
    const other = write((name, value) => (name === 'model' ? value : value.replace(/^".{40}/, `"${'!'.repeat(40)}`)));
    await withSource(other, async (source) => {
      await expectFailure(() => source.read(source.tensors[0]!.name), 'TFJS_MODULE', /no base64/);
    });
  });
});
