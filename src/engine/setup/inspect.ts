/** What `tl doctor` says about engines. */
import { availableParallelism } from 'node:os';
import { messageOf } from '../../errors.js';
import { findSetUp, toolkitHome } from './home.js';
import { type Bfloat16Support, bfloat16Support } from './processor.js';
import { BINDING_VERSION, type EngineKind } from './recipe.js';
import { findResolvable } from './resolvable.js';
import { probeEngine } from './verify.js';

/** One native engine that was found. */
export interface InspectedEngine {
  readonly kind: EngineKind;
  /** `setup`: made by `tl setup`; `installed`: found in node_modules. */
  readonly origin: 'setup' | 'installed';
  readonly packageDir: string;
  /** As the loaded library reports it; undefined when it does not load. */
  readonly tensorflowVersion: string | undefined;
  readonly usesGpu: boolean;
  /** Why it does not load, or undefined. */
  readonly failure: string | undefined;
}

/** What there is to compute with, found without loading anything into this process. */
export interface EngineInspection {
  readonly native: readonly InspectedEngine[];
  /** The tfjs backends that always come with the toolkit. */
  readonly fallbacks: readonly { readonly name: 'wasm' | 'cpu'; readonly version: string }[];
  /** Whether the processor multiplies bfloat16 in hardware; null where that is not known. */
  readonly bfloat16: Bfloat16Support | null;
  readonly nodeVersion: string;
  readonly platform: string;
  /** Threads that an engine uses unless told otherwise. */
  readonly threads: number;
  readonly home: string;
}

/** Looks at every engine, each in a process of its own. Never throws. */
export async function inspectEngines(): Promise<EngineInspection> {
  const native: InspectedEngine[] = [];
  for (const kind of ['cpu', 'gpu'] as const) {
    const setUp = findSetUp(kind);
    if (setUp) native.push(await inspectOne(kind, 'setup', setUp.packageDir, undefined));
    for (const { packageDir, unfit } of findResolvable(kind)) {
      native.push(await inspectOne(kind, 'installed', packageDir, unfit));
    }
  }
  return {
    native,
    fallbacks: [
      { name: 'wasm', version: BINDING_VERSION },
      { name: 'cpu', version: BINDING_VERSION },
    ],
    bfloat16: bfloat16Support(),
    nodeVersion: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    threads: Number(process.env.TF_NUM_INTRAOP_THREADS) || availableParallelism(),
    home: toolkitHome(),
  };
}

async function inspectOne(
  kind: EngineKind,
  origin: InspectedEngine['origin'],
  packageDir: string,
  unfit: string | undefined,
): Promise<InspectedEngine> {
  const probe = unfit ? { failure: unfit } : await probeEngine(packageDir).catch((e) => ({ failure: messageOf(e) }));
  return 'failure' in probe
    ? { kind, origin, packageDir, tensorflowVersion: undefined, usesGpu: false, failure: probe.failure }
    : { kind, origin, packageDir, ...probe, failure: undefined };
}
