/** The range test of a learning rate as a picture: losses over rates, and the rates that they suggest. */
import { compact } from './axes.js';
import { axisName, colours, type Drawing, draw, heading } from './chart.js';

/** One update of the test. */
export interface RatePoint {
  /** Above 0. */
  readonly lr: number;
  readonly loss: number;
  readonly smoothed: number;
}

/** A rate of the points, and how it was found. */
export interface RateMark {
  readonly name: string;
  readonly lr: number;
}

const SIZE = { width: 900, height: 500 };
/** What is drawn above the highest smoothed loss, as a share of the height: the losses themselves scatter more. */
const HEADROOM = 0.15;

const markColours = [colours.best, colours.validation];

/** `1e-5`; nothing for what is between two of them, as the ends of the axis are. */
function powerOfTen(value: number): string {
  const power = Math.round(Math.log10(value));
  return Math.abs(Math.log10(value) - power) < 1e-6 ? `1e${power}` : '';
}

/**
 * Draws the losses of a range test, 900x500 pixels.
 * @param points at least one, at growing rates
 */
export async function drawRangeTest(points: readonly RatePoint[], marks: readonly RateMark[]): Promise<Drawing> {
  if (points.length === 0) throw new Error('a chart of no rates');
  const smoothed = points.map((point) => point.smoothed);
  const [low, high] = [Math.min(...points.flatMap(({ loss, smoothed: mean }) => [loss, mean])), Math.max(...smoothed)];
  const room = HEADROOM * (high - low || Math.abs(high) || 1);
  const label = { fontSize: 12, color: colours.faint };
  const title = marks.length === 0 ? 'no suggestion' : marks.map(({ name, lr }) => `${name} ${compact(lr)}`).join(', ');
  return draw(
    {
      title: heading('Learning rate: range test', title),
      legend: {
        ...{ right: 28, top: 18, itemGap: 24, itemWidth: 26, itemHeight: 8 },
        textStyle: { fontSize: 13, color: colours.ink },
        data: ['loss', 'smoothed'],
      },
      grid: { left: 76, right: 38, top: 104, bottom: 62 },
      xAxis: {
        type: 'log',
        ...{ name: 'learning rate', nameLocation: 'middle', nameGap: 32 },
        nameTextStyle: axisName,
        min: points[0]!.lr,
        max: points.at(-1)!.lr,
        axisLabel: { ...label, formatter: powerOfTen },
        axisLine: { onZero: false, lineStyle: { color: colours.faint } },
        axisTick: { show: false },
        splitLine: { show: false },
      },
      yAxis: {
        type: 'value',
        min: Math.max(0, low - room),
        max: high + room,
        axisLabel: { ...label, formatter: compact, showMinLabel: low - room <= 0, showMaxLabel: false },
        axisLine: { show: false },
        axisTick: { show: false },
        splitLine: { lineStyle: { color: colours.grid } },
      },
      series: [
        {
          ...{ name: 'loss', type: 'line', symbol: 'none', color: colours.faint },
          lineStyle: { width: 1, opacity: 0.6 },
          data: points.map(({ lr, loss }) => [lr, loss]),
        },
        {
          ...{ name: 'smoothed', type: 'line', symbol: 'none', color: colours.training },
          lineStyle: { width: 2.5 },
          data: points.map((point) => [point.lr, point.smoothed]),
        },
        ...marks.map(({ name, lr }, i) => ({
          ...{ name, type: 'line' as const, symbol: 'circle', symbolSize: 12 },
          color: markColours[i % 2]!,
          itemStyle: { borderColor: '#ffffff', borderWidth: 2 },
          label: {
            show: true,
            formatter: `${name}: ${compact(lr)}`,
            position: i % 2 === 0 ? ('top' as const) : ('bottom' as const),
            color: markColours[i % 2]!,
            ...{ distance: 10, fontSize: 13, fontWeight: 'bold' as const },
            ...{ textBorderColor: '#ffffff', textBorderWidth: 4 },
          },
          data: [[lr, points.find((point) => point.lr >= lr)?.smoothed ?? smoothed.at(-1)!]],
          z: 5,
        })),
      ],
    },
    SIZE,
  );
}
