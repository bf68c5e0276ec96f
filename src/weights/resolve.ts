/**
 * Which numbers a backbone starts with: those of the local store, of a file, or none. Never silently random: whoever
 * wants to train from scratch says `none`.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Channels } from '../augment/image.js';
import { answersTo, type Backbone, findBackbone, findPublished, type Published } from '../backbones/index.js';
import type { Parameter } from '../engine/graph.js';
import type { ReadParameter } from '../engine/network.js';
import { WeightsError } from '../errors.js';
import { isFolder } from '../files.js';
import type { Head } from '../heads/heads.js';
import { isCheckpoint } from './checkpoint/find.js';
import { openPublishedFile } from './published-file.js';
import { findAllStored, folderOf, type StoredWeights } from './store.js';
import { findTfjsModel } from './tfjs/tfjs-model.js';
import { findTfjsModule } from './tfjs/tfjs-module.js';

/** What {@link resolveWeights} looks for. */
export interface WeightsRequest {
  /** A name or alias. */
  readonly backbone: string;
  /** Which published variant; by default that of the weights that are found. */
  readonly source?: string | undefined;
  /** `auto` (the local store), `none`, or the path of a weights file, a model folder or a run folder. */
  readonly weights: string;
}

/** The published variant that a network is built as, and its numbers. */
export interface ResolvedWeights {
  readonly backbone: Backbone;
  readonly published: Published;
  /** Of the published classifier, the parameters under `classifier`; undefined where the file has none. */
  readonly classes: number | undefined;
  /** Layers of somebody's own in the place of the classifier, with their parameters; undefined where there are none. */
  readonly head: (Head & { readonly classes: number; readonly parameters: readonly Parameter[] }) | undefined;
  /** Of the pictures that the numbers were trained on. */
  readonly channels: Channels;
  /** One line for people: where the numbers come from. */
  readonly origin: string;
  /** Of the numbers, as their publisher says it. */
  readonly license: string;
  /** Every parameter that {@link read} knows, but those of the head. */
  readonly parameters: readonly Parameter[];
  /** Reads a parameter by its path; undefined for `none`: every parameter then starts from its initializer. */
  readonly read: ReadParameter | undefined;
  close(): Promise<void>;
}

/**
 * Finds the numbers of a backbone. `auto` takes the named source, or a variant of it; where none is named, the first
 * imported one in the order of `Backbone.published`.
 * @throws WEIGHTS_NOT_FOUND which says how to import them; WEIGHTS_MISMATCH, STORE_DAMAGED, UNKNOWN_BACKBONE, UNKNOWN_SOURCE
 */
export async function resolveWeights(request: WeightsRequest): Promise<ResolvedWeights> {
  const backbone = findBackbone(request.backbone);
  const named = request.source === undefined ? undefined : findPublished(backbone, request.source);
  if (request.weights === 'none') return fromScratch(backbone, named ?? backbone.published[0]!);
  if (request.weights === 'auto') return fromStore(backbone, request.source);
  return fromFile(backbone, request.source, request.weights);
}

function fromScratch(backbone: Backbone, published: Published): ResolvedWeights {
  return {
    backbone,
    published,
    classes: undefined,
    head: undefined,
    channels: published.channels ?? 3,
    origin: 'none: trained from scratch',
    license: 'none',
    parameters: [],
    read: undefined,
    close: async () => {},
  };
}

async function fromStore(backbone: Backbone, source: string | undefined): Promise<ResolvedWeights> {
  const [stored] = await findAllStored(
    backbone.name,
    meantBy(backbone, source).map((each) => each.source),
  );
  if (stored === undefined) throw await notImported(backbone, source);
  const { record } = stored;
  return open(backbone, stored.file, record.source, {
    origin: `${record.file.name} (sha256 ${record.file.sha256}), imported from ${record.source}`,
    license: record.license,
  });
}

/** What users may mean: the source that they named and then its variants, else any. */
function meantBy({ published }: Backbone, source: string | undefined): readonly Published[] {
  if (source === undefined) return published;
  const meant = published.filter((each) => answersTo(each, source));
  return meant.sort((a, b) => Number(a.source !== source) - Number(b.source !== source));
}

async function fromFile(backbone: Backbone, source: string | undefined, given: string): Promise<ResolvedWeights> {
  if (!existsSync(given) && !(await isCheckpoint(given))) {
    throw new WeightsError({
      code: 'WEIGHTS_NOT_FOUND',
      message: `${given}: no such weights file`,
      hint: 'give a file, `auto` for imported weights (`tl backbones` shows them), or `none` to train from scratch',
    });
  }
  return open(backbone, await fileIn(given), source, {});
}

/** The weights of a model folder, or of the best model of a run folder; formats that are folders as they are. */
async function fileIn(path: string): Promise<string> {
  if (!isFolder(path)) return path;
  const inside = [path, join(path, 'best')].map((folder) => join(folder, 'weights.safetensors'));
  const found = inside.find((file) => existsSync(file));
  if (found !== undefined) return found;
  const model = (await findTfjsModel(path)) ?? (await findTfjsModule(path));
  if (model !== undefined || (await isCheckpoint(path))) return path;
  throw new WeightsError({
    code: 'WEIGHTS_NOT_FOUND',
    message: `${path}: a folder without weights; expected ${inside.join(' or ')}`,
    hint: 'give a weights file, a model folder or a run folder',
  });
}

async function open(
  backbone: Backbone,
  file: string,
  source: string | undefined,
  said: { readonly origin?: string; readonly license?: string },
): Promise<ResolvedWeights> {
  const opened = await openPublishedFile(file, { backbone: backbone.name, source });
  const { published } = opened.plan;
  return {
    backbone,
    published,
    classes: opened.classes,
    head: opened.head === undefined ? undefined : { ...opened.head, parameters: opened.parameters.filter(isOfHead) },
    channels: opened.plan.graph.input.shape[2] as Channels,
    origin: said.origin ?? file,
    license: said.license ?? published.license,
    parameters: opened.parameters.filter((parameter) => !isOfHead(parameter)),
    read: opened.read,
    close: opened.close,
  };
}

const isOfHead = ({ path }: Parameter): boolean => path.startsWith('head.');

async function notImported(backbone: Backbone, source: string | undefined): Promise<WeightsError> {
  const others: StoredWeights[] =
    source === undefined
      ? []
      : await findAllStored(
          backbone.name,
          backbone.published.map((each) => each.source),
        );
  const asked = meantBy(backbone, source);
  const origins = asked.map((each) => `  ${each.source}: ${each.origin}`).join('\n');
  const imported = others.map((each) => each.record.source).join(', ');
  const [offered] = asked.filter(({ download, packaged }) => download !== undefined || packaged !== undefined);
  const pulls = offered === undefined ? '' : `run: tl pull ${backbone.name} --source ${offered.source}, or `;
  return new WeightsError({
    code: 'WEIGHTS_NOT_FOUND',
    message:
      `no weights of ${backbone.name}${source === undefined ? '' : ` from ${source}`} have been imported; ` +
      `expected them in ${asked.map((each) => folderOf(backbone.name, each.source)).join(' or ')}` +
      (imported === '' ? '' : `; imported sources: ${imported}`),
    hint: `${pulls}fetch a published file and run: tl import FILE --backbone ${backbone.name}\n${origins}\nor train from scratch with --weights none`,
  });
}
