/** `tl weights`: what is in a file. */
import type { Host } from '../program.js';
import { count, dimensions, table } from '../table.js';

export function weightsCommand(host: Host): void {
  host
    .command('weights <file>', 'list the tensors of a weights file, and say which network it holds')
    .action((file: string, _, command) =>
      host.run(command, async ({ out }) => {
        const { openWeights } = await import('../../weights/source.js');
        const { identify } = await import('../../weights/published-file.js');
        const source = await openWeights(file);
        try {
          const recognised = await identify(source);
          const elements = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
          const total = source.tensors.reduce((sum, { shape }) => sum + elements(shape), 0);
          out.result(
            {
              file,
              format: source.format,
              metadata: source.metadata,
              tensors: source.tensors,
              parameters: total,
              recognised,
            },
            () => {
              const rows = source.tensors.map(({ name, dtype, shape }) => [name, dtype, dimensions(shape)]);
              const columns = [{ heading: 'tensor' }, { heading: 'type' }, { heading: 'shape' }];
              const what = recognised.map(
                (each) =>
                  `${each.backbone} from ${each.source}, ${each.classes === null ? 'without a classifier' : `${each.classes} classes`}`,
              );
              return [
                table(columns, rows, out.style),
                '',
                `${source.tensors.length} tensors, ${count(total)} numbers, ${source.format}`,
                what.length === 0 ? 'not recognised as a network of this toolkit' : `recognised: ${what.join('; ')}`,
              ].join('\n');
            },
          );
        } finally {
          await source.close();
        }
      }),
    );
}
