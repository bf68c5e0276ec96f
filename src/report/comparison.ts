/** The validation curves of several runs over each other. */
import type { EChartsOption, LineSeriesOption } from 'echarts';
import { epochAxis, type Measure, type Range, valueAxis } from './axes.js';
import { colours, type Drawing, draw, heading } from './chart.js';

export interface ComparedCurve {
  /** What the run is called in the legend; no two are the same. */
  readonly name: string;
  /** An epoch each, from 1; NaN where nothing was validated. */
  readonly rows: readonly {
    readonly epoch: number;
    readonly valLoss: number;
    readonly valAccuracy: number;
    readonly best: boolean;
  }[];
}

/** Okabe and Ito's eight (Color Universal Design, 2008), without black, the ones that can be told apart best first. */
const PALETTE = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#F0E442'];
/** Once all colours are taken they come again, dashed. */
const STYLES = ['solid', 'dashed', 'dotted'] as const;

const WIDTH = 1200;
const HEADER = 62;
const LEGEND_LINE = 24;
const PANEL = 380;
const keys = { Loss: 'valLoss', Accuracy: 'valAccuracy' } as const;

/** Draws validation loss and accuracy, each run's best epoch marked. @param curves at least one, of one epoch or more */
export async function drawComparison(curves: readonly ComparedCurve[]): Promise<Drawing> {
  const perLine = Math.max(1, Math.floor((WIDTH - 48) / (70 + 8 * Math.max(...curves.map(({ name }) => name.length)))));
  const top = HEADER + Math.ceil(curves.length / perLine) * LEGEND_LINE + 44;
  const last = Math.max(...curves.flatMap(({ rows }) => rows.map(({ epoch }) => epoch)));
  const option: EChartsOption = {
    title: heading('Validation'),
    legend: {
      ...{ left: 20, right: 24, top: HEADER - 8, itemGap: 24, itemWidth: 34, itemHeight: 8 },
      textStyle: { fontSize: 13, color: colours.ink },
      data: curves.map(({ name }) => name),
    },
    grid: [
      { left: 76, width: 486, top, height: PANEL - 62 },
      { left: 676, width: 486, top, height: PANEL - 62 },
    ],
    xAxis: [0, 1].map((index) => epochAxis(1, last, index)),
    yAxis: (['Loss', 'Accuracy'] as const).map((measure, i) => valueAxis(rangeOf(curves, measure), measure, i)),
    series: curves.flatMap((curve, i) => [line(curve, i, 'Loss', 0), line(curve, i, 'Accuracy', 1)]),
  };
  return draw(option, { width: WIDTH, height: top + PANEL });
}

function rangeOf(curves: readonly ComparedCurve[], measure: Measure): Range {
  const values = curves.flatMap(({ rows }) => rows.map((row) => row[keys[measure]])).filter(Number.isFinite);
  return values.length === 0 ? { low: 0, high: 1 } : { low: Math.min(...values), high: Math.max(...values) };
}

function line({ name, rows }: ComparedCurve, i: number, measure: Measure, index: number): LineSeriesOption {
  const color = PALETTE[i % PALETTE.length]!;
  const best = rows.findLast((row) => row.best);
  return {
    name,
    type: 'line',
    xAxisIndex: index,
    yAxisIndex: index,
    color,
    lineStyle: { width: 2.2, type: STYLES[Math.floor(i / PALETTE.length) % STYLES.length]! },
    symbol: 'circle',
    showSymbol: true,
    clip: false,
    data: rows.map((row) => {
      const value = row[keys[measure]];
      return {
        value: [row.epoch, Number.isFinite(value) ? value : '-'], // '-' is ECharts' gap
        symbolSize: row === best ? 11 : rows.length === 1 ? 6 : 0,
        ...(row === best ? { itemStyle: { borderColor: '#ffffff', borderWidth: 2 } } : {}),
      };
    }),
  };
}
