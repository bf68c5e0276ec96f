/**
 * Writes checkpoints of version 2 as tf.compat.v1.train.Saver does: `<prefix>.index`, one `<prefix>.data-00000-of-00001`,
 * and the file `checkpoint` that names them.
 * @see https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/util/tensor_bundle/tensor_bundle.cc
 */
import { basename, dirname, join } from 'node:path';
import { writeFileAtomic, writeStreamAtomic } from '../../files.js';
import { fixed32Field, messageField, numberField } from '../../protobuf.js';
import { maskedCrc32c } from '../crc32.js';
import { readBytes, type TensorToWrite } from '../tensor-to-write.js';
import type { Entry } from './table.js';
import { BUNDLE_VERSION } from './version2.js';
import { encodeTable } from './write-table.js';

/** DataType of tensorflow/core/framework/types.proto. */
const DATA_TYPES = { float32: 1, int64: 9 } as const;

/**
 * Writes a checkpoint, one tensor in memory at a time, each file whole or not at all.
 * @param prefix what the files' names begin with
 * @throws FILE_NOT_WRITTEN, and what reading a tensor throws
 */
export async function writeVersion2(prefix: string, tensors: readonly TensorToWrite[]): Promise<void> {
  const keyed = tensors.map((tensor) => ({ ...tensor, key: Buffer.from(tensor.name) }));
  keyed.sort((a, b) => Buffer.compare(a.key, b.key)); // SaveV2 does, and the table has to
  const header = Buffer.concat([numberField(1, 1), messageField(3, numberField(1, BUNDLE_VERSION))]);
  const entries: Entry[] = [{ key: Buffer.alloc(0), value: header }];
  await writeStreamAtomic(`${prefix}.data-00000-of-00001`, async (file) => {
    let offset = 0;
    for (const { key, ...tensor } of keyed) {
      const bytes = await readBytes(prefix, tensor);
      await file.writeFile(bytes);
      entries.push({ key, value: entryOf(tensor.dtype, tensor.shape, offset, bytes) });
      offset += bytes.length;
    }
  });
  await writeFileAtomic(`${prefix}.index`, encodeTable(entries));
  const name = basename(prefix);
  const state = `model_checkpoint_path: "${name}"\nall_model_checkpoint_paths: "${name}"\n`;
  await writeFileAtomic(join(dirname(prefix), 'checkpoint'), state);
}

/** A BundleEntryProto, of shard 0. */
function entryOf(dtype: keyof typeof DATA_TYPES, shape: readonly number[], offset: number, bytes: Uint8Array): Buffer {
  const dimensions = shape.map((size) => messageField(2, numberField(1, size)));
  return Buffer.concat([
    numberField(1, DATA_TYPES[dtype]),
    messageField(2, Buffer.concat(dimensions)),
    numberField(4, offset),
    numberField(5, bytes.length),
    fixed32Field(6, maskedCrc32c(bytes)),
  ]);
}
