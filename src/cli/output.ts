/** Where a command writes: the result on stdout, everything else on stderr. */

/** Done. */
export const EXIT_DONE = 0;
/** The work failed. */
export const EXIT_FAILED = 1;
/** Wrong usage. */
export const EXIT_USAGE = 2;
/** Stopped by Ctrl-C: 128 and the number of the signal, as shells have it. */
export const EXIT_INTERRUPTED = 130;
/** Stopped by SIGTERM. */
export const EXIT_TERMINATED = 143;

/** A stream that text is written to, a terminal or not. */
export interface TextStream extends NodeJS.WritableStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
}

/** What the program has to do with the world outside; the tests give their own. */
export interface Io {
  readonly stdout: TextStream;
  readonly stderr: TextStream;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** A command that watches `signal` sets `graceful`; any other is ended at once. */
  readonly stopping: { graceful: boolean };
}

/** Text in colour, or left as it is. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/** Options that every command has. */
export interface CommonOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly debug?: boolean;
}

export interface Output {
  readonly json: boolean;
  readonly quiet: boolean;
  /** For text that goes to stdout. */
  readonly style: Style;
  /** Where a progress bar may be drawn; undefined where it may not: no terminal, `--quiet`, or `--json`. */
  readonly terminal: TextStream | undefined;
  /** Writes the result: one JSON object, or text for people. */
  result(value: unknown, text: () => string): void;
  /** Progress, on stderr; nothing with `--quiet`. */
  info(line: string): void;
  /** On stderr, always. */
  warn(line: string): void;
}

// SGR codes of ECMA-48, section 8.3.117
const codes = { bold: [1, 22], dim: [2, 22], red: [31, 39], yellow: [33, 39], cyan: [36, 39] } as const;

/**
 * Colours for a stream: on a terminal that can, unless the user says otherwise.
 * @see https://no-color.org
 */
export function styleFor(stream: TextStream, env: Io['env']): Style {
  const coloured = stream.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb';
  const paint = (name: keyof typeof codes) => (text: string) =>
    coloured ? `\u001b[${codes[name][0]}m${text}\u001b[${codes[name][1]}m` : text;
  return {
    bold: paint('bold'),
    dim: paint('dim'),
    red: paint('red'),
    yellow: paint('yellow'),
    cyan: paint('cyan'),
  };
}

export function createOutput({ stdout, stderr, env }: Io, { json = false, quiet = false }: CommonOptions): Output {
  const errors = styleFor(stderr, env);
  return {
    json,
    quiet,
    style: styleFor(stdout, env),
    terminal: stderr.isTTY === true && !quiet && !json && env.TERM !== 'dumb' ? stderr : undefined,
    result: (value, text) => {
      stdout.write(`${json ? JSON.stringify(value) : text()}\n`);
    },
    info: (line) => {
      if (!quiet) stderr.write(`${line}\n`);
    },
    warn: (line) => {
      stderr.write(`${errors.yellow('warning')}: ${line}\n`);
    },
  };
}
