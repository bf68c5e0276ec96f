/** A confusion matrix as a picture. */
import type { EChartsOption } from 'echarts';
import { colours, renderPng } from './chart.js';

/** Above this many classes the cells are too small for numbers. */
const NUMBERED_CLASSES = 25;
/** Pixels of a side of the matrix: what a picture on a page may take. */
const LARGEST_SIDE = 860;
const LARGEST_CELL = 64;
/** Pixels that a name needs, across its line. */
const NAME_PIXELS = 13;
/** Longer names are cut: the picture is for looking, `metrics.json` for reading. */
const NAME_LENGTH = 22;

/**
 * Draws how often each true class (a row) was answered with each class (a column). Colour is the share of the row, so
 * that rare classes show as well as common ones; numbers are counts.
 * @param labels names of the classes
 * @param counts `counts[true][predicted]`, pictures
 */
export async function confusionMatrixPng(
  labels: readonly string[],
  counts: readonly (readonly number[])[],
): Promise<Buffer> {
  const classes = labels.length;
  if (counts.length !== classes || counts.some((row) => row.length !== classes)) {
    throw new Error(`${classes} classes need ${classes}x${classes} counts`);
  }
  const cell = Math.min(LARGEST_CELL, LARGEST_SIDE / classes);
  const side = Math.round(cell * classes);
  const names = labels.map(shortened);
  const margin = 24 + Math.ceil(Math.max(...names.map((name) => name.length)) * 7.4);
  const size = { width: Math.max(640, margin + side + 120), height: 112 + side + margin + 40 };
  return renderPng(option(names, counts, { side, margin, cell }), size);
}

const shortened = (name: string): string => (name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}…` : name);

interface Layout {
  readonly side: number;
  readonly margin: number;
  readonly cell: number;
}

function option(
  names: readonly string[],
  counts: readonly (readonly number[])[],
  { side, margin, cell }: Layout,
): EChartsOption {
  const totals = counts.map((row) => row.reduce((a, b) => a + b, 0));
  const pictures = totals.reduce((a, b) => a + b, 0);
  const right = counts.reduce((sum, row, i) => sum + row[i]!, 0);
  const numbered = names.length <= NUMBERED_CLASSES;
  const data = counts.flatMap((row, i) =>
    row.flatMap((count, j) => {
      if (count === 0) return []; // the background stands for it: a thousand classes have a million cells
      const share = totals[i] === 0 ? 0 : count / totals[i]!;
      const label = { formatter: String(count), color: share > 0.5 ? '#ffffff' : colours.ink };
      return [{ value: [j, i, share], label }];
    }),
  );
  const interval = Math.ceil(NAME_PIXELS / cell) - 1; // names left out between two
  const axis = {
    type: 'category' as const,
    data: [...names],
    axisLine: { show: false },
    axisTick: { show: false },
    axisLabel: { fontSize: Math.max(10, Math.min(13, cell - 3)), color: colours.ink, interval },
    nameTextStyle: { fontSize: 13, color: colours.faint },
    nameLocation: 'middle' as const,
    nameGap: margin - 12,
  };
  return {
    title: {
      text: 'Confusion matrix',
      subtext: `${right} of ${pictures} right (${((100 * right) / Math.max(1, pictures)).toFixed(1)} %); rows are true classes, colour is the share of the row`,
      left: 24,
      top: 14,
      itemGap: 8,
      textStyle: { fontSize: 20, fontWeight: 'bold', color: colours.ink },
      subtextStyle: { fontSize: 13, color: colours.faint },
    },
    grid: {
      left: margin + 32,
      top: 96,
      width: side,
      height: side,
      show: true,
      backgroundColor: '#f4f7fa',
      borderWidth: 0,
    },
    xAxis: { ...axis, name: 'answered', axisLabel: { ...axis.axisLabel, rotate: 90 } },
    yAxis: { ...axis, name: 'true', inverse: true },
    visualMap: {
      show: false,
      min: 0,
      max: 1,
      dimension: 2,
      inRange: { color: ['#e3edf5', '#9ecae1', '#4292c6', '#08519c'] }, // ColorBrewer, Blues
    },
    series: [
      {
        type: 'heatmap',
        data,
        label: { show: numbered, fontSize: Math.max(9, Math.min(14, cell / 2.6)) },
        itemStyle: { borderColor: '#ffffff', borderWidth: cell > 20 ? 2 : cell > 8 ? 1 : 0 },
      },
    ],
  };
}
