/**
 * The constants of a network as nodes of a graph. What is stored in fewer bits is followed by the operations that give
 * its numbers back, the last of which bears the constant's name: `Cast` after 16 bits; `Cast` and `Mul` with a scale for
 * each output channel after 8, and between them, for `uint8`, `Sub` of a zero point for each.
 */
import { constantHead, graphNode, typeAttribute } from '../../engine/graph-messages.js';
import { DATA_TYPE, type NativeType } from '../../engine/tensorflow-types.js';
import { DTYPE_BYTES, elementsOf } from '../../weights/float-formats.js';
import type { Constant, KernelUse } from '../lowering/operations.js';
import type { Moments } from '../quantize/moments.js';
import { roundAffine, roundSymmetric } from '../quantize/per-channel.js';
import type { Quantization } from '../quantize/quantizations.js';
import { type BiasCorrections, noteMeanError, readCorrected, roundHalf, widestKernels } from '../quantize/rounding.js';
import type { LatePiece, Piece } from './pieces.js';

/**
 * Share of the weights that stay float32 beside kernels of 16 bits: with it, a probability of a MobileNet differs by
 * 0.004 at most instead of 0.015, for 1 % of the size (measured with ImageNet weights, as for TensorFlow.js).
 */
const WIDE_SHARE = 0.02;

/** The nodes of all constants, and the bytes of their numbers. */
export async function constantNodes(
  constants: readonly Constant[],
  quantize: Quantization,
  moments: ReadonlyMap<string, Moments>,
): Promise<{ readonly pieces: readonly Piece[]; readonly weightBytes: number }> {
  const storageOf = await storageBy(constants, quantize, moments);
  const corrections: BiasCorrections = new Map();
  const pieces = constants.flatMap((constant) => {
    const note = (values: Float32Array, restored: Float32Array): void => {
      const { shape, use } = constant;
      if (use.kind === 'kernel') noteMeanError({ shape, use, values, restored }, moments, corrections);
    };
    const read = (): Promise<Float32Array | Int32Array> => readCorrected(constant, corrections);
    return nodesOf(constant, storageOf(constant), { read, note });
  });
  const weightBytes = pieces.reduce((sum, piece) => sum + (piece instanceof Uint8Array ? 0 : piece.length), 0);
  return { pieces, weightBytes };
}

async function storageBy(
  constants: readonly Constant[],
  quantize: Quantization,
  moments: ReadonlyMap<string, Moments>,
): Promise<(constant: Constant) => Quantization> {
  if (quantize === 'none') return () => 'none';
  const round = (each: Constant, values: Float32Array): Float32Array => roundHalf(each, values).restored;
  const wide = quantize === 'float16' ? await widestKernels(constants, WIDE_SHARE, moments, round) : undefined;
  return (constant) => (constant.use.kind !== 'kernel' || wide?.has(constant) ? 'none' : quantize);
}

interface Numbers {
  read(): Promise<Float32Array | Int32Array>;
  /** Told what a reader makes of numbers that are rounded. */
  note(values: Float32Array, restored: Float32Array): void;
}

function nodesOf(constant: Constant, storage: Quantization, { read, note }: Numbers): Piece[] {
  const { name, shape, type, use } = constant;
  if (storage === 'none') return stored(name, type, shape, async () => bytesOf(await read()));
  if (storage === 'float16') {
    const halves = async (): Promise<Uint8Array> => {
      const values = (await read()) as Float32Array;
      const rounded = roundHalf(constant, values);
      note(values, rounded.restored);
      return bytesOf(rounded.stored);
    };
    return [...stored(`${name}/float16`, 'float16', shape, halves), cast(name, `${name}/float16`, 'float16')];
  }
  const { channels, depthwise } = use as KernelUse;
  const perChannel = shape.slice(depthwise ? -2 : -1); // of a depthwise kernel: [channels, multiplier]
  const rounding = sharedBy(storage === 'int8' ? 2 : 3, async () => {
    const values = (await read()) as Float32Array;
    const { restored, ...rounded } =
      storage === 'int8' ? roundSymmetric(values, channels) : roundAffine(values, channels);
    note(values, restored);
    return rounded;
  });
  const levels = `${name}/${storage}`;
  const scales = stored(`${name}/scales`, 'float32', perChannel, async () => bytesOf((await rounding()).scales));
  const zeros = async (): Promise<Uint8Array> => bytesOf(Float32Array.from((await rounding()).zeroPoints));
  const nodes = [
    ...stored(levels, storage, shape, async () => bytesOf((await rounding()).stored)),
    cast(`${name}/levels`, levels, storage),
    ...scales,
  ];
  if (storage === 'int8') return [...nodes, binary(name, 'Mul', `${name}/levels`, `${name}/scales`)];
  return [
    ...nodes,
    ...stored(`${name}/zero_points`, 'float32', perChannel, zeros),
    binary(`${name}/centred`, 'Sub', `${name}/levels`, `${name}/zero_points`),
    binary(name, 'Mul', `${name}/centred`, `${name}/scales`),
  ];
}

type StoredType = 'float32' | 'int32' | 'float16' | 'int8' | 'uint8';

function stored(
  name: string,
  type: StoredType,
  shape: readonly number[],
  read: () => Promise<Uint8Array>,
): [Buffer, LatePiece] {
  const length = elementsOf(shape) * DTYPE_BYTES[type];
  return [constantHead({ name, dtype: DATA_TYPE[type], shape }, length), { length, read }];
}

const cast = (name: string, input: string, from: NativeType): Buffer =>
  graphNode({
    name,
    op: 'Cast',
    inputs: [input],
    attributes: { SrcT: typeAttribute(DATA_TYPE[from]), DstT: typeAttribute(DATA_TYPE.float32) },
  });

const binary = (name: string, op: 'Sub' | 'Mul', a: string, b: string): Buffer =>
  graphNode({ name, op, inputs: [a, b], attributes: { T: typeAttribute(DATA_TYPE.float32) } });

/** Computes once for as many readers, one after the other, and forgets the result after the last of them. */
function sharedBy<T>(readers: number, compute: () => Promise<T>): () => Promise<T> {
  let left = readers;
  let result: Promise<T> | undefined;
  return () => {
    const current = result ?? compute();
    left--;
    result = left > 0 ? current : undefined;
    return current;
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
