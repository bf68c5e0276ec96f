/**
 * The program: its commands and what holds for each of them. Nothing heavy is loaded here: a command loads what it
 * needs when it runs, so that `tl --help` is there at once.
 */
import { Command, CommanderError } from 'commander';
import { version } from '../version.js';
import { backbonesCommand } from './commands/backbones.js';
import { compareCommand } from './commands/compare.js';
import { doctorCommand } from './commands/doctor.js';
import { evaluateCommand } from './commands/evaluate.js';
import { exportCommand } from './commands/export.js';
import { finetuneCommand } from './commands/finetune.js';
import { forwardCommand } from './commands/forward.js';
import { importCommand } from './commands/import.js';
import { lrFindCommand } from './commands/lr-find.js';
import { predictCommand } from './commands/predict.js';
import { pullCommand } from './commands/pull.js';
import { recipesCommand } from './commands/recipes.js';
import { setupCommand } from './commands/setup.js';
import { summaryCommand } from './commands/summary.js';
import { weightsCommand } from './commands/weights.js';
import { reportFailure } from './failure.js';
import { withCommon } from './options.js';
import { type CommonOptions, createOutput, EXIT_DONE, EXIT_USAGE, type Io, type Output } from './output.js';

/** What a command works with. */
export interface Context {
  readonly out: Output;
  readonly signal: AbortSignal;
  /** Ends the command with another code than 0 once it is done: something is wrong all the same. */
  endWith(exitCode: number): void;
}

/** What a command does. */
export type Work = (context: Context) => Promise<void>;

/** What the commands are registered with. */
export interface Host {
  /** A sub-command with the options that every command has. */
  command(nameAndArguments: string, summary: string): Command;
  /** Runs a command's work. `graceful`: it watches the signal, and keeps what is finished. */
  run(command: Command, work: Work, how?: { readonly graceful: boolean }): Promise<void>;
}

/**
 * Runs a command line.
 * @param argv without the names of node and the program
 * @returns the exit code: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted
 */
export async function runProgram(argv: readonly string[], io: Io): Promise<number> {
  const state: { code: number; running: Command | undefined } = { code: EXIT_DONE, running: undefined };
  const program = createProgram(io, state);
  try {
    if (argv.length === 0) {
      io.stderr.write(program.helpInformation());
      return EXIT_USAGE;
    }
    await program.parseAsync([...argv], { from: 'user' });
    return state.code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT_DONE; // --help and --version
    const { debug = false } = (state.running ?? program).optsWithGlobals<CommonOptions>();
    const named = state.running ?? program.commands.find((command) => command.name() === argv.find(isName));
    return reportFailure(error, io, named === undefined ? 'tl' : `tl ${named.name()}`, debug);
  }
}

const epilogue = `
First steps:
  tl setup                                    make the native engine ready
  tl import FILE                              keep published weights in the local store
  tl finetune --backbone resnet50             train a new head on data/<class>/*
  tl predict --model runs/finetune-1 x.jpg    use it

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 and 143 stopped by a signal.`;

const isName = (argument: string): boolean => !argument.startsWith('-');

function createProgram(io: Io, state: { code: number; running: Command | undefined }): Command {
  const program = withCommon(
    new Command('tl')
      .description('Transfer learning for image classification: import a published network, fine-tune it, ship it.')
      .usage('<command> [options]')
      .version(version, '-v, --version', 'print the version')
      .helpOption('-h, --help', 'show this help')
      .helpCommand('help [command]', 'show the help of a command')
      .showSuggestionAfterError(true)
      .addHelpText('after', epilogue),
  );
  quieten(program, io);
  const host: Host = {
    command: (nameAndArguments, summary) => {
      const command = program.command(nameAndArguments).description(summary);
      return quieten(withCommon(command), io);
    },
    run: async (command, work, how = { graceful: false }) => {
      state.running = command;
      io.stopping.graceful = how.graceful;
      try {
        const out = createOutput(io, command.optsWithGlobals<CommonOptions>());
        const endWith = (code: number): void => {
          state.code = code;
        };
        await work({ out, signal: io.signal, endWith });
      } finally {
        io.stopping.graceful = false;
      }
    },
  };
  const commands = [
    setupCommand,
    doctorCommand,
    backbonesCommand,
    summaryCommand,
    weightsCommand,
    importCommand,
    pullCommand,
    forwardCommand,
    recipesCommand,
    finetuneCommand,
    lrFindCommand,
    predictCommand,
    evaluateCommand,
    compareCommand,
    exportCommand,
  ];
  for (const register of commands) register(host);
  return program;
}

/** commander throws instead of exiting, and leaves the wording of errors to us. */
function quieten(command: Command, io: Io): Command {
  return command.exitOverride().configureOutput({
    writeOut: (text) => void io.stdout.write(text),
    writeErr: () => {},
    outputError: () => {},
    getOutHelpWidth: () => io.stdout.columns ?? 100,
    getErrHelpWidth: () => io.stderr.columns ?? 100,
  });
}
