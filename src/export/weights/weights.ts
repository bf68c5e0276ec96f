import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { refuseExisting, replaceFolderAtomic, sha256File, writeFileAtomic } from '../../files.js';
import { writeRecords } from '../companions.js';
import { checkWeights, type WeightsCheck } from './weights-check.js';
import { dialectFor, variantToWrite, type WeightsDialect } from './weights-dialects.js';
import { fileNameOf, planWeightsFile, writeWeightsFile } from './weights-files.js';
import { type Loading, loadingOf } from './weights-loading.js';
import { graphToWrite, type NetworkToWrite } from './weights-network.js';
import { weightsReadme } from './weights-readme.js';

export interface WeightsExportOptions {
  /** By default that of the network's source. */
  readonly dialect?: WeightsDialect | undefined;
  /** The new folder. */
  readonly out: string;
  /** Put the new folder in the place of one that is there. */
  readonly overwrite: boolean;
}

export interface WeightsExportReport {
  readonly format: 'weights';
  readonly dialect: WeightsDialect;
  readonly out: string;
  readonly backbone: string;
  /** Of the network. */
  readonly source: string;
  /** Whose names and layouts the file has; another source than the network's where that computes the same. */
  readonly writtenAs: string;
  readonly files: readonly { readonly name: string; readonly bytes: number; readonly sha256: string }[];
  /** Every tensor of the file that holds parameters, and which. */
  readonly tensors: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly parameters: readonly string[];
  }[];
  readonly loading: Loading;
  readonly check: WeightsCheck;
}

/**
 * Writes a network's weights for the code of a publisher, whole or not at all, after the file was opened again and
 * every number compared.
 * @throws OUT_EXISTS, DIALECT_DIFFERS, PART_UNKNOWN, EXPORT_DIFFERS, FILE_NOT_WRITTEN
 */
export async function exportWeights(
  network: NetworkToWrite,
  { dialect, out, overwrite }: WeightsExportOptions,
): Promise<WeightsExportReport> {
  refuseExisting(out, overwrite);
  const published = variantToWrite(network, dialect);
  const graph = graphToWrite(network, published);
  const file = fileNameOf(network, published);
  const loading = loadingOf(network, published, graph, file);
  const planned = planWeightsFile(network, published, graph);
  let check: WeightsCheck | undefined;
  await replaceFolderAtomic(out, async (folder) => {
    await writeWeightsFile(folder, network, published, graph, planned);
    check = await checkWeights(join(folder, file), network, published, planned);
    const { size, channels, labels, preprocessing } = network;
    await writeRecords(folder, { classes: labels, inputSize: size, channels, preprocessing });
    const about = { backbone: network.backbone.name, source: published.source, dialect: dialectFor(published), file };
    await writeFileAtomic(join(folder, 'loading.json'), `${JSON.stringify({ ...about, ...loading }, null, 2)}\n`);
    await writeFileAtomic(join(folder, 'README.md'), weightsReadme(network, published, file, loading));
  });
  return {
    ...{ format: 'weights', dialect: dialectFor(published), out },
    ...{ backbone: network.backbone.name, source: network.published.source, writtenAs: published.source },
    files: await listFiles(out),
    tensors: [...planned.tensors, ...planned.head]
      .filter(({ parts }) => parts.length > 0)
      .map(({ name, shape, parts }) => ({ name, shape, parameters: parts.map(({ parameter }) => parameter.path) })),
    loading,
    check: check!,
  };
}

async function listFiles(folder: string): Promise<WeightsExportReport['files']> {
  const names = (await readdir(folder)).sort();
  return Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      return { name, bytes: (await stat(path)).size, sha256: await sha256File(path) };
    }),
  );
}
