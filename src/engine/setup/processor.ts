/** What the processor can do that TensorFlow makes use of. */
import { existsSync, readFileSync } from 'node:fs';

/** Instructions that multiply bfloat16. */
export interface Bfloat16Support {
  readonly avx512Bf16: boolean;
  readonly amxBf16: boolean;
}

/** The flags that Linux lists for the first processor. */
export function bfloat16Support(cpuinfo = '/proc/cpuinfo'): Bfloat16Support | null {
  try {
    if (!existsSync(cpuinfo)) return null;
    const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync(cpuinfo, 'utf8'))?.[1]?.trim().split(/\s+/);
    if (!flags) return null;
    return { avx512Bf16: flags.includes('avx512_bf16'), amxBf16: flags.includes('amx_bf16') };
  } catch {
    return null;
  }
}
