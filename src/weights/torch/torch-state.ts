/** Where a PyTorch file keeps its state dict: training scripts put it beside an optimiser, averages and settings. */

import { FormatError } from '../../errors.js';
import { quote } from '../limits.js';
import type { SetAside } from '../source.js';
import { PickleDict, PickleObject, type PickleValue } from './pickle-values.js';
import { TorchTensor, UnreadTensor } from './torch-rules.js';

/** Names of the state dict; the first that is there is taken. @see timm/models/_helpers.py, load_state_dict */
const WRAPPERS = [
  'state_dict',
  'model_state',
  'model',
  'model_state_dict',
  'net',
  'network',
  'module',
  'weights',
  'params',
];

/** Names of the running averages of a state dict, in timm's order, and of torchvision's reference scripts. */
const AVERAGES = ['state_dict_ema', 'model_ema', 'ema_state_dict', 'ema'];

/** What wrappers of the whole network put before every name: DataParallel, AveragedModel, torch.compile. */
const PREFIXES = ['module.', '_orig_mod.'];

/** The only tensor of torch.optim.swa_utils.AveragedModel itself. */
export const SWA_COUNT = 'n_averaged';

/** Dictionaries in dictionaries; timm's and torchvision's checkpoints have two. */
const MOST_STEPS = 8;

export type TensorValue = PickleObject<TorchTensor | UnreadTensor>;

export interface StateDict {
  readonly dict: PickleDict;
  /** The keys that lead to it, joined by dots; empty where the file is a state dict itself. */
  readonly wrapper: string;
  /** Running averages of it that lie beside it. */
  readonly averages: { readonly dict: PickleDict; readonly wrapper: string } | undefined;
  /** What else lies beside it. */
  readonly setAside: readonly SetAside[];
}

export function isTensor(value: PickleValue): value is TensorValue {
  return value instanceof PickleObject && (value.value instanceof TorchTensor || value.value instanceof UnreadTensor);
}

/**
 * Descends through `{'state_dict': ...}` and the like to the dictionary that holds the tensors. A file with averages
 * alone gives those.
 * @throws TORCH_NO_TENSORS
 */
export function findStateDict(path: string, root: PickleValue): StateDict {
  const found = descend(root, WRAPPERS) ?? descend(root, AVERAGES);
  if (found === undefined) throw noTensors(path, root);
  const { dict, steps } = found;
  const setAside: SetAside[] = [];
  let averages: StateDict['averages'];
  let at = root;
  for (const [depth, step] of steps.entries()) {
    const { entries } = at as PickleDict;
    for (const name of AVERAGES) {
      const inner = name === step ? undefined : descend(entries.get(name) ?? null, WRAPPERS);
      if (inner === undefined || averages !== undefined) continue;
      averages = { dict: inner.dict, wrapper: [...steps.slice(0, depth), name, ...inner.steps].join('.') };
    }
    const beside = [...entries.keys()].filter((key) => key !== step && typeof key === 'string') as string[];
    for (const name of beside) {
      if (averages?.wrapper.split('.')[depth] === name) continue;
      setAside.push({ name: [...steps.slice(0, depth), name].join('.'), reason: reasonOf(name) });
    }
    at = entries.get(step)!;
  }
  return { dict, wrapper: steps.join('.'), averages, setAside };
}

/** Wrappers go before tensors: scripts keep single ones, as the best accuracy, beside the state dict. */
function descend(from: PickleValue, names: readonly string[]): { dict: PickleDict; steps: string[] } | undefined {
  const steps: string[] = [];
  let at = from;
  while (at instanceof PickleDict && steps.length < MOST_STEPS) {
    const { entries } = at;
    const step = (steps.length === 0 ? names : WRAPPERS).find((name) => entries.get(name) instanceof PickleDict);
    if (step === undefined) break;
    steps.push(step);
    at = entries.get(step)!;
  }
  return at instanceof PickleDict && [...at.entries.values()].some(isTensor) ? { dict: at, steps } : undefined;
}

function reasonOf(name: string): string {
  return /optim/i.test(name) ? 'state of the optimiser' : 'of the training, beside the weights';
}

/** What wrappers put before all names of a state dict; a counter of their own has nothing before it. */
export function prefixOf(all: readonly string[]): string {
  let prefix = '';
  for (let more: string | undefined = ''; more !== undefined; prefix += more ?? '') {
    const rest = all.filter((name) => name !== SWA_COUNT).map((name) => name.slice(prefix.length));
    more = rest.length === 0 ? undefined : PREFIXES.find((each) => rest.every((name) => name.startsWith(each)));
  }
  return prefix;
}

function noTensors(path: string, root: PickleValue): FormatError {
  const keys = root instanceof PickleDict ? [...root.entries.keys()] : [];
  const shown = keys.filter((key) => typeof key === 'string').slice(0, 10);
  return new FormatError({
    code: 'TORCH_NO_TENSORS',
    message: `${path}: expected a state dict (names to tensors, or one of ${WRAPPERS.join(', ')} holding it), received ${
      shown.length > 0 ? `a dictionary with ${shown.map(quote).join(', ')}` : kindOf(root)
    }`,
    hint: 'save the state dict alone from PyTorch: torch.save(model.state_dict(), "out.pth")',
  });
}

function kindOf(value: PickleValue): string {
  if (value instanceof PickleDict) return 'an empty dictionary';
  if (isTensor(value)) return 'a single tensor without a name';
  return Array.isArray(value) ? 'a list' : 'something else';
}
