/** Who takes part: each side is a program that reads a task (JSON) and tells a record. */
import { fileURLToPath } from 'node:url';
import { pythonOf, runJson } from './environment.mjs';
import { runProgram } from './programs.mjs';

const file = (name) => fileURLToPath(new URL(`sides/${name}`, import.meta.url));
const python = (environment, name, rest = {}) => ({ program: pythonOf(environment), args: [file(name)], ...rest });
const node = (name, rest = {}) => ({ program: process.execPath, args: [file(name)], ...rest });

/**
 * Name -> program. What else stands in a side is given to it.
 *
 * `keras3` is today's Keras on the TensorFlow that ours runs too, `keras2` the last Keras 2, on TensorFlow 2.15, whose
 * compiled graphs train faster on some processors. `precision` of ours is what `--precision` takes.
 */
const sides = {
  ours: node('ours.mjs', { precision: 'float32' }),
  'ours-bfloat16': node('ours.mjs', { precision: 'bfloat16' }),
  'ours-plain': node('ours.mjs', { resize: 'plain' }),
  'ours-uncached': node('ours.mjs', { cache: 'off' }),
  keras3: python('keras3', 'keras_side.py'),
  'keras3-predict': python('keras3', 'keras_side.py', { call: 'predict' }),
  'keras3-plain': python('keras3', 'keras_side.py', { resize: 'plain' }),
  'keras3-fit': { script: 'program_fit.py' },
  'keras3-cached': { script: 'program_cached.py' },
  keras2: python('tf', 'keras_side.py'),
  torch: python('torch', 'torch_side.py'),
  tfjs: node('tfjs-layers.mjs'),
};

export const sideNames = Object.keys(sides);

/** Runs one side once, in a process of its own. */
export function runSide(name, task) {
  const { program, args, ...side } = sides[name];
  if (task.case.wholeProgram) return runProgram(name, side, task);
  return runJson(program, args, { ...task, side: { name, ...side } });
}

/** The rows of a network's generated weights. */
export function rowsOf({ network, work, classes }) {
  const environment = network.source === 'keras' ? 'tf' : 'torch';
  return runJson(pythonOf(environment), [file('rows.py')], { network, classes, training: work === 'step' });
}
