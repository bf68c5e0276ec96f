/** A data set with a fingerprint, so that a later look at the same folder can tell that it is the same. */
import { createHash } from 'node:crypto';
import { readManifest, type Sample, type ScannedDataset, scanFolder } from '../data/index.js';

export interface PrintedDataset extends ScannedDataset {
  /** SHA-256 over classes, splits and the last two parts of each path: a data set may be moved. */
  readonly fingerprint: string;
}

/** Lists the pictures of a folder, or of a manifest where one is given. @throws DataError of every kind */
export function listPictures(options: {
  readonly data: string;
  readonly manifest?: string | undefined;
  readonly valSplit: number;
  readonly seed: number;
}): PrintedDataset {
  const { data, manifest, valSplit, seed } = options;
  const dataset =
    manifest === undefined ? scanFolder(data, { valSplit, seed }) : readManifest(manifest, { valSplit, seed });
  return { ...dataset, fingerprint: fingerprint(dataset) };
}

function fingerprint({ classes, train, val }: ScannedDataset): string {
  const line = ({ path, label, split }: Sample): string =>
    `${split} ${label} ${path.split(/[\\/]/).slice(-2).join('/')}`;
  return createHash('sha256')
    .update(JSON.stringify([classes, train.map(line), val.map(line)]))
    .digest('hex');
}
