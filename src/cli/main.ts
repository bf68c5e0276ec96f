#!/usr/bin/env node
import { EXIT_INTERRUPTED, EXIT_TERMINATED } from './output.js';
/** The executable: the process' streams and signals around the program. */
import { runProgram } from './program.js';

// Whatever a library prints belongs to stderr: stdout holds the result alone.
console.log = console.error;

// `tl ... | head` closes the pipe before everything is written; the reader has what it wanted.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
process.stderr.on('error', () => {});

/** A progress bar hides the cursor and cuts long lines: DECTCEM and DECAWM of the VT220 turn both back. */
const SHOW_CURSOR_AND_WRAP = '\u001b[?25h\u001b[?7h';

const controller = new AbortController();
/** Set by the running command when it stops by itself, at its next step, and keeps what is finished. */
const stopping = { graceful: false };
let code = EXIT_INTERRUPTED;

function stop(exitCode: number): void {
  if (!stopping.graceful || controller.signal.aborted) {
    if (process.stderr.isTTY) process.stderr.write(SHOW_CURSOR_AND_WRAP);
    process.exit(exitCode);
  }
  code = exitCode;
  process.stderr.write('\nstopping at the next step; once more ends at once\n');
  controller.abort();
}
process.on('SIGINT', () => stop(EXIT_INTERRUPTED));
process.on('SIGTERM', () => stop(EXIT_TERMINATED));

const { stdout, stderr, env } = process;
const status = await runProgram(process.argv.slice(2), { stdout, stderr, env, signal: controller.signal, stopping });

// Threads of a library must not keep a finished command alive; what was written is flushed first.
stdout.write('', () => stderr.write('', () => process.exit(status === EXIT_INTERRUPTED ? code : status)));
