/** Settings of how a run is computed, and of what it writes. */
import { cachePlaces, rowPrecisions } from '../features/places.js';
import { choice, flag, whole } from './kinds.js';
import type { SettingTable } from './setting.js';

const precisions: typeof import('../../engine/precision.js').precisions = ['float32', 'bfloat16'];

/** In the order of the help. */
export const computationSettings = {
  seed: { flag: 'seed', kind: whole(0), help: 'of everything random', default: 0, section: 'Computation' },
  precision: {
    flag: 'precision',
    kind: choice(precisions, '<type>'),
    help: 'what convolutions and matrix products compute in; bfloat16 takes less time',
    default: 'float32',
    section: 'Computation',
  },
  recompute: {
    flag: 'recompute',
    kind: flag,
    help: 'run trained blocks again for their gradients, instead of keeping them: slower, less memory',
    default: false,
    section: 'Computation',
  },
  cache: {
    flag: 'cache',
    kind: choice(cachePlaces, '<where>'),
    help: "keep the frozen part's output, and a teacher's: auto and disk in TL_HOME/features, where later runs find it, or in memory",
    default: 'auto',
    section: 'Computation',
  },
  cachePrecision: {
    flag: 'cache-precision',
    kind: choice(rowPrecisions, '<type>'),
    help: 'numbers that it is kept in; float16 takes half the room',
    default: 'float32',
    section: 'Computation',
  },
  cacheViews: {
    flag: 'cache-views',
    kind: whole(1),
    help: 'with --augment standard or strong, keep N random views of each picture, which epochs show in turn',
    section: 'Computation',
  },
  deterministic: {
    flag: 'deterministic',
    kind: flag,
    help: 'refuse whatever may give other bits another time: same seed and threads, same run; costs nothing on a processor',
    default: false,
    section: 'Computation',
  },
  tensorboard: {
    flag: 'tensorboard',
    kind: flag,
    help: "write the history as TensorBoard's files too, to tensorboard/ in the run folder",
    default: false,
    section: 'Computation',
  },
} as const satisfies Partial<SettingTable>;
