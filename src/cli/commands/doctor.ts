/** `tl doctor`: what there is to compute with, and which weights are imported. */
import type { EngineInspection } from '../../engine/setup/inspect.js';
import type { Engine, EngineName } from '../../engine/tensorflow.js';
import { messageOf } from '../../errors.js';
import { engineOption } from '../options.js';
import { EXIT_FAILED } from '../output.js';
import type { Host } from '../program.js';
import { fields } from '../table.js';

export function doctorCommand(host: Host): void {
  host
    .command('doctor', 'say which engine is found, what it can do, and where imported weights lie')
    .addOption(engineOption())
    .action((options: { engine: 'auto' | EngineName }, command) =>
      host.run(command, async ({ out, endWith }) => {
        const { inspectEngines } = await import('../../engine/setup/inspect.js');
        const { loadEngine } = await import('../../engine/tensorflow.js');
        const { listStored, storeFolder } = await import('../../weights/store.js');
        const inspection = await inspectEngines();
        const loaded = await loadEngine({ engine: options.engine }).catch((error: unknown) => ({
          failure: messageOf(error),
        }));
        const { stored, damaged } = await listStored();
        const engine = 'failure' in loaded ? null : describe(loaded);
        const { computesIn } = await import('../../engine/precision.js');
        const hasBfloat16 = !('failure' in loaded) && computesIn('bfloat16', loaded);
        for (const { folder, reason } of damaged) out.warn(`${folder}: ${reason}`);
        const advice = adviceOn(loaded);
        if (advice !== undefined) out.warn(advice);
        out.result(
          {
            ok: engine !== null,
            engine,
            failure: 'failure' in loaded ? loaded.failure : null,
            ...inspection,
            precision: { float32: engine !== null, bfloat16: hasBfloat16 },
            store: storeFolder(),
            weights: stored.map(({ folder, record }) => ({ folder, ...record })),
            damaged,
          },
          () =>
            fields([
              ['engine', 'failure' in loaded ? `none: ${loaded.failure}` : loaded.description],
              ['trains', 'failure' in loaded ? 'nothing' : trains[loaded.trains]],
              ...('failure' in loaded ? [] : [['device', loaded.device] as const]),
              ...('failure' in loaded ? [] : loaded.limits.map((limit) => ['limit', limit] as const)),
              ['threads', String(inspection.threads)],
              ['precision', `float32${bfloat16(inspection, hasBfloat16)}`],
              ...inspection.native.map((each) => ['native', nativeLine(each)] as const),
              ['fallbacks', inspection.fallbacks.map(({ name, version: v }) => `${name} (tfjs ${v})`).join(', ')],
              ['node', `${inspection.nodeVersion} on ${inspection.platform}`],
              ['home', inspection.home],
              ['weights', `${storeFolder()}${stored.length === 0 ? ' (none imported)' : ''}`],
              ...stored.map(
                ({ record }) => ['', `${record.backbone} from ${record.source}: ${record.file.name}`] as const,
              ),
            ]),
        );
        if (engine === null) endWith(EXIT_FAILED);
      }),
    );
}

const trains = { everything: 'everything', head: 'heads and transformers, no convolutions' } as const;

function describe({ name, version, device, threads, trains: what, limits, description }: Engine): object {
  return { name, version, device, threads: threads ?? null, trains: what, limits, description };
}

function adviceOn(loaded: Engine | { failure: string }): string | undefined {
  if ('failure' in loaded) return 'no engine can train; `tl setup` makes the native one ready';
  if (loaded.name === 'tensorflow') return undefined;
  return `the native engine is not in use: \`tl setup\` makes it ready`;
}

function bfloat16({ bfloat16: found }: EngineInspection, isUsed: boolean): string {
  if (found === null) return isUsed ? ', bfloat16' : '';
  const has = [...(found.avx512Bf16 ? ['AVX-512'] : []), ...(found.amxBf16 ? ['AMX'] : [])];
  if (has.length === 0) return ' (the processor has no bfloat16)';
  if (isUsed) return `, bfloat16 (the processor has it in ${has.join(' and ')})`;
  return ` (the processor has bfloat16 in ${has.join(' and ')}, which this engine does not use)`;
}

function nativeLine({
  kind,
  origin,
  packageDir,
  tensorflowVersion,
  usesGpu,
  failure,
}: EngineInspection['native'][number]): string {
  const what =
    failure === undefined
      ? `TensorFlow ${tensorflowVersion}${usesGpu ? ' on a GPU' : ''}`
      : `does not load: ${failure}`;
  return `${kind}, ${origin === 'setup' ? 'set up' : 'installed'} in ${packageDir}: ${what}`;
}
