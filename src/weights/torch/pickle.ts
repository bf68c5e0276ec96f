/**
 * Pickles, read by a machine that executes nothing. It builds containers, strings and numbers, and hands class names
 * and references to its caller; a name that the caller does not know ends the reading. No way leads from a file to code.
 */

import { messageOf, ToolkitError } from '../../errors.js';
import { PickleMachine } from './pickle-machine.js';
import { OPERATIONS, STOP } from './pickle-operations.js';
import type { PickleRules, PickleValue } from './pickle-values.js';

/** Of a file of PyTorch, pickles hold names and shapes only: 50 kB for a ResNet-50, a few MB with an optimiser and its settings. */
export const MAX_PICKLE_BYTES = 256 * 1024 * 1024;

/**
 * Reads one pickle of protocol 0 to 5.
 * @returns its value, and the offset behind it
 * @throws PICKLE_REFUSED (a class or function outside the rules, named), PICKLE_DAMAGED, LIMIT_EXCEEDED
 */
export function unpickle(bytes: Buffer, start: number, rules: PickleRules): { value: PickleValue; end: number } {
  const machine = new PickleMachine(bytes, start, rules);
  try {
    // each operation takes at least one byte of input, so the work is bounded by the file's size
    for (let operation = machine.byte(); operation !== STOP; operation = machine.byte()) {
      const perform = OPERATIONS[operation];
      if (perform === undefined) {
        throw machine.fail(`expected a pickle operation, received byte 0x${operation.toString(16).padStart(2, '0')}`);
      }
      perform(machine);
    }
    return { value: machine.pop(), end: machine.position };
  } catch (error) {
    throw error instanceof ToolkitError ? error : machine.fail(messageOf(error), error);
  }
}
