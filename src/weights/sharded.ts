/**
 * Weights in several files with an index beside them, `model.safetensors.index.json` or `pytorch_model.bin.index.json`,
 * as the Hugging Face hub has what is larger than a few GB.
 * @see https://huggingface.co/docs/safetensors/main/en/metadata_parsing#sharded-weights
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { FormatError, listFaults } from '../errors.js';
import { quote, TensorTable } from './limits.js';
import type { SetAside, TensorInfo, TensorSource } from './source.js';

/** Shards have 5 GB by default, and no network here has more than one; each is an open file. */
const MAX_SHARDS = 500;

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

interface Placed extends TensorInfo {
  readonly shard: TensorSource;
}

/** Names of tensors, each with that of the shard that holds it. */
export type ShardMap = Readonly<Record<string, string>>;

/** The tensors that an index of shards lists; undefined where a JSON value is none. */
export const shardMapIn = (json: unknown): ShardMap | undefined => indexSchema.safeParse(json).data?.weight_map;

/** The shards that an index names. */
export const shardsOf = (map: ShardMap): string[] => [...new Set(Object.values(map))];

/**
 * Opens all shards of an index as one file; no numbers are read.
 * @param map what is in the index
 * @param open how one shard is opened
 * @throws SHARD_PATH, SHARD_ABSENT, SHARD_TENSORS, LIMIT_EXCEEDED, and what `open` throws
 */
export async function openSharded(
  path: string,
  map: ShardMap,
  open: (path: string) => Promise<TensorSource>,
): Promise<TensorSource> {
  const names = shardsOf(map);
  checkShards(path, names);
  const shards = new Map<string, TensorSource>();
  const close = async (): Promise<void> => {
    for (const shard of shards.values()) await shard.close();
  };
  try {
    for (const name of names) shards.set(name, await open(join(dirname(path), name)));
    return { ...merged(path, map, shards), close };
  } catch (error) {
    await close();
    throw error;
  }
}

function checkShards(path: string, names: readonly string[]): void {
  const outside = names.filter((name) => name !== basename(name) || /^\.{0,2}$|[\\\0]/.test(name));
  if (outside.length > 0) {
    throw new FormatError({
      code: 'SHARD_PATH',
      message: `${path}: it places tensors in files elsewhere; expected the names of files beside it\n${listFaults(outside.map(quote))}`,
      hint: 'download the index and its shards into one folder',
    });
  }
  if (names.length > MAX_SHARDS) {
    throw new FormatError({
      code: 'LIMIT_EXCEEDED',
      message: `${path}: it names ${names.length} shards; expected at most ${MAX_SHARDS}`,
      hint: 'check that this is the index of one network',
    });
  }
  const absent = names.filter((name) => !existsSync(join(dirname(path), name)));
  if (absent.length > 0) {
    throw new FormatError({
      code: 'SHARD_ABSENT',
      message: `${path}: ${absent.length} of its ${names.length} shards are not beside it\n${listFaults(absent)}`,
      hint: 'download every shard into the folder of the index',
    });
  }
}

function merged(path: string, map: ShardMap, shards: ReadonlyMap<string, TensorSource>): Omit<TensorSource, 'close'> {
  const table = new TensorTable<Placed>(path);
  const setAside: SetAside[] = [];
  for (const [name, shard] of shards) {
    for (const tensor of shard.tensors) {
      if (map[tensor.name] === name) table.add({ ...tensor, shard });
      else setAside.push({ name: tensor.name, reason: `in ${name}, and not in the index` });
    }
    setAside.push(...(shard.setAside ?? []));
  }
  const tensors = table.infos();
  const found = new Set(tensors.map(({ name }) => name));
  const absent = Object.keys(map).filter((name) => !found.has(name));
  if (absent.length > 0) {
    throw new FormatError({
      code: 'SHARD_TENSORS',
      message: `${path}: ${absent.length} tensors are not in the shards that it names for them\n${listFaults(
        absent.map((name) => `${quote(name)}: expected in ${map[name]}`),
      )}`,
      hint: 'the index and the shards are of different downloads: fetch all of them again',
    });
  }
  const first = [...shards.values()][0]!;
  return {
    format: first.format,
    path,
    tensors,
    metadata: { ...first.metadata, shards: String(shards.size) },
    setAside,
    read: async (name, memory) => await table.get(name).shard.read(name, memory),
  };
}
