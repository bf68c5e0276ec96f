/** What a zip archive is: some formats of weights are zips themselves. */

import { isKerasArchive } from '../keras/keras-archive.js';
import { torchPrefix } from '../torch/torch-zip.js';
import { isNeverWeights } from './archive-unpack.js';
import type { ZipArchive } from './zip.js';

export type ZipKind = 'torch' | 'keras' | 'npz' | 'archive';

/** Tells a zip by the names in it. */
export function recogniseZip(zip: ZipArchive): ZipKind {
  if (torchPrefix(zip) !== undefined) return 'torch';
  if (isKerasArchive(zip)) return 'keras';
  const names = [...zip.entries.keys()];
  // numpy writes nothing but arrays; whoever packed a folder of them by hand may have left a text beside
  const arrays = names.filter((name) => name.endsWith('.npy'));
  const others = names.filter((name) => !name.endsWith('.npy') && !isNeverWeights(name));
  return arrays.length > 0 && others.length === 0 ? 'npz' : 'archive';
}
