/** What the report of a run says in words and figures. */
import { basename } from 'node:path';
import type { ReportPage, Row } from '../report/page.js';
import type { HistoryRow, RunMetrics } from './options.js';
import { describeOverfitting } from './overfitting.js';
import { percent } from './percent.js';
import type { Start } from './start.js';
import { stageCells } from './strategy-table.js';

/** How a run ended. */
export interface Ended {
  readonly history: readonly HistoryRow[];
  readonly metrics: RunMetrics;
  /** Before its last epoch. */
  readonly stopped: boolean;
}

export interface Described {
  readonly folder: string;
  readonly start: Start;
}

/** The page without its pictures. */
export function describeRun(
  { folder, start }: Described,
  { metrics, stopped }: Ended,
): Omit<ReportPage, 'curves' | 'evaluation' | 'batch'> {
  const { args, record } = start;
  const { settings, resolved, versions } = args;
  const { overfitting } = metrics;
  const validated = metrics.valAccuracy !== null;
  return {
    title: `${resolved.backbone} on ${resolved.classes.length} classes`,
    subtitle: `${basename(folder)}, trained with tl ${versions.tl}`,
    figures: figuresShown(metrics),
    notes: [
      ...(stopped
        ? [`Stopped after epoch ${metrics.epochs} of ${settings.epochs}: figures are of the epochs so far.`]
        : []),
      ...(overfitting === null
        ? []
        : [`${sentence(describeOverfitting(overfitting))} The best model is of epoch ${metrics.bestEpoch}.`]),
      ...(validated
        ? []
        : [
            'There were no validation pictures: nothing here tells how good the model is on pictures that it has not seen, and figures of classes, mistakes and calibration are absent.',
          ]),
      ...(metrics.badPictures === 0 ? [] : [`${metrics.badPictures} damaged pictures were left out.`]),
    ],
    training: [
      ['network', `${resolved.backbone} (${resolved.source})`],
      ['weights', `${resolved.weightsOrigin}, ${resolved.weightsLicense}`],
      ['frozen', resolved.cut === null ? 'nothing' : `up to and with ${resolved.cut}`],
      ['input', `${resolved.inputSize.height}x${resolved.inputSize.width}, ${resolved.channels} channels`],
      ['classes', namesOf(resolved.classes)],
      ['pictures', `${metrics.trainPictures} to train on, ${metrics.valPictures} to validate with`],
      ['epochs', `${metrics.epochs}, the best ${metrics.bestEpoch}`],
      ['time', `${metrics.seconds.toFixed(1)} s in epochs`],
      ...Object.entries(record.training?.recipe ?? {})
        .filter(([name]) => name !== 'epochs')
        .map(([name, value]): Row => [name, String(value)]),
    ],
    parameters: resolved.stages === undefined ? [] : stageCells(resolved.stages),
    curvesText: curvesText(metrics),
    settings: rowsOf(settings),
    versions: [...rowsOf(versions), ['list of pictures', `SHA-256 ${resolved.dataFingerprint}`]],
  };
}

/** As many names of classes are read with pleasure. */
const MOST_NAMES = 30;

const namesOf = (classes: readonly string[]): string =>
  classes.length > MOST_NAMES ? String(classes.length) : classes.join(', ');

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function figuresShown(metrics: RunMetrics): Row[] {
  const { valAccuracy, valLoss, trainAccuracy, trainLoss, bestEpoch, epochs, validation } = metrics;
  const best: Row = ['best epoch', `${bestEpoch} of ${epochs}`];
  if (valAccuracy === null || valLoss === null || validation === null) {
    return [['training accuracy', percent(trainAccuracy)], ['training loss', trainLoss.toFixed(3)], best];
  }
  return [
    ['validation accuracy', percent(valAccuracy)],
    ['validation loss', valLoss.toFixed(3)],
    ...(metrics.classes > 5 ? [['top-5 accuracy', percent(validation.top5)] as const] : []),
    ['macro F1', percent(validation.macro.f1)],
    ['calibration error', percent(validation.ece)],
    best,
  ];
}

function curvesText({ epochs, bestEpoch, trainLoss, valLoss, valAccuracy }: RunMetrics): string {
  const best =
    valLoss === null || valAccuracy === null
      ? `training loss ${trainLoss.toFixed(3)}`
      : `validation loss ${valLoss.toFixed(3)}, accuracy ${percent(valAccuracy)}`;
  return `Loss and accuracy over ${epochs} epochs; the best is epoch ${bestEpoch}: ${best}`;
}

const rowsOf = (values: object): Row[] =>
  Object.entries(values).map(([name, value]) => [
    name,
    typeof value === 'object' ? JSON.stringify(value) : String(value),
  ]);
