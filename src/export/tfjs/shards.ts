/** Weight files of a TensorFlow.js model: all constants in a row, cut into files that browsers cache well. */
import { join } from 'node:path';
import { writeFileAtomic } from '../../files.js';
import type { PlannedConstant, WeightEntry } from '../quantize/quantize.js';

/** The size that TensorFlow.js' own converter cuts at, bytes. */
const SHARD_BYTES = 4 * 1024 * 1024;

/** A group of a weights manifest. @see tfjs-core, src/io/types.ts, WeightsManifestGroupConfig */
export interface WeightGroup {
  readonly paths: readonly string[];
  readonly weights: readonly WeightEntry[];
}

/** Writes the constants, one in memory at a time, to `group1-shard1of3.bin` and so on. */
export async function writeShards(folder: string, constants: readonly PlannedConstant[]): Promise<WeightGroup> {
  const total = constants.reduce((sum, { bytes }) => sum + bytes, 0);
  const count = Math.ceil(total / SHARD_BYTES);
  const paths = Array.from({ length: count }, (_, i) => `group1-shard${i + 1}of${count}.bin`);
  const weights: WeightEntry[] = [];
  const shard = Buffer.alloc(Math.min(total, SHARD_BYTES));
  let [filled, written] = [0, 0];
  const flush = async (): Promise<void> => {
    await writeFileAtomic(join(folder, paths[written++]!), shard.subarray(0, filled));
    filled = 0;
  };
  for (const constant of constants) {
    const { entry, bytes } = await constant.encode();
    weights.push(entry);
    for (let start = 0; start < bytes.length; ) {
      const part = bytes.subarray(start, start + shard.length - filled);
      shard.set(part, filled);
      filled += part.length;
      start += part.length;
      if (filled === shard.length) await flush();
    }
  }
  if (filled > 0) await flush();
  return { paths, weights };
}
