/** The last step of preprocessing inside the network: from whole-number pixels to what the first layer takes. */
import { channelsFor, type Preprocessing } from '../../augment/preprocessing.js';
import { type Attributes, emit, FLOAT, fixed, INT, type Lowering, structure } from './lowering.js';
import type { PixelType } from './operations.js';

/** What a network with preprocessing takes: pixels 0..255 of its input size, grey, RGB or RGBA. */
export interface PixelInput {
  /** `uint8`, but `int32` for TensorFlow.js, which has no `uint8`. */
  readonly type: PixelType;
  readonly preprocessing: Pick<Preprocessing, 'channelOrder' | 'scale' | 'mean' | 'std'>;
}

/**
 * `(pixel * scale - mean) / std` in the record's channel order, as `(pixel - mean / scale) * (scale / std)`: subtracting
 * first loses no digits where a pixel is near the mean. It stays apart from the first kernel, because what SAME pads is
 * zero after this step, and not the mean before it.
 * @param input name of the pixels, `[N, height, width, channels]`
 */
export function normalisePixels(l: Lowering, input: string, { type, preprocessing }: PixelInput): string {
  const { channelOrder, scale, mean, std } = preprocessing;
  const channels = channelsFor(preprocessing);
  const apply = (op: string, inputs: readonly string[], attributes: Attributes): string =>
    emit(l, { name: `preprocessing/${op}`, op, inputs, attributes });
  const values = (name: string, numbers: readonly number[]): string =>
    fixed(l, `preprocessing/${name}`, [channels], Float32Array.from(numbers));

  let x = apply('Cast', [input], { SrcT: { kind: 'type', value: type }, DstT: FLOAT });
  if (channelOrder === 'bgr' && channels > 1) {
    const order = structure(l, 'preprocessing/order', [channels], [2, 1, 0, 3].slice(0, channels)); // alpha stays last
    const axis = structure(l, 'preprocessing/axis', [], [3]);
    const attributes: Attributes = { Tparams: FLOAT, Tindices: INT, Taxis: INT, batch_dims: { kind: 'int', value: 0 } };
    x = apply('GatherV2', [x, order, axis], attributes);
  }
  const centre = mean.map((each) => each / scale);
  if (centre.some((each) => each !== 0)) x = apply('Sub', [x, values('centre', centre)], { T: FLOAT });
  const factors = std.map((each) => scale / each);
  if (factors.some((each) => each !== 1)) x = apply('Mul', [x, values('factors', factors)], { T: FLOAT });
  return x;
}
