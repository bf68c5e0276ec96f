/** How a run that was stopped or killed goes on: from its last checkpoint, or from the beginning where it has none. */
import type { Engine, EngineOptions } from '../engine/tensorflow.js';
import { DataError, listFaults, UsageError } from '../errors.js';
import { version } from '../version.js';
import type { Reporter } from './options.js';
import type { RunArguments, StoppedRun } from './run-folder.js';
import { assertSameData, computingOf, restartRun, type Start, startRun } from './start.js';

/**
 * With what a run is computed: with `--deterministic`, as before it was stopped.
 * @param given what the user asks for now
 */
export function engineFor(
  given: EngineOptions = {},
  args: Pick<RunArguments, 'settings' | 'computing'>,
): EngineOptions {
  if (args.settings.deterministic !== true) return given;
  const threads = given.threads ?? args.computing?.threads ?? undefined;
  return { ...given, deterministic: true, ...(threads === undefined ? {} : { threads }) };
}

/** What `--deterministic` cannot vouch for; undefined where it can. */
export const undeterministic = ({ device }: Pick<Engine, 'device'>): string | undefined =>
  device === 'cpu'
    ? undefined
    : '--deterministic: on a GPU it is TensorFlow that promises the same bits, by kernels that may be slower or missing; ' +
      'this toolkit has compared runs on processors only';

/**
 * Starts a stopped run again.
 * @throws RESUME_DATA_CHANGED, RESUME_CHANGED, RESUME_COMPUTING, and what starting a run throws
 */
export async function resumeRun(
  folder: string,
  { args, state }: StoppedRun,
  engine: Engine,
  reporter: Reporter,
): Promise<Start> {
  const others = otherComputing(args, engine);
  if (others.length > 0) {
    const message =
      `the run goes on with something else than it began with, on which the last digits of its numbers ` +
      `depend:\n${listFaults(others)}`;
    if (args.settings.deterministic === true) throw otherComputer(message, args);
    reporter.warn(message);
  }
  if (state !== undefined) return await restartRun(folder, args, engine);
  reporter.info('the run ended before its first checkpoint: it begins again');
  const start = await startRun(args.settings, engine, reporter);
  try {
    assertSame(args, start.args);
    return { ...start, args };
  } catch (error) {
    await start.close();
    throw error;
  }
}

function otherComputing({ versions, computing }: RunArguments, engine: Engine): string[] {
  const now = computingOf(engine);
  const before = (what: string, then: unknown, is: unknown): string[] =>
    then === undefined || then === is ? [] : [`${what}: ${then} then, ${is} now`];
  return [
    ...before('tl', versions.tl, version),
    ...before('engine', versions.engine, `${engine.name} ${engine.version}`),
    ...before('device', computing?.device, now.device),
    ...before('threads', computing?.threads, now.threads),
    ...before('processor', computing?.processor, now.processor),
  ];
}

function otherComputer(message: string, { computing }: RunArguments): UsageError {
  const threads = computing?.threads ?? undefined;
  return new UsageError({
    code: 'RESUME_COMPUTING',
    message: `--deterministic: ${message}`,
    hint: `go on where it began${threads === undefined ? '' : `, with --threads ${threads}`}, or start a new run`,
  });
}

/** @throws RESUME_DATA_CHANGED, RESUME_CHANGED where the same settings now mean another run */
function assertSame({ resolved: before }: RunArguments, { resolved: now }: RunArguments): void {
  assertSameData(before, now);
  const faults = (Object.keys(before) as (keyof typeof before)[]).flatMap((key) => {
    const [then, is] = [JSON.stringify(before[key]), JSON.stringify(now[key])];
    return then === is ? [] : [`${key}: ${then} then, ${is} now`];
  });
  if (faults.length === 0) return;
  throw new DataError({
    code: 'RESUME_CHANGED',
    message: `the run would not be the one that was begun:\n${listFaults(faults)}`,
    hint: 'put back what was changed, or start the run anew with --overwrite',
  });
}
