/** Somebody else's runtime on a thread of its own, which answers one question after the other. */
import { Worker } from 'node:worker_threads';
import { messageOf, type ToolkitError } from '../errors.js';

/** What a thread's program becomes once it has loaded what it needs. */
export interface Served<About, Question, Reply> {
  /** What there is to say of it at the start: anything that a message between threads can hold, as questions and replies. */
  readonly about: About;
  answer(question: Question): Promise<Reply>;
}

/**
 * A thread's program. Its source text is the whole program, so it refers to nothing outside.
 * @param load imports a module by its address
 */
export type Serve<Data, About, Question, Reply> = (
  data: Data,
  require: NodeJS.Require,
  load: (address: string) => Promise<unknown>,
) => Promise<Served<About, Question, Reply>>;

export interface ServingThread<About, Question, Reply> {
  readonly about: About;
  /** @throws the error that `failed` makes of the reason; the thread has then ended */
  ask(question: Question): Promise<Reply>;
  close(): Promise<void>;
}

export interface ThreadOptions<Data> {
  readonly data: Data;
  /** Drop what it prints: standard output is for results. */
  readonly silent: boolean;
  readonly failed: (why: string) => ToolkitError;
}

type Said = { readonly value: unknown } | { readonly failure: string };

/** Around the program: the first message says that it is ready, each after that answers a question. */
const programOf = (serve: Serve<never, unknown, never, unknown>): string => `
  const { parentPort, workerData } = require('node:worker_threads');
  (${serve.toString()})(workerData, require, (address) => import(address)).then(({ about, answer }) => {
    parentPort.on('message', (question) =>
      answer(question).then(
        (value) => parentPort.postMessage({ value }),
        (error) => parentPort.postMessage({ failure: error instanceof Error ? error.message : String(error) }),
      ),
    );
    parentPort.postMessage({ value: about });
  });`;

/** @throws the error that `failed` makes of the reason why the program does not start */
export async function startThread<Data, About, Question, Reply>(
  serve: Serve<Data, About, Question, Reply>,
  { data, silent, failed }: ThreadOptions<Data>,
): Promise<ServingThread<About, Question, Reply>> {
  // A thread of its own source text needs no compiled file beside this one, so it runs from src/ too.
  const thread = new Worker(programOf(serve), { eval: true, workerData: data, stdout: silent, stderr: silent });
  if (silent) for (const stream of [thread.stdout, thread.stderr]) stream.resume();
  const said = (question?: Question): Promise<Said> =>
    new Promise((settle) => {
      const hear = (value: Said): void => {
        // These and no others: the thread has listeners of its own.
        thread.off('message', hear).off('error', fail).off('exit', end);
        settle(value);
      };
      const fail = (cause: Error): void => hear({ failure: messageOf(cause) });
      const end = (status: number): void => hear({ failure: `its thread ended with status ${status}` });
      thread.on('message', hear).on('error', fail).on('exit', end);
      if (question !== undefined) thread.postMessage(question);
    });
  const expected = async (question?: Question): Promise<unknown> => {
    const each = await said(question);
    if ('value' in each) return each.value;
    await thread.terminate();
    throw failed(each.failure);
  };
  const about = (await expected()) as About;
  let last: Promise<unknown> = Promise.resolve();
  return {
    about,
    ask: (question) => {
      const reply = last.then(() => expected(question)) as Promise<Reply>;
      last = reply.catch(() => undefined);
      return reply;
    },
    close: async () => {
      await thread.terminate();
    },
  };
}
