/** The door of this room: pictures with labels, in batches. */
export type { ImageSize } from '../augment/image.js';
export { readManifest, scanFolder } from './dataset.js';
export { decodeImage } from './decode.js';
export type { Recipe } from './decode-batch.js';
export { type Batch, batches, closeLoader, describeBadImages, type LoaderOptions, loadOne } from './loader.js';
export type { Dataset, Sample, ScannedDataset } from './sample.js';
