/** The table of all rows, and the page that it stands on. */
import { table } from './report.mjs';

const HEAD = [
  'work',
  'ours',
  'peer',
  'peer ms',
  'ours ms',
  'peer / ours',
  'spread',
  'fastest',
  'peer peak',
  'ours peak',
  'differs',
  'promised',
  'reached',
];

/** What runs, in words of the table. */
const LABELS = {
  ours: 'float32',
  'ours-bfloat16': 'bfloat16',
  'ours-plain': 'plain resize',
  'ours-uncached': 'uncached',
  keras3: 'Keras 3',
  'keras3-predict': 'Keras 3 predict',
  'keras3-plain': 'Keras 3 plain resize',
  'keras3-fit': 'Keras 3 fit',
  'keras3-cached': 'Keras 3, own cache',
  keras2: 'Keras 2',
  torch: 'PyTorch',
  tfjs: 'tfjs-layers',
};

const label = (side) => LABELS[side] ?? side;

export function tableOf(rows) {
  return table(HEAD, rows.map(cellsOf));
}

/** What is promised of ours alone. */
export function checkTableOf(checks) {
  const rows = checks.map(({ name, found, bound, kept }) => [name, found, bound, kept ? 'yes' : 'no']);
  return table(['promise', 'found', 'bound', 'kept'], rows);
}

function cellsOf(row) {
  const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
  const { atLeast, reached } = row;
  return [
    row.case,
    label(row.ours),
    label(row.peer),
    row.peerMs.toFixed(0),
    row.oursMs.toFixed(0),
    row.ratio.toFixed(2),
    `${row.ratioLeast.toFixed(2)}-${row.ratioMost.toFixed(2)}`,
    row.ratioFastest.toFixed(2),
    gigabytes(row.peerPeakBytes),
    gigabytes(row.oursPeakBytes),
    Number.isNaN(row.difference) ? '' : row.difference.toExponential(0),
    atLeast === undefined ? '' : `>= ${atLeast.toFixed(2)}`,
    reached ?? '',
  ];
}

function describe({ name, what, network, batch, side }) {
  const pictures = batch === undefined ? '' : `, ${batch} pictures of ${side}x${side} at once`;
  const of = network === undefined ? '' : ` of ${network.backbone} (${network.reference})`;
  return `- **${name}**${of}: ${what}${pictures}`;
}

const spreadOf = (loads) =>
  loads.length === 0 ? '' : `load average before a round ${Math.min(...loads)} to ${Math.max(...loads)}; `;

export function markdownOf({ date, minutes, machine: of, threads, revision, rows, checks, failures }, chosen) {
  const runs = new Map(
    rows.flatMap((row) => [row.ours, row.peer].map((side, i) => [side, i === 0 ? row.runs.ours : row.runs.peer])),
  );
  const loads = rows.flatMap((row) => row.loads);
  const failed = failures.length === 0 ? '' : `\nFailed:\n\n${failures.map((each) => `- ${each}`).join('\n')}\n`;
  return `# Ours and its peers, ${date}

${rows.length > 0 ? tableOf(rows) : ''}
${failed}${checks.length > 0 ? `\n${checkTableOf(checks)}\n` : ''}
${[...chosen.map(describe), ...checks.map(({ name, what }) => `- **${name}**: ${what}`)].join('\n')}

All sides of a case have the same generated weights, pictures, batch and threads, start from arrays in their own memory
(or from the same files) and end with the loss, or the output, back in it. Every round has one fresh process of each,
in reversed order every time; a round's ratio is that of the two medians of its timed steps, the table has the median of
the rounds' ratios and, as spread, the least and the most. Fastest: the same ratio of each side's fastest step in all
rounds. Peak: the most memory a process held. Differs: the first step's loss, or the outputs, relative to the peer's.

${[...runs].map(([side, text]) => `- ${label(side)}: ${text}`).join('\n')}
- ours: revision ${revision}
- ${of.cpu}, ${of.cores} cores (${of.flags.join(', ')}), ${of.memoryGb} GB, ${of.system}, Node ${of.node}
- ${threads} threads; ${spreadOf(loads)}${minutes.toFixed(0)} minutes
`;
}
