/** What a network computes in. */
import { EngineError } from '../errors.js';
import { compilerOf } from './compile.js';
import { bfloat16Support } from './setup/processor.js';
import type { Engine } from './tensorflow.js';

/** What convolutions and matrix products compute in; parameters, statistics and losses are float32 in both. */
export const precisions = ['float32', 'bfloat16'] as const;
export type Precision = (typeof precisions)[number];

/** Why an engine has no bfloat16, or would not be faster in it, and what to do. */
function refusalOf(engine: Engine): { readonly expected: string; readonly hint: string } | undefined {
  if (compilerOf(engine) === undefined) {
    const received = engine.native === undefined ? `the ${engine.name} engine` : 'a GPU';
    return {
      expected: `the native engine on the processor, received ${received}`,
      hint: 'use --precision float32, or the native engine (`tl setup`) with --device cpu',
    };
  }
  const support = bfloat16Support(); // null where nothing tells: then the user is believed
  if (support === null || support.avx512Bf16 || support.amxBf16) return undefined;
  return {
    expected: 'a processor with AVX512_BF16 or AMX_BF16, which this one lacks',
    hint: 'use --precision float32',
  };
}

/** Whether {@link requirePrecision} lets it pass. */
export const computesIn = (precision: Precision, engine: Engine): boolean =>
  precision === 'float32' || refusalOf(engine) === undefined;

/**
 * Refuses a precision that would not be faster: bfloat16 exists in what is compiled, which is on TensorFlow and the
 * processor, and pays where that multiplies it.
 * @throws EngineError PRECISION_UNSUPPORTED
 */
export function requirePrecision(precision: Precision, engine: Engine): void {
  const refusal = precision === 'float32' ? undefined : refusalOf(engine);
  if (refusal === undefined) return;
  throw new EngineError({
    code: 'PRECISION_UNSUPPORTED',
    message: `${precision} cannot be computed in: expected ${refusal.expected}`,
    hint: refusal.hint,
  });
}
