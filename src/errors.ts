/**
 * The one error type that users see. Every expected failure (bad file, bad data, bad usage, no engine) is a
 * {@link ToolkitError}; anything else that escapes is a defect of this toolkit.
 */

/** What went wrong, where, what was expected and received, and how to mend it. */
export interface ErrorDetails {
  /** Stable, upper snake case: `WEIGHTS_NOT_FOUND`. */
  readonly code: string;
  /** One sentence: what, where, expected and received. More lines may list every fault found. */
  readonly message: string;
  /** How to mend it, as something the user can do. */
  readonly hint?: string;
  readonly cause?: unknown;
}

export class ToolkitError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor({ code, message, hint, cause }: ErrorDetails) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = hint;
  }
}

/** Wrong usage of a command or function: exit code 2 on the command line. */
export class UsageError extends ToolkitError {}

/** A file that is damaged, hostile, or not what it claims to be. */
export class FormatError extends ToolkitError {}

/** Tensors that do not fit a network: the message holds the rows of the plan that failed. */
export class WeightsError extends ToolkitError {}

/** A folder, manifest or picture that cannot be used for training. */
export class DataError extends ToolkitError {}

/** No engine, or one that cannot do what was asked. */
export class EngineError extends ToolkitError {}

/** Faults shown in one message before the rest is only counted. */
const FAULTS_SHOWN = 20;

/** Joins every fault found into one message body: the first 20, then how many more. */
export function listFaults(faults: readonly string[]): string {
  const shown = faults.slice(0, FAULTS_SHOWN).map((fault) => `  - ${fault}`);
  const more = faults.length - shown.length;
  return [...shown, ...(more > 0 ? [`  ... and ${more} more`] : [])].join('\n');
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
