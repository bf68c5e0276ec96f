/** The README of an exported model, its model card: what it is, what it was trained from, how a program runs it. */
import { describePreprocessing } from '../augment/preprocessing.js';
import { cardSections, titleOf } from '../weights/model-card.js';
import type { ExportFormat } from './format.js';
import type { Quantization } from './quantize/quantizations.js';
import type { ExportRecord } from './record.js';

const stored: Record<Quantization, string> = {
  none: 'float32',
  float16: 'float16',
  uint8: '8-bit whole numbers',
  int8: '8-bit whole numbers',
};

export function readmeOf(record: ExportRecord, { title, usage }: ExportFormat): string {
  const { backbone, source, inputSize, channels, preprocessing, quantize, toolkit } = record;
  const { height, width } = inputSize;
  const activations = record.calibrated ? ', activations too' : '';
  const pixels = record.input === 'pixels';
  const numbers = pixels ? 'whole numbers 0..255, RGB, not normalised,' : 'float32';
  const last = pixels ? '\n(the model does the last step, the one with mean and standard deviation, itself)' : '';
  return `# ${titleOf(record)}

A ${title}, made by tl-toolkit ${toolkit} from ${backbone} (${source}); weights in ${stored[quantize]}${activations}.

## How to run it

${usage(record)}
## What goes in

Input: ${numbers} \`[N, ${height}, ${width}, ${channels}]\`, any N. From a picture to it:
${describePreprocessing(preprocessing, inputSize)}${last}

\`preprocessing.json\` holds the same in full, \`class_indices.json\` and \`labels.txt\` the classes, \`export.json\` all of it.

${cardSections(record)}`;
}
