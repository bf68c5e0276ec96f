/** What the axes of charts over epochs have in common. */
import type { XAXisComponentOption, YAXisComponentOption } from 'echarts';
import { axisName, colours } from './chart.js';

/** Losses are above 0, accuracies lie in 0 to 1. */
export type Measure = 'Loss' | 'Accuracy';

export interface Range {
  readonly low: number;
  readonly high: number;
}

/** Above this ratio of the largest to the smallest loss the axis is logarithmic, or the late epochs are a flat line. */
const LOG_RATIO = 50;

/** 0.412, 0.0012. */
export const number = (value: number): string =>
  value !== 0 && Math.abs(value) < 0.01 ? value.toPrecision(2) : value.toFixed(3);

/** 0.00123, 12.3, 1230. */
export const compact = (value: number): string => String(Number(value.toPrecision(3)));

/** 0.8271 -> 82.7 %. */
export const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;

export function epochAxis(first: number, last: number, gridIndex: number): XAXisComponentOption {
  const alone = first === last; // one epoch stands in the middle, and is the only one labelled
  return {
    type: 'value',
    gridIndex,
    name: 'epoch',
    nameLocation: 'middle',
    nameGap: 32,
    nameTextStyle: axisName,
    min: alone ? first - 1 : first,
    max: alone ? first + 1 : last,
    minInterval: 1,
    axisLabel: {
      fontSize: 12,
      color: colours.faint,
      hideOverlap: true,
      formatter: (value: number) => (Number.isInteger(value) && value >= first && value <= last ? String(value) : ''),
    },
    axisLine: { onZero: false, lineStyle: { color: colours.faint } },
    axisTick: { show: false },
    splitLine: { show: false },
  };
}

export function valueAxis({ low, high }: Range, measure: Measure, gridIndex: number): YAXisComponentOption {
  const common = {
    gridIndex,
    name: measure,
    nameGap: 18,
    nameTextStyle: {
      fontSize: 15,
      fontWeight: 'bold' as const,
      color: colours.ink,
      align: 'left' as const,
      padding: [0, 0, 0, -44],
    },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: colours.grid } },
  };
  const label = { fontSize: 12, color: colours.faint };
  if (measure === 'Accuracy') {
    const formatter = (value: number): string => percent(value, 0);
    return {
      ...common,
      type: 'value',
      min: lowestAccuracy(low),
      max: 1,
      minInterval: 0.01,
      axisLabel: { ...label, formatter },
    };
  }
  if (low > 0 && high / low > LOG_RATIO) {
    return { ...common, type: 'log', name: 'Loss (logarithmic)', axisLabel: { ...label, formatter: compact } };
  }
  return { ...common, type: 'value', min: low < 0 ? 'dataMin' : 0, axisLabel: { ...label, formatter: compact } };
}

/** Where the axis of accuracy begins: a tenth that is clear below the lowest value. */
export const lowestAccuracy = (low: number): number => Math.max(0, Math.floor(low * 10 - 0.1) / 10);
