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
 * The kernels that lose most by rounding stay wider, up to this share of the weights, which makes a file 1 % larger.
 * Measured with ImageNet weights on 203 photographs: of 16 bits, a probability of MobileNet v2 differs by 0.003 at most
 * instead of 0.015; of 8 bits, MobileNet v1 and v2 name the same of 1000 classes for 96 to 98 % instead of 93 to 95 %, and
 * larger shares give no more.
 */
const WIDE_SHARE = 0.02;
const wider = { float16: 'none', uint8: 'float16', int8: 'float16' } as const;

const levelsOf = { uint8: roundAffine, int8: roundSymmetric } as const;

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
  const round = (each: Constant, values: Float32Array): Float32Array =>
    quantize === 'float16'
      ? roundHalf(each, values).restored
      : levelsOf[quantize](values, (each.use as KernelUse).channels).restored;
  const widest = await widestKernels(constants, WIDE_SHARE, moments, round);
  return (constant) => {
    if (constant.use.kind !== 'kernel') return 'none';
    return widest.has(constant) ? wider[quantize] : quantize;
  };
}

interface Numbers {
  read(): Promise<Float32Array | Int32Array>;
  /** Told what a reader makes of numbers that are rounded. */
  note(values: Float32Array, restored: Float32Array): void;
}

function nodesOf(constant: Constant, storage: Quantization, numbers: Numbers): Piece[] {
  const { name, shape, type } = constant;
  if (storage === 'none') return stored(name, type, shape, async () => bytesOf(await numbers.read()));
  return storage === 'float16' ? halfNodes(constant, numbers) : levelNodes(constant, storage, numbers);
}

function halfNodes(constant: Constant, { read, note }: Numbers): Piece[] {
  const { name, shape } = constant;
  const halves = async (): Promise<Uint8Array> => {
    const values = (await read()) as Float32Array;
    const { stored, restored } = roundHalf(constant, values);
    note(values, restored);
    return bytesOf(stored);
  };
  return [...stored(`${name}/float16`, 'float16', shape, halves), cast(name, `${name}/float16`, 'float16')];
}

function levelNodes({ name, shape, use }: Constant, storage: 'uint8' | 'int8', { read, note }: Numbers): Piece[] {
  const { channels, depthwise } = use as KernelUse;
  const perChannel = shape.slice(depthwise ? -2 : -1); // of a depthwise kernel: [channels, multiplier]
  const rounding = sharedBy(storage === 'int8' ? 2 : 3, async () => {
    const values = (await read()) as Float32Array;
    const { restored, ...kept } = levelsOf[storage](values, channels);
    note(values, restored);
    return kept;
  });
  const part = (leaf: string): string => `${name}/${leaf}`;
  const nodes = [
    ...stored(part(storage), storage, shape, async () => bytesOf((await rounding()).stored)),
    cast(part('levels'), part(storage), storage),
    ...stored(part('scales'), 'float32', perChannel, async () => bytesOf((await rounding()).scales)),
  ];
  if (storage === 'int8') return [...nodes, binary(name, 'Mul', part('levels'), part('scales'))];
  const zeroPoints = async (): Promise<Uint8Array> => bytesOf(Float32Array.from((await rounding()).zeroPoints));
  return [
    ...nodes,
    ...stored(part('zero_points'), 'float32', perChannel, zeroPoints),
    binary(part('centred'), 'Sub', part('levels'), part('zero_points')),
    binary(name, 'Mul', part('centred'), part('scales')),
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
