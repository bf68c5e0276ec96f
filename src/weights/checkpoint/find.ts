/** Which checkpoint a path means: TensorFlow names the files of one checkpoint by a common beginning. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join } from 'node:path';
import { FormatError } from '../../errors.js';
import { isFolder } from '../../files.js';

/** Behind the prefix, of the files with numbers: DataFilename of tensorflow/core/util/tensor_bundle/naming.cc. */
export const DATA = /\.data-\d{5}-of-\d{5}$/;

/** Behind the prefix, of one file of a sharded checkpoint of version 1; its name for all of them has question marks. */
const SHARD = /-(\d{5}|\?{5})(-of-\d{5})$/;

/** The file `checkpoint` holds a few paths. */
export const MOST_STATE_BYTES = 2 ** 20;

/**
 * The prefix of a checkpoint of version 2, given as `model.ckpt`, `model.ckpt.index`, `model.ckpt.data-00000-of-00001`,
 * `model.ckpt.meta`, the file `checkpoint` or the folder that holds it, or a SavedModel, whose variables are one.
 * @throws CHECKPOINT_PARTS for numbers without their index
 */
export async function findVersion2(path: string): Promise<string | undefined> {
  const given = path.replace(/\.(index|meta)$/, '').replace(DATA, '');
  const isItself = given === path && existsSync(path); // a file that is there is what is meant by its name
  if (!isItself && existsSync(`${given}.index`)) return given;
  if (DATA.test(path) && existsSync(path)) {
    throw new FormatError({
      code: 'CHECKPOINT_PARTS',
      message: `${path}: these are the numbers of a checkpoint; expected ${given}.index beside them, which names them`,
      hint: 'put all files of the checkpoint into one folder: its .index and every .data-...',
    });
  }
  const name = basename(path);
  if (name === 'saved_model.pb' || name === 'checkpoint') return await inFolder(dirname(path));
  return isFolder(path) ? await inFolder(path) : undefined;
}

async function inFolder(folder: string): Promise<string | undefined> {
  const latest = latestIn(folder);
  if (latest !== undefined && existsSync(`${latest}.index`)) return latest;
  const saved = join(folder, 'variables', 'variables'); // of a SavedModel
  if (existsSync(`${saved}.index`)) return saved;
  if (!isFolder(folder)) return undefined;
  const indexes = (await readdir(folder)).filter((name) => name.endsWith('.index'));
  return indexes.length === 1 ? join(folder, indexes[0]!.replace(/\.index$/, '')) : undefined;
}

/**
 * A file of a checkpoint of version 1 that is not given by its own name: as the prefix of its shards, `model.ckpt` or
 * `model.ckpt-?????-of-00002`; as its `.meta`; or as the folder whose file `checkpoint` names it.
 * @throws CHECKPOINT_PARTS for a `.meta` alone
 */
export async function findVersion1(path: string): Promise<string | undefined> {
  const given = path.replace(/\.meta$/, '');
  if (given !== path) {
    const found = await fileOrShard(given);
    if (found === undefined && (await isMetaGraph(path))) throw graphAlone(path, given);
    return found;
  }
  if (isFolder(given)) {
    const latest = latestIn(given);
    return latest === undefined || isFolder(latest) ? undefined : await fileOrShard(latest);
  }
  if (basename(path) === 'checkpoint') {
    const latest = latestIn(dirname(path));
    return latest === undefined ? undefined : await fileOrShard(latest);
  }
  return existsSync(given) ? undefined : await fileOrShard(given);
}

/** Whether a path that may be no file means a checkpoint. @throws CHECKPOINT_PARTS */
export async function isCheckpoint(path: string): Promise<boolean> {
  return (await findVersion2(path)) !== undefined || (await findVersion1(path)) !== undefined;
}

/** A file that is there, or the first of the shards that a name stands for. */
async function fileOrShard(given: string): Promise<string | undefined> {
  if (existsSync(given)) return given;
  const folder = dirname(given);
  if (!isFolder(folder)) return undefined;
  const prefix = basename(given).replace(SHARD, '');
  const names = (await readdir(folder)).filter((name) => SHARD.test(name) && name.replace(SHARD, '') === prefix).sort();
  return names[0] === undefined ? undefined : join(folder, names[0]);
}

/** Whether a file begins as a MetaGraphDef does, with its field 1: tensorflow/core/protobuf/meta_graph.proto. */
async function isMetaGraph(path: string): Promise<boolean> {
  const file = await open(path, 'r').catch(() => undefined);
  if (file === undefined) return false;
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(1), 0, 1, 0);
    return bytesRead === 1 && buffer[0] === 8 * 1 + 2;
  } finally {
    await file.close();
  }
}

function graphAlone(path: string, given: string): FormatError {
  return new FormatError({
    code: 'CHECKPOINT_PARTS',
    message: `${path}: this is the graph that a checkpoint was made of, without numbers; expected ${given}.index or ${given} beside it`,
    hint: 'put all files of the checkpoint into one folder: its .index and every .data-...',
  });
}

/** The checkpoint that is the latest, as the text of the file `checkpoint` has it. */
export const latestNamed = (state: string): string | undefined =>
  /^model_checkpoint_path:\s*"([^"]+)"/m.exec(state)?.[1];

/**
 * What the file `checkpoint` names, which TensorFlow writes beside checkpoints. It may name the folder that they were
 * written to; they are looked for in the one that they lie in now, and nowhere else.
 */
function latestIn(folder: string): string | undefined {
  const file = join(folder, 'checkpoint');
  if (!existsSync(file) || !statSync(file).isFile() || statSync(file).size > MOST_STATE_BYTES) return undefined;
  const name = latestNamed(readFileSync(file, 'utf8'));
  if (name === undefined) return undefined;
  const isInside = !isAbsolute(name) && !name.split(/[\\/]/).includes('..');
  return join(folder, isInside ? name : basename(name));
}
