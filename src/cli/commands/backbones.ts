/** `tl backbones`: every network there is. */
import type { Backbone, Published } from '../../backbones/index.js';
import type { Totals } from '../../engine/analysis.js';
import type { Host } from '../program.js';
import { count, giga, table } from '../table.js';

export function backbonesCommand(host: Host): void {
  host.command('backbones', 'list the networks, their size and sources, and which are imported').action((_, command) =>
    host.run(command, async ({ out }) => {
      const { backbones } = await import('../../backbones/index.js');
      const { listStored, storeFolder } = await import('../../weights/store.js');
      const measure = await measurer();
      const { stored, damaged } = await listStored();
      for (const { folder, reason } of damaged) out.warn(`${folder}: ${reason}`);
      const imported = new Set(stored.map(({ record }) => `${record.backbone}/${record.source}`));
      const isImported = (backbone: Backbone, published: Published) =>
        imported.has(`${backbone.name}/${published.source}`);
      out.result(
        {
          store: storeFolder(),
          backbones: backbones.map((backbone) => ({
            name: backbone.name,
            aliases: backbone.aliases,
            family: backbone.family,
            inputSize: backbone.inputSize,
            sources: backbone.published.map((published) => ({
              source: published.source,
              classes: published.classes,
              ...measure(backbone, published, published.classes),
              withoutClassifier: measure(backbone, published),
              origin: published.origin,
              license: published.license,
              download: published.download ?? null,
              imported: isImported(backbone, published),
            })),
          })),
        },
        () => {
          const rows = backbones.map((backbone) => {
            const first = backbone.published[0]!;
            const classes = Math.min(first.classes, 1000); // without slim's background class
            const [whole, headless] = [measure(backbone, first, classes), measure(backbone, first)];
            return [
              backbone.name,
              backbone.family,
              String(backbone.inputSize),
              count(whole.trainable),
              count(headless.trainable),
              giga(whole.macs),
              backbone.published.map((each) => `${each.source}${isImported(backbone, each) ? '*' : ''}`).join(' '),
            ];
          });
          const columns = [
            { heading: 'backbone' },
            { heading: 'family' },
            { heading: 'input', align: 'right' },
            { heading: 'parameters', align: 'right' },
            { heading: 'no classifier', align: 'right' },
            { heading: 'GMACs', align: 'right' },
            { heading: 'sources' },
          ] as const;
          const note = `Trainable parameters of the first source with 1000 classes, or the fewer that it has. * imported, in ${storeFolder()}`;
          return `${table(columns, rows, out.style)}\n\n${out.style.dim(note)}`;
        },
      );
    }),
  );
}

/** Counts a variant at its published input size, with that many classes, or without what its publisher calls the top. */
async function measurer(): Promise<(backbone: Backbone, published: Published, classes?: number) => Totals> {
  const { buildBackbone, isTop } = await import('../../backbones/index.js');
  const { analyse, totalOf } = await import('../../engine/analysis.js');
  return ({ inputSize }, published, classes) => {
    const size = { height: inputSize, width: inputSize };
    const { rows, totals } = analyse(buildBackbone(published, { size, classes }));
    return classes === undefined ? totalOf(rows.filter(({ node }) => !isTop(published, node))) : totals;
  };
}
