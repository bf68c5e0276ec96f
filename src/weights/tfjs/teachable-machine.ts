/**
 * What Teachable Machine keeps beside a model of its own: `metadata.json` with the names of its classes. Its library
 * cuts the middle square out of a picture, shrinks it on a canvas, and hands pixels on as `x / 127 - 1`.
 * @see https://github.com/googlecreativelab/teachablemachine-community/tree/master/libraries/image, custom-mobilenet.ts
 * and utils/tf.ts
 */
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Preprocessing } from '../../augment/preprocessing.js';
import { readJsonFile } from '../../files.js';
import type { Classifier } from '../source.js';

/** `Metadata` of the library; the rest of it is of no use here. */
const schema = z.object({
  packageName: z.literal('@teachablemachine/image').optional(),
  tfjsVersion: z.string(),
  labels: z.array(z.string()),
  /** IMAGE_SIZE where it is absent. */
  imageSize: z.number().int().positive().default(224),
});

/** No filter here is a browser's own; this one averages when it shrinks a picture, as browsers do. */
const preprocessing: Preprocessing = {
  resize: { rule: 'short_side', ratio: 1 },
  kernel: 'pil_bilinear',
  crop: 'center',
  channelOrder: 'rgb',
  scale: 1 / 127, // as it is in the library, whose comment says 127 too
  mean: [1, 1, 1],
  std: [1, 1, 1],
};

/** Of the folder that a `model.json` lies in; undefined where it is not one of Teachable Machine. */
export async function teachableMachineBeside(file: string): Promise<Classifier | undefined> {
  const json = await readJsonFile(join(dirname(file), 'metadata.json')).catch(() => undefined);
  const { data } = schema.safeParse(json);
  if (data === undefined) return undefined;
  const { labels: classes, imageSize } = data;
  return { classes, inputSize: { height: imageSize, width: imageSize }, preprocessing };
}
