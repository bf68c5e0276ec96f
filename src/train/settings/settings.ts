/** Everything that decides a run's numbers, as `args.json` keeps it; what each setting means. */
import type { Channels, ImageSize } from '../../augment/image.js';
import type { Fit } from '../../augment/preprocessing.js';
import type { Augmentation } from '../../augment/recipe.js';
import type { LoraTargets } from '../../engine/lora.js';
import type { Precision } from '../../engine/precision.js';
import type { BatchNormMode } from '../../engine/run.js';
import type { CachePlace, RowPrecision } from '../features/places.js';
import type { OptimizerName } from '../optimizers.js';
import type { Sampler } from '../sampling.js';
import type { ScheduleName } from '../schedule.js';

/** How a setting that may be left out is declared: absent, what it says here holds. The table has flags and defaults. */
export interface FinetuneSettings {
  /** Folder of class folders. */
  readonly data?: string;
  /** CSV of path, label and split, instead of `data`. */
  readonly manifest?: string;
  readonly valSplit: number;
  readonly skipBadImages: boolean;

  readonly backbone: string;
  /** Which published variant; by default that of the imported weights. */
  readonly source?: string;
  /** `auto` (the local store), `none` (from scratch) or a file. */
  readonly weights: string;
  /** Height and width, one number for both; the backbone's own when absent. */
  readonly inputSize?: number | ImageSize;
  /** Of the pictures: 1 grey, 3 RGB, 4 RGBA; those that the weights were trained on when absent. */
  readonly channels?: Channels;
  /** `linear` or `mlp:UNITS[,UNITS...]`. */
  readonly head: string;
  /** Share of values dropped before each dense layer of the head. */
  readonly headDropout: number;

  /** `none`, `backbone`, `last:N` or `until:TAP`: what is frozen at the end. */
  readonly freeze: string;
  /** Epochs in which the head alone is trained, before the rest that `freeze` leaves is. */
  readonly twoStage?: number;
  /** The highest rate after that; a tenth of `lr` when absent. */
  readonly unfreezeLr?: number;
  /** Epochs between two steps of unfreezing, one stage of the network each, until `freeze` is reached. */
  readonly gradual?: number;
  /** By which statistics batch norms of the trained part normalise; `train` when absent. */
  readonly batchNorm?: BatchNormMode;
  /** What a layer's rate is of that of the layer behind it, the head's being the highest; the same for all when absent. */
  readonly layerDecay?: number;
  /** `RANK` or `RANK,ALPHA` of adapters that are trained in the place of the backbone; none when absent. */
  readonly lora?: string;
  /** Which projections of attention are adapted; queries and values when absent. */
  readonly loraTargets?: LoraTargets;

  readonly epochs: number;
  readonly batchSize: number;
  /** Epochs without a better model after which the run ends; never when absent. */
  readonly patience?: number;
  /** The highest learning rate; {@link defaultLr} when absent. */
  readonly lr?: number;
  readonly optimizer: OptimizerName;
  readonly schedule: ScheduleName;
  readonly warmupEpochs: number;
  /**
   * Of the schedule `step`: epochs from one fall of the rate to the next, a third of the run when absent; or `E1,E2,...`,
   * the epochs that falls come after.
   */
  readonly stepEpochs?: number | string;
  /** Of the schedule `step`: what a fall multiplies the rate by; a tenth when absent. */
  readonly stepGamma?: number;
  /** Of the schedule `cosine`: the rate it ends at; 0 when absent. */
  readonly minLr?: number;
  /** Of SGD and RMSprop; that of `defaultMomentum` when absent. */
  readonly momentum?: number;
  /** Whether SGD's momentum is Nesterov's; not when absent. */
  readonly nesterov?: boolean;
  readonly weightDecay: number;
  /** The longest that all gradients of an update may be together; they are not clipped when absent. */
  readonly clipNorm?: number;
  /** Batches whose gradients make one update; 1 when absent. */
  readonly accumulate?: number;
  /** Share of the old average that an update keeps, of averages by which the network is validated and kept; none when absent. */
  readonly ema?: number;

  readonly labelSmoothing: number;
  /** Gamma of the focal loss; the cross-entropy is taken when absent. */
  readonly focal?: number;
  /** `balanced`, or a file of class names and weights; classes count the same when absent. */
  readonly classWeights?: string;
  /** Which training pictures an epoch shows; every one once when absent. */
  readonly sampler?: Sampler;
  /** Rate of the last block's dropped path, growing linearly from 0 in the first; as the network has it when absent. */
  readonly dropPath?: number;
  /** Whether auxiliary classifiers take part, where the network has them on what is trained; `on` when absent. */
  readonly auxiliary?: 'on' | 'off';
  /** Model or run folder of a teacher for the same classes, whose logits are learned beside the labels. */
  readonly teacher?: string;
  /** Share of the teacher's part in the training loss, 0 to 1; that of `distillationDefaults` when absent. */
  readonly distillWeight?: number;
  /** Divides the logits of both in the teacher's part, above 0; that of `distillationDefaults` when absent. */
  readonly temperature?: number;

  /** The preset, of which the settings below change parts. */
  readonly augment: Augmentation;
  /** `MIN,MAX`: area of the random crop as fractions of the picture's; that of the preset, or no crop, when absent. */
  readonly cropArea?: string;
  /** Probability that a picture is mirrored left to right; that of the preset when absent. */
  readonly hflip?: number;
  /** Probability that a picture is mirrored upside down; 0 when absent. */
  readonly vflip?: number;
  /** Degrees by which a picture is turned at most, either way; those of the preset when absent. */
  readonly rotate?: number;
  /** Brightness, contrast and saturation in one number, or three, and hue; that of the preset when absent. */
  readonly colorJitter?: string;
  /** `N,M`: operations and their magnitude, 0 to 30; none when absent. */
  readonly randAugment?: string;
  /** Probability that a rectangle is erased; 0 when absent. */
  readonly erase?: number;
  /** What is there instead; `zero` when absent. */
  readonly eraseFill?: 'zero' | 'noise';
  /** Alpha of mixup; 0, which is off, when absent. */
  readonly mixup?: number;
  /** Alpha of cutmix; 0, which is off, when absent. */
  readonly cutmix?: number;
  /** How pictures of another shape get into the input, here and in the model; as the network was trained when absent. */
  readonly fit?: Fit;

  readonly seed: number;
  /** What convolutions and matrix products compute in; `float32` when absent. */
  readonly precision?: Precision;
  /** Whether trained blocks are run again where their gradients are taken, instead of kept; not when absent. */
  readonly recompute?: boolean;
  /** Where the frozen part's output is kept; `off` computes it anew in every epoch. */
  readonly cache: CachePlace;
  /** Numbers that it is kept in; `float32` when absent. */
  readonly cachePrecision?: RowPrecision;
  /** How many random views of each picture are kept with `standard` and `strong`, from 1; none when absent. */
  readonly cacheViews?: number;
  /** Whether anything is refused that may give other bits another time; not when absent. */
  readonly deterministic?: boolean;
  /** Whether the history is also written as TensorBoard's files; not when absent. */
  readonly tensorboard?: boolean;
}

/** What a user gave of them. */
export type GivenSettings = Partial<FinetuneSettings>;
