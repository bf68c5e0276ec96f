/** `tl summary`: a network layer by layer. */
import type { Channels, ImageSize } from '../../augment/image.js';
import type { Analysis, NodeAnalysis } from '../../engine/analysis.js';
import type { Graph, Node } from '../../engine/graph.js';
import type { Pair } from '../../engine/operations.js';
import { describeOperation } from '../describe-operation.js';
import { channelsOption, inputSize, wholeNumber } from '../options.js';
import type { Host } from '../program.js';
import { count, dimensions, giga, table } from '../table.js';

interface SummaryOptions {
  readonly source?: string;
  readonly size?: ImageSize;
  readonly channels?: Channels;
  readonly classes?: number;
}

export function summaryCommand(host: Host): void {
  host
    .command('summary <backbone>', 'show a network layer by layer: shapes, parameters, MACs, receptive fields, taps')
    .option('--source <source>', 'which published variant (default: the first)')
    .option('--size <size>', 'N, or HxW for height and width of the input (default: as published)', inputSize)
    .addOption(channelsOption('as published'))
    .option('--classes <n>', 'classes of the classifier, 0 for none (default: as published)', wholeNumber(0, 1_000_000))
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
        const graph = buildBackbone(published, { size, channels, classes: classes === 0 ? undefined : classes });
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
          },
          () =>
            [
              `${out.style.bold(backbone.name)} from ${published.source}; ${preprocessing}`,
              '',
              table(columns, rowsOf(analysis, graph), out.style),
              '',
              `parameters ${count(analysis.totals.parameters)} (${count(analysis.totals.trainable)} trainable, ` +
                `${count(analysis.totals.statistics)} statistics), ${giga(analysis.totals.macs)} GMACs`,
              `blocks (--freeze last:N): ${graph.blocks.length}`,
              `cuts (--freeze until:TAP): ${freezable.join(' ')}`,
            ].join('\n'),
        );
      }),
    );
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
