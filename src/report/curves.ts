/** The course of a training run as a picture: loss and accuracy over epochs. */
import type { EChartsOption, LineSeriesOption } from 'echarts';
import { epochAxis, lowestAccuracy, type Measure, number, percent, type Range, valueAxis } from './axes.js';
import { colours, type Drawing, draw, heading } from './chart.js';

/** One epoch. Losses are means over pictures, accuracies lie in 0 to 1; NaN where there are no validation pictures. */
export interface CurveRow {
  /** From 1. */
  readonly epoch: number;
  readonly trainLoss: number;
  readonly trainAccuracy: number;
  readonly valLoss: number;
  readonly valAccuracy: number;
  /** The lowest validation loss so far: the last such row is the best epoch. */
  readonly best: boolean;
}

const SIZE = { width: 1200, height: 500 };
/** Up to this many epochs every one gets a dot. */
const DOTTED_EPOCHS = 30;

const keys = {
  Loss: { train: 'trainLoss', val: 'valLoss' },
  Accuracy: { train: 'trainAccuracy', val: 'valAccuracy' },
} as const;

/** What is marked besides the best epoch. */
export interface CurveMarks {
  /** The epoch from which on the validation loss rises while the training loss falls. */
  readonly overfitsSince?: number | undefined;
}

/**
 * Draws training and validation loss and accuracy, the best epoch marked, 1200x500 pixels.
 * @param history at least one epoch
 */
export async function drawCurves(history: readonly CurveRow[], marks: CurveMarks = {}): Promise<Drawing> {
  if (history.length === 0) throw new Error('a chart of no epochs');
  return draw(curvesOption(history, marks), SIZE);
}

function curvesOption(history: readonly CurveRow[], marks: CurveMarks): EChartsOption {
  const best = history.findLast((row) => row.best);
  return {
    title: heading('Training', summary(history, best)),
    legend: {
      right: 28,
      top: 18,
      itemGap: 24,
      itemWidth: 26,
      itemHeight: 8,
      textStyle: { fontSize: 13, color: colours.ink },
      data: hasValidation(history) ? ['training', 'validation'] : ['training'],
    },
    grid: [
      { left: 76, width: 486, top: 118, bottom: 62 },
      { left: 676, width: 486, top: 118, bottom: 62 },
    ],
    xAxis: [0, 1].map((index) => epochAxis(history[0]!.epoch, history.at(-1)!.epoch, index)),
    yAxis: [valueAxis(rangeOf(history, 'Loss'), 'Loss', 0), valueAxis(rangeOf(history, 'Accuracy'), 'Accuracy', 1)],
    series: [
      ...series(history, 'Loss', 0, best),
      ...series(history, 'Accuracy', 1, best),
      ...overfitting(history, marks),
    ],
  };
}

function summary(history: readonly CurveRow[], best: CurveRow | undefined): string {
  const last = history.at(-1)!;
  if (best === undefined || !Number.isFinite(best.valLoss)) {
    return `${plural(last.epoch)}: training loss ${number(last.trainLoss)}, accuracy ${percent(last.trainAccuracy)}`;
  }
  const figures = `validation loss ${number(best.valLoss)}, accuracy ${percent(best.valAccuracy)}`;
  return `best epoch ${best.epoch} of ${last.epoch}: ${figures}`;
}

const plural = (epochs: number): string => (epochs === 1 ? '1 epoch' : `${epochs} epochs`);
const hasValidation = (history: readonly CurveRow[]): boolean => history.some((row) => Number.isFinite(row.valLoss));

function series(
  history: readonly CurveRow[],
  measure: Measure,
  index: number,
  best: CurveRow | undefined,
): LineSeriesOption[] {
  const dotted = history.length <= DOTTED_EPOCHS;
  const line = (name: 'training' | 'validation', key: keyof CurveRow): LineSeriesOption => ({
    name,
    type: 'line',
    xAxisIndex: index,
    yAxisIndex: index,
    data: history.map((row) => {
      const value = row[key] as number;
      return [row.epoch, Number.isFinite(value) ? value : '-']; // '-' is ECharts' gap
    }),
    color: colours[name],
    lineStyle: { width: 2.5 },
    symbol: 'circle',
    symbolSize: 6,
    showSymbol: dotted,
    clip: false,
  });
  const { train, val } = keys[measure];
  const lines = [line('training', train)];
  if (hasValidation(history)) lines.push(line('validation', val));
  const value = best?.[val];
  if (best === undefined || value === undefined || !Number.isFinite(value)) return lines;
  const text = measure === 'Loss' ? number(value) : percent(value);
  const place = (best.epoch - history[0]!.epoch) / (history.at(-1)!.epoch - history[0]!.epoch);
  const align = place > 0.85 ? 'right' : place < 0.15 ? 'left' : 'center'; // inside the chart
  const position = history.length === 1 ? 'right' : awayFromLines(history, measure, value, best[train]);
  lines.push({
    name: 'best',
    type: 'line',
    xAxisIndex: index,
    yAxisIndex: index,
    data: [[best.epoch, value]],
    color: colours.best,
    symbol: 'circle',
    symbolSize: 12,
    itemStyle: { borderColor: '#ffffff', borderWidth: 2 },
    label: {
      show: true,
      formatter: `epoch ${best.epoch}: ${text}`,
      position,
      distance: 10,
      ...(history.length === 1 ? {} : { align }),
      fontSize: 13,
      fontWeight: 'bold',
      color: colours.best,
      textBorderColor: '#ffffff',
      textBorderWidth: 4,
    },
    markLine: {
      symbol: 'none',
      silent: true,
      label: { show: false },
      lineStyle: { color: colours.best, type: 'dashed', width: 1.2, opacity: 0.7 },
      data: [{ xAxis: best.epoch }],
    },
    z: 5,
  });
  return lines;
}

/** A shade over the epochs from which on the losses part. */
function overfitting(history: readonly CurveRow[], { overfitsSince }: CurveMarks): LineSeriesOption[] {
  if (overfitsSince === undefined) return [];
  return [
    {
      name: 'overfitting',
      type: 'line',
      xAxisIndex: 0,
      yAxisIndex: 0,
      data: [],
      markArea: {
        silent: true,
        itemStyle: { color: colours.validation, opacity: 0.08 },
        label: {
          position: 'insideTop',
          fontSize: 12,
          color: colours.validation,
          formatter: `overfitting since epoch ${overfitsSince}`,
        },
        data: [[{ xAxis: overfitsSince }, { xAxis: history.at(-1)!.epoch }]],
      },
    },
  ];
}

/** The side of the best epoch's dot that is away from the training curve, and not outside the chart. */
function awayFromLines(history: readonly CurveRow[], measure: Measure, value: number, other: number): 'top' | 'bottom' {
  const { low, high } = rangeOf(history, measure);
  const [bottom, top] = measure === 'Loss' ? [Math.min(0, low), high] : [lowestAccuracy(low), 1];
  const height = (value - bottom) / (top - bottom);
  if (height < 0.1) return 'top';
  if (height > 0.9) return 'bottom';
  return value >= other ? 'top' : 'bottom';
}

function rangeOf(history: readonly CurveRow[], measure: Measure): Range {
  const { train, val } = keys[measure];
  const values = history.flatMap((row) => [row[train], row[val]]).filter((value) => Number.isFinite(value));
  return { low: Math.min(...values), high: Math.max(...values) };
}
