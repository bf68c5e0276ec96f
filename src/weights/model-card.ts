/**
 * The README of a model: what it is, what it was trained on and how, how good it is, whose its weights are.
 * @see Mitchell et al. 2019, Model Cards for Model Reporting, https://arxiv.org/abs/1810.03993
 */
import { describePreprocessing } from '../augment/preprocessing.js';
import { formatHead } from '../heads/heads.js';
import type { ModelRecord } from './model-folder.js';

/** The parts that every card has, exported or not. */
export type CardRecord = Pick<
  ModelRecord,
  'backbone' | 'source' | 'classes' | 'inputSize' | 'preprocessing' | 'weights' | 'head' | 'training'
>;

/** Classes that are named before the rest is only counted. */
const CLASSES_SHOWN = 20;

/** The card of a model folder. */
export function modelCard(record: CardRecord): string {
  return `# ${titleOf(record)}

An image classifier: ${record.backbone} (${record.source}) with a ${formatHead(record.head)} head.

${cardSections(record)}
## How to run it

\`\`\`sh
tl predict --model . picture.jpg
tl evaluate --model . --data FOLDER
tl export --model . --format tfjs --out classifier
\`\`\`

## What goes in

${describePreprocessing(record.preprocessing, record.inputSize)}
`;
}

export const titleOf = ({ backbone, classes }: CardRecord): string => `${backbone}, ${classes.length} classes`;

/** Data, recipe, metrics and licence, each under its heading. */
export function cardSections({ classes, training, weights }: CardRecord): string {
  const shown = classes.slice(0, CLASSES_SHOWN).map(inline).join(', ');
  const more = classes.length > CLASSES_SHOWN ? ` and ${classes.length - CLASSES_SHOWN} more` : '';
  const licence = `## Licence\n\nIts weights started from ${weights.origin} (${weights.license}).\n`;
  const data = `## Data\n\n${classes.length} classes: ${shown}${more}.\n`;
  if (training === undefined) return `${data}\n${licence}`;
  const { trainPictures, valPictures, recipe, reached } = training;
  const pictures = `Trained on ${trainPictures} pictures, chosen by ${valPictures === 0 ? 'the last epoch: none were kept apart' : `the loss on ${valPictures} others`}.\n`;
  const steps = Object.entries(recipe).map(([name, value]) => `- ${name}: ${value}\n`);
  return [
    `${data}${pictures}`,
    `## Recipe\n\n${steps.join('')}`,
    ...(reached === undefined ? [] : [`## Metrics\n\n${metricsOf(reached)}`]),
    licence,
  ].join('\n');
}

function metricsOf(reached: NonNullable<NonNullable<ModelRecord['training']>['reached']>): string {
  const { epoch, trainLoss, trainAccuracy, valLoss, valAccuracy } = reached;
  const row = (name: string, loss: number | null, accuracy: number | null): string =>
    loss === null || accuracy === null ? '' : `| ${name} | ${loss.toFixed(4)} | ${(100 * accuracy).toFixed(1)} % |\n`;
  return `After epoch ${epoch}:

| pictures | loss | top-1 |
| --- | --- | --- |
${row('validation', valLoss, valAccuracy)}${row('training (augmented)', trainLoss, trainAccuracy)}`;
}

/** A class's name as one line of text: names are folders', and may hold what Markdown reads otherwise. */
const inline = (name: string): string => name.replace(/\s+/g, ' ').replace(/[\\`*_[\]<>#|]/g, '\\$&');
