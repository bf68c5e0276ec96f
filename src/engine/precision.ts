/** What a network computes in. */
import { EngineError } from '../errors.js';
import { bfloat16Support } from './setup/processor.js';
import type { Engine } from './tensorflow.js';

/** What convolutions and matrix products compute in; parameters, statistics and losses are float32 in both. */
export type Precision = 'float32' | 'bfloat16';

/**
 * Refuses a precision that would not be faster: bfloat16 needs TensorFlow, and a processor that multiplies it.
 * @throws EngineError PRECISION_UNSUPPORTED
 */
export function requirePrecision(precision: Precision, engine: Engine): void {
  if (precision === 'float32') return;
  const support = engine.device === 'cpu' ? bfloat16Support() : null; // of a GPU, and where nothing tells: trust
  const lacking = support !== null && !support.avx512Bf16 && !support.amxBf16;
  if (engine.native !== undefined && !lacking) return;
  const reason =
    engine.native === undefined
      ? `expected the native engine, received ${engine.name}`
      : 'expected a processor with AVX512_BF16 or AMX_BF16, which this one has not';
  throw new EngineError({
    code: 'PRECISION_UNSUPPORTED',
    message: `bfloat16 cannot be computed in: ${reason}`,
    hint:
      engine.native === undefined
        ? 'run `tl setup` and leave --engine out, or use --precision float32'
        : 'use --precision float32',
  });
}
