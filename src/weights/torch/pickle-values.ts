/** What a pickle is made of once it is read, what a caller allows in it, and how its reading fails. */

import { FormatError } from '../../errors.js';
import { DAMAGED_HINT, quote } from '../limits.js';

export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A dict of any class. Keys compare as in a `Map`: strings and numbers by value. */
export class PickleDict {
  readonly entries = new Map<PickleValue, PickleValue>();
}

/** Whatever the caller's rules return: to the machine it is a value like any other. */
export class PickleObject<T = unknown> {
  constructor(readonly value: T) {}
}

/** A class or function by name. `make` stands in for calling it and only looks at its arguments. */
export class PickleGlobal {
  constructor(
    readonly name: string,
    readonly make?: (args: readonly PickleValue[]) => PickleValue,
  ) {}
}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleTuple
  | PickleDict
  | PickleGlobal
  | PickleObject
  | PickleValue[];

/** What a file may name, and what its references mean. */
export interface PickleRules {
  /** For errors: the file. */
  readonly path: string;
  /** What the name `module.name` stands for; undefined refuses it. */
  find(name: string): PickleGlobal | PickleObject | undefined;
  /** What a persistent id stands for. */
  load(id: PickleValue): PickleValue;
}

/** The bytes at hand end before the pickle does. The caller may read on and try again. */
export class PickleIncomplete extends FormatError {}

export function pickleDamaged(path: string, message: string, cause?: unknown): FormatError {
  return new FormatError({ code: 'PICKLE_DAMAGED', message: `${path}: ${message}`, hint: DAMAGED_HINT, cause });
}

export function pickleRefused(path: string, name: string): FormatError {
  return new FormatError({
    code: 'PICKLE_REFUSED',
    message: `${path}: the pickle names ${quote(name).slice(1, -1)}, which is no tensor, container or number; nothing was executed, and the file is not read any further`,
    hint: `if you trust the file, let PyTorch keep only its tensors: python -c "import torch; m = torch.load('in.pth', weights_only=False, map_location='cpu'); torch.save(m.state_dict() if hasattr(m, 'state_dict') else m.get('state_dict', m.get('model')), 'out.pth')"`,
  });
}
