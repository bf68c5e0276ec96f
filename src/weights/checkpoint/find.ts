/** Which checkpoint a path means: TensorFlow names the files of one checkpoint by a common beginning. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';

/**
 * The prefix of a checkpoint of version 2, given as `model.ckpt`, `model.ckpt.index`, `model.ckpt.data-00000-of-00001`,
 * the folder that holds it, or a SavedModel, whose variables are one.
 */
export async function findVersion2(path: string): Promise<string | undefined> {
  const given = path.replace(/\.index$/, '').replace(/\.data-\d{5}-of-\d{5}$/, '');
  if (existsSync(`${given}.index`)) return given;
  if (!existsSync(path) || !statSync(path).isDirectory()) return undefined;
  const latest = latestIn(path);
  if (latest !== undefined && existsSync(`${latest}.index`)) return latest;
  const saved = join(path, 'variables', 'variables'); // of a SavedModel
  if (existsSync(`${saved}.index`)) return saved;
  const indexes = (await readdir(path)).filter((name) => name.endsWith('.index'));
  return indexes.length === 1 ? join(path, indexes[0]!.replace(/\.index$/, '')) : undefined;
}

/** What the file `checkpoint` names, which TensorFlow writes beside checkpoints. */
function latestIn(folder: string): string | undefined {
  const file = join(folder, 'checkpoint');
  if (!existsSync(file) || !statSync(file).isFile() || statSync(file).size > 2 ** 20) return undefined;
  const name = /^model_checkpoint_path:\s*"([^"]+)"/m.exec(readFileSync(file, 'utf8'))?.[1];
  if (name === undefined) return undefined;
  return isAbsolute(name) ? name : join(folder, name);
}
