/**
 * The ResNet that hybrid vision transformers see through: three stages of bottlenecks, whose kernels are standardised and
 * whose norms are group norms. Dosovitskiy et al. 2020, section 3.1, "Hybrid Architecture", and appendix B.2.
 * Stage 4's blocks stand in stage 3, so that a place of the result is 16x16 pixels.
 */
import type { Node, Scope } from '../engine/graph.js';
import type { Initializer } from '../engine/initializers.js';
import { activation, add, channels, conv2d, groupNorm, maxPool } from '../engine/layers.js';
import type { KernelStandardization } from '../engine/operations.js';

/** Blocks of each stage: vit_jax/configs/models.py, get_r50_b16_config. */
const DEPTHS = [3, 4, 9] as const;

/** Pixels a place of the result stands for, in each direction: the stem halves twice, two stages once. */
export const RESNET_STRIDE = 16;

export interface ResnetConfig {
  readonly standardization: KernelStandardization;
  /** Of the group norms. */
  readonly epsilon: number;
  readonly initializer: Initializer;
}

/** Wu and He 2018, and the default of flax and timm. */
const GROUPS = 32;

interface UnitOptions {
  readonly stride?: number;
  readonly gammaInitializer?: Initializer;
}

function convNorm(s: Scope, x: Node, filters: number, size: number, c: ResnetConfig, options: UnitOptions = {}): Node {
  const { stride = 1, gammaInitializer } = options;
  const { standardization, initializer, epsilon } = c;
  const y = conv2d(s.at('conv'), x, filters, size, { stride, standardization, initializer });
  return groupNorm(s.at('norm'), y, {
    groups: GROUPS,
    epsilon,
    ...(gammaInitializer === undefined ? {} : { gammaInitializer }),
  });
}

function convNormRelu(s: Scope, x: Node, filters: number, size: number, c: ResnetConfig, options?: UnitOptions): Node {
  return activation(s, convNorm(s, x, filters, size, c, options), 'relu');
}

function bottleneck(s: Scope, x: Node, planes: number, stride: number, c: ResnetConfig): Node {
  const out = 4 * planes; // expansion 4
  let y = convNormRelu(s.at('reduce'), x, planes, 1, c);
  y = convNormRelu(s.at('conv3x3'), y, planes, 3, c, { stride });
  y = convNorm(s.at('expand'), y, out, 1, c, { gammaInitializer: { kind: 'zeros' } }); // a block starts as the identity
  const shortcut = channels(x) === out && stride === 1 ? x : convNorm(s.at('shortcut'), x, out, 1, c, { stride });
  return activation(s, add(s, shortcut, y), 'relu');
}

/** `[H, W, 3] -> [H / 16, W / 16, 1024]`. */
export function hybridResnet(s: Scope, x: Node, c: ResnetConfig): Node {
  const stem = s.at('stem');
  let y = stem.tap(convNormRelu(stem, x, 64, 7, c, { stride: 2 }));
  y = s.at('stem.pool').tap(maxPool(s.at('stem.pool'), y, 3, { stride: 2, padding: 'same' }));
  DEPTHS.forEach((depth, stage) => {
    const at = s.at(`stage${stage + 1}`);
    for (let i = 1; i <= depth; i++) {
      const block = at.at(`block${i}`);
      y = block.endBlock(bottleneck(block, y, 64 * 2 ** stage, stage > 0 && i === 1 ? 2 : 1, c));
    }
    at.tap(y);
  });
  return y;
}
