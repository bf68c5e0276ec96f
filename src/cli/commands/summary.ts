/** `tl summary`: a network layer by layer. */
import type { Channels, ImageSize } from '../../augment/image.js';
import type { Backbone, Published } from '../../backbones/index.js';
import type { Analysis, NodeAnalysis } from '../../engine/analysis.js';
import type { Graph, Node } from '../../engine/graph.js';
import type { Pair } from '../../engine/operations.js';
import { UsageError } from '../../errors.js';
import { describeOperation } from '../describe-operation.js';
import { channelsOption, inputSize, wholeNumber } from '../options.js';
import type { Host } from '../program.js';
import { count, dimensions, giga, table } from '../table.js';

interface SummaryOptions {
  readonly source?: string;
  readonly size?: ImageSize;
  readonly channels?: Channels;
  readonly classes?: number;
  readonly auxiliary?: boolean;
}

export function summaryCommand(host: Host): void {
  host
    .command('summary <backbone>', 'show a network layer by layer: shapes, parameters, MACs, receptive fields, taps')
    .option('--source <source>', 'which published variant (default: the first)')
    .option('--size <size>', 'N, or HxW for height and width of the input (default: as published)', inputSize)
    .addOption(channelsOption('as published'))
    .option('--classes <n>', 'classes of the classifier, 0 for none (default: as published)', wholeNumber(0, 1_000_000))
    .option('--auxiliary', 'with the auxiliary classifiers, which only training has')
    .action((name: string, options: SummaryOptions, command) =>
      host.run(command, async ({ out }) => {
        const { buildBackbone, findBackbone, findPublished } = await import('../../backbones/index.js');
        const { analyse } = await import('../../engine/analysis.js');
        const { cuts } = await import('../../engine/graph.js');
        const { describePreprocessing, withChannels } = await import('../../augment/preprocessing.js');
        const backbone = findBackbone(name);
        const published =
          options.source === undefined ? backbone.published[0]! : findPublished(backbone, options.source);
        const size = options.size ?? { height: backbone.inputSize, width: backbone.inputSize };
        const channels = options.channels ?? published.channels ?? 3;
        const classes = options.classes ?? published.classes;
        const auxiliary = await auxiliaryOf(backbone, published, classes);
        if (options.auxiliary === true && auxiliary.length === 0) throw noAuxiliary(backbone, published);
        const graph = buildBackbone(published, {
          size,
          channels,
          classes: classes === 0 ? undefined : classes,
          auxiliary: options.auxiliary === true ? classes : undefined,
        });
        const analysis = analyse(graph);
        const record = withChannels(published.preprocessing, channels);
        const preprocessing = describePreprocessing(record, size);
        const freezable = cuts(graph, classes === 0 ? 'pre_logits' : 'logits');
        out.result(
          {
            backbone: backbone.name,
            source: published.source,
            inputSize: size,
            channels,
            classes,
            preprocessing: record,
            layers: analysis.rows.map((row) => layerOf(row, graph)),
            taps: [...graph.taps.keys()],
            cuts: freezable,
            blocks: graph.blocks,
            totals: analysis.totals,
            auxiliary,
          },
          () =>
            [
              `${out.style.bold(backbone.name)} from ${published.source}; ${preprocessing}`,
              '',
              table(columns, rowsOf(analysis, graph), out.style),
              '',
              `parameters ${count(analysis.totals.parameters)} (${count(analysis.totals.trainable)} trainable, ` +
                `${count(analysis.totals.statistics)} statistics), ${giga(analysis.totals.macs)} GMACs`,
              ...auxiliaryLine(auxiliary, analysis.totals.trainable, options.auxiliary === true),
              `blocks (--freeze last:N): ${graph.blocks.length}`,
              `cuts (--freeze until:TAP): ${freezable.join(' ')}`,
            ].join('\n'),
        );
      }),
    );
}

/** An auxiliary classifier: what it stands on, the share of its loss, and its own parameters. */
interface AuxiliaryRow {
  readonly name: string;
  readonly tap: string;
  readonly weight: number;
  readonly trainable: number;
  readonly statistics: number;
}

/** Counted at the published size: parameters do not depend on it, and not every one fits another. */
async function auxiliaryOf(backbone: Backbone, published: Published, classes: number): Promise<AuxiliaryRow[]> {
  const { buildBackbone } = await import('../../backbones/index.js');
  const { analyse, totalOf } = await import('../../engine/analysis.js');
  if (published.auxiliary === undefined || classes === 0) return [];
  const size = { height: backbone.inputSize, width: backbone.inputSize };
  const { rows } = analyse(buildBackbone(published, { size, auxiliary: classes }));
  return published.auxiliary.map(({ name, tap, weight }) => {
    const { trainable, statistics } = totalOf(rows.filter(({ node }) => node.path.startsWith(`${name}.`)));
    return { name, tap, weight, trainable, statistics };
  });
}

function auxiliaryLine(auxiliary: readonly AuxiliaryRow[], trainable: number, isShown: boolean): string[] {
  if (auxiliary.length === 0) return [];
  const own = auxiliary.reduce((sum, each) => sum + each.trainable, 0);
  const without = isShown ? trainable - own : trainable;
  const where = auxiliary.map(({ name, tap }) => `${name} on ${tap}`).join(', ');
  return [
    `auxiliary classifiers (--auxiliary), in training alone: ${where}; ` +
      `trainable parameters ${count(without)} without them, ${count(without + own)} with them`,
  ];
}

function noAuxiliary(backbone: Backbone, published: Published): UsageError {
  const others = backbone.published.filter((each) => each.auxiliary !== undefined).map((each) => each.source);
  return new UsageError({
    code: 'NO_AUXILIARY',
    message: `--auxiliary: ${backbone.name} from ${published.source} has no auxiliary classifiers, or no classes for them`,
    hint: others.length > 0 ? `those from ${others.join(' and ')} have them` : 'leave it out; googlenet has them',
  });
}

const columns = [
  { heading: 'path' },
  { heading: 'operation' },
  { heading: 'output' },
  { heading: 'parameters', align: 'right' },
  { heading: 'MACs', align: 'right' },
  { heading: 'receptive field', align: 'right' },
  { heading: 'stride', align: 'right' },
  { heading: 'tap' },
] as const;

function rowsOf({ rows }: Analysis, graph: Graph): string[][] {
  return rows.map(({ node, trainable, statistics, macs, receptiveField, jump }) => [
    node.path,
    describeOperation(node),
    dimensions(node.shape),
    trainable + statistics === 0 ? '' : count(trainable + statistics),
    macs === 0 ? '' : count(macs),
    pixels(receptiveField),
    node.shape.length > 1 ? pixels(jump) : '', // of a vector there are no neighbours
    tapsOf(node, graph).join(' '),
  ]);
}

/** Down and across, or one number for both. */
const pixels = ([height, width]: Pair): string => (height === width ? String(height) : `${height}x${width}`);

function layerOf({ node, ...counts }: NodeAnalysis, graph: Graph): object {
  return {
    path: node.path,
    operation: node.operation,
    description: describeOperation(node),
    inputs: node.inputs.map((input) => input.path),
    output: node.shape,
    ...counts,
    taps: tapsOf(node, graph),
    tensors: node.parameters.map(({ path, role, shape, trainable }) => ({ path, role, shape, trainable })),
  };
}

function tapsOf(node: Node, graph: Graph): string[] {
  return [...graph.taps].filter(([, each]) => each === node).map(([name]) => name);
}
