/** Writes a whole network's arrays as NumPy's .npz, one in memory at a time. */
import { type PassThrough, Readable } from 'node:stream';
import yazl from 'yazl';
import { writeStreamAtomic } from '../../files.js';
import { elementsOf } from '../float-formats.js';
import { readBytes, type TensorToWrite } from '../tensor-to-write.js';
import { encodeNpy } from './npy.js';

/**
 * Writes float32 arrays as numpy.savez does: stored, whole or not at all; equal input gives equal bytes.
 * @param tensors the order is kept
 * @throws TENSOR_SHAPE, FILE_NOT_WRITTEN, and what reading a tensor throws
 */
export async function writeNpzTensors(path: string, tensors: readonly TensorToWrite[]): Promise<void> {
  await writeStreamAtomic(path, async (file) => {
    for await (const chunk of archiveOf(path, tensors)) await file.writeFile(chunk as Buffer);
  });
}

/** The bytes of the archive; a tensor is read when what comes before it has been taken. */
function archiveOf(path: string, tensors: readonly TensorToWrite[]): PassThrough {
  const zip = new yazl.ZipFile();
  const output = zip.outputStream as PassThrough; // a ReadableStream in yazl's types
  const fail = (error: Error): void => void output.destroy(error);
  zip.on('error', fail);
  for (const tensor of tensors) {
    const header = encodeNpy({ shape: tensor.shape, data: new Float32Array(0) });
    const array = async function* (): AsyncGenerator<Buffer> {
      yield header;
      const { buffer, byteOffset, byteLength } = await readBytes(path, tensor);
      yield Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
    };
    const options = {
      compress: false,
      size: header.length + 4 * elementsOf(tensor.shape),
      mtime: new Date(1980, 0, 1), // the earliest that zip can say, in its local time: numpy's own choice
      forceDosTimestamp: true,
      mode: 0o100600, // numpy's own: a regular file
    };
    zip.addReadStreamLazy(`${tensor.name}.npy`, options, (give) => {
      give(null, Readable.from(array(), { objectMode: false }).on('error', fail));
    });
  }
  zip.end();
  return output;
}
