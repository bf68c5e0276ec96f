/** A program on a thread of its own: questions in turn, and whatever ends it becomes the caller's error. */
import { expect, test } from 'vitest';
import { ToolkitError } from '../../src/errors.js';
import { type Served, startThread } from '../../src/export/thread.js';

type Question = { readonly value: number; readonly waitMs?: number; readonly way?: 'throw' | 'text' | 'exit' };

/** Adds, one question behind the other; or fails in the way that it is told. */
async function adder(
  start: number | 'fails',
  require: NodeJS.Require,
  load: (address: string) => Promise<unknown>,
): Promise<Served<string, Question, number>> {
  const { setTimeout: pause } = (await load('node:timers/promises')) as typeof import('node:timers/promises');
  const { isMainThread }: typeof import('node:worker_threads') = require('node:worker_threads');
  if (start === 'fails') throw new Error('nothing to add to');
  let sum = start;
  return {
    about: isMainThread ? 'the main thread' : 'a thread',
    answer: async ({ value, waitMs = 0, way }) => {
      if (way === 'throw') throw new Error('too much');
      if (way === 'text') throw 'too little';
      if (way === 'exit') process.exit(3);
      const before = sum;
      await pause(waitMs);
      sum = before + value;
      return sum;
    },
  };
}

const failed = (why: string): ToolkitError =>
  new ToolkitError({ code: 'EXPORT_UNREADABLE', message: why, hint: 'none' });
const start = (data: number | 'fails') => startThread(adder, { data, silent: true, failed });

test('it runs apart, and answers questions in turn, however many are asked at once', async () => {
  const thread = await start(10);
  expect(thread.about).toBe('a thread');
  const questions = [{ value: 1, waitMs: 30 }, { value: 2 }, { value: 3 }];
  expect(await Promise.all(questions.map((each) => thread.ask(each)))).toEqual([11, 13, 16]);
  await thread.close();
});

test.each([
  ['throw', 'too much'],
  ['text', 'too little'],
  ['exit', 'its thread ended with status 3'],
] as const)('a question that fails (%s) ends it', async (way, why) => {
  const thread = await start(0);
  await expect(thread.ask({ value: 1, way })).rejects.toMatchObject({ code: 'EXPORT_UNREADABLE', message: why });
  await thread.close();
});

test('a program that does not start is an error at once', async () => {
  await expect(start('fails')).rejects.toMatchObject({ code: 'EXPORT_UNREADABLE', message: 'nothing to add to' });
});
