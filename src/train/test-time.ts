/**
 * Test-time augmentation: a picture is shown in several views, and the mean of their probabilities counts.
 *
 * - `flip`: as it is, and mirrored.
 * - `crops`: the four corners and the middle of a picture that is 256 / 224 of the input's size, and their mirror images.
 *
 * @see Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1
 */
import { type Part, parts } from '../augment/pipeline.js';
import { channelsFor } from '../augment/preprocessing.js';
import { type Batch, batches, type LoaderOptions } from '../data/loader.js';
import type { Sample } from '../data/sample.js';
import type { Classifier } from './classifier.js';

export const testTimeAugmentations = ['flip', 'crops'] as const;

export type TestTimeAugmentation = (typeof testTimeAugmentations)[number];

/** How often each picture goes through the model. */
export const viewsOf = (augmentation: TestTimeAugmentation | undefined): number =>
  augmentation === undefined ? 1 : augmentation === 'flip' ? 2 : 2 * parts.length;

/** A batch with what the model says of it: `[count, classes]`, in C order. */
export interface Classified extends Pick<Batch, 'labels' | 'indices' | 'count'> {
  readonly probabilities: ArrayLike<number>;
}

/**
 * Pictures through a model, in the order of the samples; without an augmentation each is shown once, as it is.
 * @throws DataError `BAD_IMAGE`; UsageError `BAD_LOADER_OPTION`
 */
export async function* classified(
  classifier: Classifier,
  samples: readonly Sample[],
  options: Omit<LoaderOptions, 'augment' | 'seed' | 'epoch' | 'view' | 'second' | 'shuffle'>,
  augmentation?: TestTimeAugmentation,
): AsyncGenerator<Classified, void, void> {
  const channels = channelsFor(options.preprocessing);
  const shown: (Part | undefined)[] = augmentation === 'crops' ? [...parts] : [undefined];
  const loaders = shown.map((part, i) =>
    batches(samples, {
      ...options,
      ...{ augment: 'none', seed: 0, epoch: 0 },
      ...(part === undefined ? {} : { view: { flip: false, part } }),
      onBadImage: (path, reason) => {
        if (i === 0) options.onBadImage?.(path, reason);
      },
    }),
  );
  try {
    for (;;) {
      const loaded = await Promise.all(loaders.map((loader) => loader.next()));
      const views = loaded.flatMap(({ value }) => (value === undefined ? [] : [value]));
      if (views.length < loaders.length) return;
      const { labels, indices, count } = views[0]!;
      const said: ArrayLike<number>[] = [];
      for (const { pixels } of views) {
        const sides = augmentation === undefined ? [pixels] : [pixels, mirrored(pixels, options.size.width, channels)];
        for (const side of sides) said.push(await classifier.probabilities(side, count));
      }
      yield { labels, indices, count, probabilities: said.length === 1 ? said[0]! : meanOf(said) };
    }
  } finally {
    await Promise.all(loaders.map((loader) => loader.return()));
  }
}

function meanOf(all: readonly ArrayLike<number>[]): Float64Array {
  return Float64Array.from(all[0]!, (_, i) => all.reduce((sum, each) => sum + each[i]!, 0) / all.length);
}

/** Pictures `[N, H, W, C]`, each mirrored left to right: as that view is, since every number is made of one pixel. */
function mirrored(pixels: Float32Array, width: number, channels: number): Float32Array {
  const out = new Float32Array(pixels.length);
  const row = width * channels;
  for (let start = 0; start < pixels.length; start += row) {
    for (let from = start, to = start + row - channels; from < start + row; from += channels, to -= channels) {
      for (let c = 0; c < channels; c++) out[to + c] = pixels[from + c]!;
    }
  }
  return out;
}
