/** Which classes are taken for which, as a picture. */
import type { EChartsOption, GridComponentOption, HeatmapSeriesOption, TitleComponentOption } from 'echarts';
import { percent } from './axes.js';
import { axisName, type ChartSize, colours, type Drawing, draw, heading, textWidth } from './chart.js';

/** Up to this many classes every cell has its number, and the picture stays below 2,500 pixels. */
const MOST_NUMBERED = 25;
/** Pixels of a cell with a number, and of one without. */
const CELL = { numbered: 44, least: 12 };
/** Sides of a panel in pixels; with 1,000 classes a cell is one pixel. */
const PANEL = { least: 300, most: 1000 };
/** Around a panel, where the names of classes stand, and between two. */
const MARGIN = { top: 124, right: 28, names: { least: 60, most: 200 }, legend: 68 };
/** Longer names are cut. */
const MOST_LETTERS = 24;
/**
 * Blues of ColorBrewer (Brewer 2003), light to dark. Single pixels of the palest cannot be seen: without numbers the scale
 * begins at the fourth.
 */
const BLUES = ['#f7fbff', '#deebf7', '#c6dbef', '#9ecae1', '#6baed6', '#4292c6', '#2171b5', '#08519c', '#08306b'];
/** Above this share of the darkest colour numbers are white. */
const DARK = 0.5;

type Cell = readonly [column: number, row: number, value: number];

/**
 * Draws a confusion matrix twice: counts of pictures, and shares of the pictures of each class. Cells without a picture
 * are left out, so that a thousand classes take no longer than their pictures do.
 * @param confusion `confusion[label][prediction]` counts pictures
 */
export async function drawConfusion(
  confusion: readonly (readonly number[])[],
  classes: readonly string[],
): Promise<Drawing> {
  return draw(...confusionOption(confusion, classes));
}

function confusionOption(
  confusion: readonly (readonly number[])[],
  classes: readonly string[],
): [EChartsOption, ChartSize] {
  const numbered = classes.length <= MOST_NUMBERED;
  const side = Math.min(PANEL.most, Math.max(PANEL.least, classes.length * (numbered ? CELL.numbered : CELL.least)));
  const names = classes.map((name) =>
    [...name].length > MOST_LETTERS ? `${[...name].slice(0, MOST_LETTERS - 1).join('')}…` : name,
  );
  const longest = names.reduce((most, name) => Math.max(most, textWidth(name)), 0);
  const beside = Math.min(MARGIN.names.most, Math.max(MARGIN.names.least, Math.ceil(38 + longest)));
  const width = 2 * (beside + side + MARGIN.right);
  const height = MARGIN.top + side + beside + MARGIN.legend;
  const left = [beside, 2 * beside + side + MARGIN.right];

  const totals = confusion.map((row) => row.reduce((a, b) => a + b, 0));
  const counts: Cell[] = confusion.flatMap((row, y) =>
    row.flatMap((count, x): Cell[] => (count === 0 ? [] : [[x, y, count]])),
  );
  const shares: Cell[] = counts.map(([x, y, count]) => [x, y, count / totals[y]!]);
  const panels = [
    {
      title: 'Pictures',
      cells: counts,
      largest: Math.max(1, ...totals.map((_, i) => largestOf(confusion[i]!))),
      text: String,
    },
    { title: 'Share of each class', cells: shares, largest: 1, text: (share: number) => percent(share, 0) },
  ];
  const category = (gridIndex: number) => ({
    type: 'category' as const,
    gridIndex,
    data: names,
    axisTick: { show: false },
    axisLine: { lineStyle: { color: colours.grid } },
    splitLine: { show: numbered, lineStyle: { color: colours.grid } },
    splitArea: { show: false },
    nameLocation: 'middle' as const,
    nameTextStyle: axisName,
  });
  const axisLabel = {
    fontSize: 12,
    color: colours.ink,
    ...(classes.length * CELL.least <= side ? { interval: 0 } : {}),
  };
  const title = (i: number): TitleComponentOption => ({
    text: panels[i]!.title,
    left: left[i]!,
    top: MARGIN.top - 40,
    padding: 0,
    textStyle: { fontSize: 15, fontWeight: 'bold', color: colours.ink },
  });
  const series = (i: number): HeatmapSeriesOption => {
    const { cells, largest, text } = panels[i]!;
    return {
      type: 'heatmap',
      xAxisIndex: i,
      yAxisIndex: i,
      progressive: 0, // drawn at once: there is no second frame
      itemStyle: { borderWidth: 0 },
      data: cells.map(([x, y, value]) => ({
        value: [x, y, value],
        ...(numbered
          ? { label: { show: true, formatter: text(value), color: value > DARK * largest ? '#ffffff' : colours.ink } }
          : {}),
      })),
    };
  };
  const grid = (i: number): GridComponentOption => ({
    ...{ left: left[i]!, top: MARGIN.top, width: side, height: side },
    ...{ show: true, borderColor: colours.grid, backgroundColor: '#ffffff' },
  });
  const option: EChartsOption = {
    title: [
      heading(
        'Confusion matrix',
        `${totals.reduce((a, b) => a + b, 0)} pictures of ${classes.length} classes; what is on the diagonal is right`,
      ),
      title(0),
      title(1),
    ],
    grid: [grid(0), grid(1)],
    xAxis: [0, 1].map((i) => ({
      ...category(i),
      name: 'predicted',
      nameGap: beside - 12,
      axisLabel: { ...axisLabel, rotate: 90 },
    })),
    yAxis: [0, 1].map((i) => ({
      ...category(i),
      inverse: true,
      name: i === 0 ? 'true' : '',
      nameGap: beside - 20,
      axisLabel,
    })),
    visualMap: [0, 1].map((i) => ({
      type: 'continuous' as const,
      seriesIndex: i,
      ...{ min: 0, max: panels[i]!.largest, inRange: { color: numbered ? BLUES : BLUES.slice(3) } },
      ...{ orient: 'horizontal' as const, left: left[i]!, bottom: 12, itemWidth: 12, itemHeight: 160, precision: 2 },
      text: [panels[i]!.text(panels[i]!.largest), '0'],
      textStyle: { fontSize: 12, color: colours.faint },
      calculable: false,
    })),
    series: [series(0), series(1)],
  };
  return [option, { width, height }];
}

const largestOf = (row: readonly number[]): number => row.reduce((a, b) => Math.max(a, b), 0);
