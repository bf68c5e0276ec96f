/** What a failed command says, and its exit code. */
import { CommanderError } from 'commander';
import { messageOf, ToolkitError, UsageError } from '../errors.js';
import { EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, type Io, styleFor } from './output.js';

/** Codes of commander's own usage errors, as this program shows them. */
const usageCodes: Readonly<Record<string, string>> = {
  'commander.unknownOption': 'UNKNOWN_OPTION',
  'commander.unknownCommand': 'UNKNOWN_COMMAND',
  'commander.missingArgument': 'MISSING_ARGUMENT',
  'commander.missingMandatoryOptionValue': 'MISSING_OPTION',
  'commander.optionMissingArgument': 'MISSING_VALUE',
  'commander.invalidArgument': 'BAD_VALUE',
  'commander.excessArguments': 'EXCESS_ARGUMENTS',
  'commander.conflictingOption': 'CONFLICTING_OPTIONS',
};

/** An expected failure, whatever threw it. */
interface Failure {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly exitCode: number;
}

/**
 * Writes an error to stderr.
 * @param command the command as typed, `tl import`
 * @returns the exit code
 */
export function reportFailure(error: unknown, io: Io, command: string, debug: boolean): number {
  const style = styleFor(io.stderr, io.env);
  if (io.signal.aborted && error instanceof Error && error.name === 'AbortError') {
    io.stderr.write('stopped; nothing was written under a final name\n');
    return EXIT_INTERRUPTED;
  }
  const { code, message, hint, exitCode } = failureOf(error, command);
  io.stderr.write(`${style.red(`error[${code}]`)}: ${message}\n`);
  if (hint !== undefined) io.stderr.write(`${style.cyan('fix')}: ${hint}\n`);
  if (debug) io.stderr.write(`${stackOf(error)}\n`);
  return io.signal.aborted ? EXIT_INTERRUPTED : exitCode;
}

function failureOf(error: unknown, command: string): Failure {
  if (error instanceof ToolkitError) {
    const { code, message, hint } = error;
    return { code, message, hint, exitCode: error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED };
  }
  if (error instanceof CommanderError) return usageOf(error, command);
  const system = systemError(error);
  if (system !== undefined) {
    const hint = 'check the path, its permissions and the disk; --debug shows where it happened';
    return { code: 'SYSTEM', message: system, hint, exitCode: EXIT_FAILED };
  }
  const hint = 'this is a defect of tl: please report it, with the output of the same command with --debug';
  return { code: 'INTERNAL', message: messageOf(error), hint, exitCode: EXIT_FAILED };
}

/** commander writes `error: unknown option '--jsn'\n(Did you mean --json?)`. */
function usageOf(error: CommanderError, command: string): Failure {
  const [first, ...rest] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = /Did you mean (.*)\?/.exec(rest.join(' '))?.[1];
  const help = `\`${command} --help\` shows how it is used`;
  return {
    code: usageCodes[error.code] ?? 'USAGE',
    message: first!,
    hint: suggestion === undefined ? help : `did you mean ${suggestion}? ${help}`,
    exitCode: EXIT_USAGE,
  };
}

/** What the operating system said, where it did. */
function systemError(error: unknown): string | undefined {
  return error instanceof Error && 'syscall' in error ? error.message : undefined;
}

function stackOf(error: unknown): string {
  const lines: string[] = [];
  for (let each: unknown = error; each !== undefined; each = each instanceof Error ? each.cause : undefined) {
    lines.push(each instanceof Error ? (each.stack ?? each.message) : String(each));
  }
  return lines.join('\ncaused by ');
}
