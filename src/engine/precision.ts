/** What a network computes in. */
import { EngineError } from '../errors.js';
import { compilerOf } from './compile.js';
import { bfloat16Support } from './setup/processor.js';
import type { Engine } from './tensorflow.js';

/** What convolutions and matrix products compute in; parameters, statistics and losses are float32 in both. */
export const precisions = ['float32', 'bfloat16'] as const;
export type Precision = (typeof precisions)[number];

/** Whether {@link requirePrecision} lets it pass. */
export function computesIn(precision: Precision, engine: Engine): boolean {
  try {
    requirePrecision(precision, engine);
    return true;
  } catch {
    return false;
  }
}

/**
 * Refuses a precision that would not be faster: bfloat16 exists in what is compiled, which is on TensorFlow and the
 * processor, and pays where that multiplies it.
 * @throws EngineError PRECISION_UNSUPPORTED
 */
export function requirePrecision(precision: Precision, engine: Engine): void {
  if (precision === 'float32') return;
  const refuse = (expected: string, hint: string): EngineError =>
    new EngineError({
      code: 'PRECISION_UNSUPPORTED',
      message: `bfloat16 cannot be computed in: expected ${expected}`,
      hint,
    });
  if (compilerOf(engine) === undefined) {
    const received = engine.native === undefined ? `the ${engine.name} engine` : 'a GPU';
    const hint = 'use --precision float32, or the native engine (`tl setup`) with --device cpu';
    throw refuse(`the native engine on the processor, received ${received}`, hint);
  }
  const support = bfloat16Support(); // null where nothing tells: then the user is believed
  if (support !== null && !support.avx512Bf16 && !support.amxBf16)
    throw refuse('a processor with AVX512_BF16 or AMX_BF16, which this one lacks', 'use --precision float32');
}
