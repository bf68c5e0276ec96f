/** `tl weights`: what is in a file. */
import type { Identified } from '../../weights/published-file.js';
import type { Host } from '../program.js';
import { count, dimensions, table } from '../table.js';

interface WeightsCommandOptions {
  readonly member?: string;
}

export function weightsCommand(host: Host): void {
  host
    .command('weights <file>', 'list the tensors of a weights file, and say which network it holds')
    .option('--member <path>', 'which file of an archive, * for any characters (default: the only one with weights)')
    .action((file: string, { member }: WeightsCommandOptions, command) =>
      host.run(command, async ({ out, signal }) => {
        const { openWeights } = await import('../../weights/source.js');
        const { identify } = await import('../../weights/published-file.js');
        const { formatField } = await import('../../weights/plan/name-map.js');
        const source = await openWeights(file, { member, signal });
        try {
          const recognised = await identify(source);
          const elements = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
          const total = source.tensors.reduce((sum, { shape }) => sum + elements(shape), 0);
          const { format, metadata, tensors, setAside = [], archive } = source;
          const inside = archive === undefined ? {} : { member: archive.name };
          out.result({ file, ...inside, format, metadata, tensors, setAside, parameters: total, recognised }, () => {
            const reasons = new Map(setAside.map(({ name, reason }) => [name, reason]));
            const rows = tensors.map(({ name, dtype, shape }) => [
              formatField(name),
              dtype,
              dimensions(shape),
              reasons.get(name) ?? '',
            ]);
            for (const { name } of tensors) reasons.delete(name);
            for (const [name, reason] of reasons) rows.push([formatField(name), '-', '-', reason]); // no tensors of numbers
            const columns = ['tensor', 'type', 'shape', setAside.length === 0 ? '' : 'set aside, since it is'];
            const what = recognised.map((each) => `${each.backbone} from ${each.source}, ${outputsOf(each)}`);
            return [
              table(
                columns.map((heading) => ({ heading })),
                rows,
                out.style,
              ),
              '',
              `${archive === undefined ? '' : `${archive.name}: `}${tensors.length} tensors, ${count(total)} numbers, ${format}`,
              what.length === 0 ? 'not recognised as a network of this toolkit' : `recognised: ${what.join('; ')}`,
            ].join('\n');
          });
        } finally {
          await source.close();
        }
      }),
    );
}

function outputsOf({ classes, head }: Identified): string {
  if (head !== null) return `a head, ${head}`;
  return classes === null ? 'without a classifier' : `${classes} classes`;
}
