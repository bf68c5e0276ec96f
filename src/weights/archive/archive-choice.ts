/**
 * Which of an archive's members to open. Publishers put a network into one archive in several forms; the one that they
 * mean to be trained further is taken, and where that is not clear the user is asked.
 */
import { readFile } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { FormatError, listFaults, UsageError } from '../../errors.js';
import { readJsonFile } from '../../files.js';
import { withByteFile } from '../byte-file.js';
import { DATA, latestNamed, MOST_STATE_BYTES } from '../checkpoint/find.js';
import { shardsAmong } from '../checkpoint/version1.js';
import { quote } from '../limits.js';
import { type Container, recognise } from '../recognise.js';
import { shardMapIn, shardsOf } from '../sharded.js';
import { isTfjsModel } from '../tfjs/tfjs-model.js';
import type { Unpacked } from './archive-unpack.js';
import { openZip } from './zip.js';
import { recogniseZip } from './zip-kinds.js';

/** One set of weights in an archive. */
export interface Candidate {
  /** Path in the archive: of a file, of what a checkpoint's files begin with, or of a SavedModel's folder. */
  readonly name: string;
  readonly kind: 'weights' | 'saved-model' | 'frozen-graph' | 'archive';
  /** Paths of all files that belong to it. */
  readonly files: readonly string[];
  /** In bytes, of all files. */
  readonly size: number;
}

/**
 * The kinds that hold the same network in order of preference: a checkpoint has what can be trained further; a
 * SavedModel and a frozen graph were made of it for inference. slim's MobileNets come with both.
 */
const PREFERENCE: readonly Candidate['kind'][] = ['weights', 'saved-model', 'frozen-graph'];

/**
 * The set of weights to open.
 * @param wanted a path in the archive, of a file or a folder, with `*` for any run of characters
 * @throws ARCHIVE_EMPTY, ARCHIVE_AMBIGUOUS, ARCHIVE_MEMBER, ARCHIVE_NESTED, TORCH_TAR
 */
export async function chooseMember(archive: string, unpacked: Unpacked, wanted?: string): Promise<Candidate> {
  // its members are pickles, and each alone would pass for weights
  if (TORCH_TAR.every((name) => unpacked.members.has(name))) throw torchTar(archive);
  const all = await candidatesIn(unpacked);
  const asked = wanted === undefined ? all : all.filter((each) => fits(each, wanted));
  if (asked.length === 0)
    throw wanted === undefined ? nothing(archive, unpacked) : noMember(archive, wanted, all, unpacked);
  const weights = asked.filter(({ kind }) => kind !== 'archive');
  if (weights.length === 0) throw nested(archive, asked);
  const kind = PREFERENCE.find((each) => weights.some((candidate) => candidate.kind === each));
  const preferred = await asPublished(
    unpacked,
    weights.filter((each) => each.kind === kind),
  );
  if (preferred.length > 1) throw ambiguous(archive, weights);
  return preferred[0]!;
}

/** Whether a pattern names a candidate, one of its files, or a folder that it lies in. */
function fits({ name, files }: Candidate, wanted: string): boolean {
  const asked = memberPattern(wanted);
  return [name, ...files].some((path) => asked(path) || parentsOf(path).some(asked));
}

/** Tells which paths a `--member` names. */
export function memberPattern(wanted: string): (path: string) => boolean {
  const parts = wanted.replace(/^\.\//, '').replace(/\/$/, '').split('*');
  const pattern = new RegExp(`^${parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`, 's');
  return (path) => pattern.test(path);
}

function parentsOf(path: string): string[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('/'));
}

async function candidatesIn({ folder, members }: Unpacked): Promise<Candidate[]> {
  const taken = new Set<string>();
  const found: Candidate[] = [];
  const add = (name: string, kind: Candidate['kind'], files: readonly string[]): void => {
    for (const file of files) taken.add(file);
    found.push({ name, kind, files, size: files.reduce((sum, file) => sum + (members.get(file) ?? 0), 0) });
  };
  for (const { name, kind, files } of checkpointsIn([...members.keys()])) add(name, kind, files);
  for (const name of [...members.keys()].filter((each) => each.endsWith('.json'))) {
    const shards = await listedIn(join(folder, name), name);
    if (shards !== undefined) add(name, 'weights', [name, ...shards.filter((shard) => members.has(shard))]);
  }
  for (const name of members.keys()) {
    if (taken.has(name)) continue;
    const kind = await kindOf(join(folder, name));
    const files = kind === 'weights' ? shardsAmong([...members.keys()], name) : [name];
    if (kind !== undefined) add(name, kind, files);
  }
  return found;
}

/** Checkpoints of version 2, each known by its index. */
function checkpointsIn(names: readonly string[]): Pick<Candidate, 'name' | 'kind' | 'files'>[] {
  return names
    .filter((name) => name.endsWith('.index'))
    .map((index) => {
      const prefix = index.slice(0, -'.index'.length);
      const files = names.filter((name) => name === index || (DATA.test(name) && name.replace(DATA, '') === prefix));
      const saved = posix.basename(posix.dirname(index)) === 'variables' && posix.basename(prefix) === 'variables';
      if (!saved) return { name: prefix, kind: 'weights' as const, files };
      const folder = posix.dirname(posix.dirname(index)); // `.` where the archive itself is the SavedModel
      return { name: folder, kind: 'saved-model' as const, files };
    });
}

/** Paths of the files that a JSON file lists as those with its weights; undefined where it lists none. */
async function listedIn(path: string, name: string): Promise<string[] | undefined> {
  const json = await readJsonFile(path).catch(() => undefined); // no JSON, whatever it is called
  const map = shardMapIn(json);
  const listed = isTfjsModel(json) ? pathsIn(json) : map === undefined ? undefined : shardsOf(map);
  return listed?.map((shard) => posix.join(posix.dirname(name), shard));
}

/** The files that a model of TensorFlow.js names, wherever they are in it. */
function pathsIn(json: unknown): string[] {
  const groups = Array.isArray(json) ? json : (json as { weightsManifest?: unknown }).weightsManifest;
  if (!Array.isArray(groups)) return [];
  return groups.flatMap((group: { paths?: unknown }) =>
    Array.isArray(group?.paths) ? group.paths.filter((path): path is string => typeof path === 'string') : [],
  );
}

const KINDS: Readonly<Partial<Record<Container, Candidate['kind']>>> = {
  'graph-def': 'frozen-graph',
  gzip: 'archive',
  tar: 'archive',
};

/** Files without weights may be anything; what they are is not told. */
async function kindOf(path: string): Promise<Candidate['kind'] | undefined> {
  const container = await withByteFile(path, (file) => recognise(file).catch(() => undefined));
  if (container === undefined || container === 'json') return undefined;
  if (container !== 'zip') return KINDS[container] ?? 'weights';
  const zip = await openZip(path).catch(() => undefined);
  try {
    return zip !== undefined && recogniseZip(zip) === 'archive' ? 'archive' : 'weights';
  } finally {
    await zip?.close();
  }
}

/** What publishers say by names: which step of a training is the one, and that averaged weights are. */
async function asPublished({ folder, members }: Unpacked, found: readonly Candidate[]): Promise<readonly Candidate[]> {
  if (found.length < 2) return found;
  const latest = new Map<string, string>();
  for (const parent of new Set(found.map(({ name }) => posix.dirname(name)))) {
    const state = posix.join(parent, 'checkpoint'); // written by tf.train.Saver beside checkpoints
    if (!members.has(state) || members.get(state)! > MOST_STATE_BYTES) continue;
    const named = latestNamed(await readFile(join(folder, state), 'utf8'));
    if (named !== undefined) latest.set(parent, posix.join(parent, posix.basename(named)));
  }
  const steps = found.filter(({ name }) => {
    const one = latest.get(posix.dirname(name));
    return one === undefined || one === name || !found.some((each) => each.name === one);
  });
  // slim's MobileNets v3 have their weights in `pristine`, and the averages, whose accuracy is published, in `ema`
  const averaged = steps.filter(({ name }) => posix.basename(posix.dirname(name)) === 'ema');
  const others = steps.filter(({ name }) => posix.basename(posix.dirname(name)) === 'pristine');
  return averaged.length === 1 && averaged.length + others.length === steps.length ? averaged : steps;
}

const listed = ({ name, size }: Candidate): string => `${name} (${size} bytes)`;

function ambiguous(archive: string, found: readonly Candidate[]): FormatError {
  return new FormatError({
    code: 'ARCHIVE_AMBIGUOUS',
    message: `${archive}: ${found.length} members hold weights\n${listFaults(found.map(listed))}`,
    hint: `say which when it is imported: tl import ${archive} --member ${quote(found[0]!.name)}; * stands for any characters`,
  });
}

function noMember(
  archive: string,
  wanted: string,
  all: readonly Candidate[],
  { members, passedOver }: Unpacked,
): UsageError {
  const there = [...members.keys(), ...passedOver].find((name) => memberPattern(wanted)(name));
  const what =
    there === undefined ? `no member is called ${quote(wanted)}` : `${quote(there)} holds no weights that are read`;
  return new UsageError({
    code: 'ARCHIVE_MEMBER',
    message: `${archive}: ${what}; ${all.length === 0 ? 'nothing else does either' : `these hold weights\n${listFaults(all.map(listed))}`}`,
    hint: 'name one of them with --member; * stands for any characters',
  });
}

function nested(archive: string, found: readonly Candidate[]): FormatError {
  return new FormatError({
    code: 'ARCHIVE_NESTED',
    message: `${archive}: what it holds is packed once more\n${listFaults(found.map(listed))}`,
    hint: 'unpack the outer archive yourself, and give the inner one',
  });
}

/** What PyTorch before version 0.1.10 put into its tar archives (torch/serialization.py, _legacy_load). */
const TORCH_TAR = ['sys_info', 'pickle', 'storages', 'tensors'];

function torchTar(archive: string): FormatError {
  return new FormatError({
    code: 'TORCH_TAR',
    message: `${archive}: this is a file of PyTorch before version 0.1.10`,
    hint: 'load it with a later PyTorch and save it again: torch.save(torch.load("in.pth", weights_only=False), "out.pth")',
  });
}

function nothing(archive: string, { members, passedOver }: Unpacked): FormatError {
  const names = [...members.keys(), ...passedOver];
  const what =
    names.length === 0 ? 'the archive is empty' : `no member holds weights that are read\n${listFaults(names)}`;
  return new FormatError({
    code: 'ARCHIVE_EMPTY',
    message: `${archive}: ${what}`,
    hint: 'check that this is the archive with the weights; models for phones and other programs (.tflite, .onnx, .mlmodel) are not read',
  });
}
