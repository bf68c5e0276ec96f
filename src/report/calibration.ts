/** How often a model is right where it says how sure it is, as a picture. */
import { percent } from './axes.js';
import { axisName, colours, type Drawing, draw } from './chart.js';

/** Pictures whose most probable class has a probability above `from` and up to `to`; means are NaN without pictures. */
export interface ReliabilityBin {
  readonly from: number;
  readonly to: number;
  readonly pictures: number;
  readonly accuracy: number;
}

const SIZE = { width: 460, height: 340 };

/** Draws a reliability diagram: Guo et al. 2017, figure 1. */
export async function drawReliability(bins: readonly ReliabilityBin[]): Promise<Drawing> {
  const axis = (name: string, nameGap: number) => ({
    type: 'value' as const,
    ...{ min: 0, max: 1, interval: 0.2, name, nameGap, nameLocation: 'middle' as const },
    nameTextStyle: axisName,
    axisLabel: { fontSize: 12, color: colours.faint, formatter: (share: number) => percent(share, 0) },
    axisLine: { show: false },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: colours.grid } },
  });
  const width = (1 / bins.length) * (SIZE.width - 90);
  return draw(
    {
      grid: { left: 68, right: 22, top: 26, bottom: 56 },
      xAxis: axis('probability of the predicted class', 32),
      yAxis: axis('share that is right', 46),
      series: [
        {
          type: 'bar',
          barWidth: Math.floor(width) - 2,
          color: colours.training,
          label: { show: true, position: 'top', fontSize: 10, color: colours.faint },
          data: bins
            .filter(({ pictures }) => pictures > 0)
            .map(({ from, to, accuracy, pictures }) => ({
              value: [(from + to) / 2, accuracy],
              label: { formatter: String(pictures) },
            })),
        },
        {
          type: 'line',
          symbol: 'none',
          lineStyle: { color: colours.validation, type: 'dashed', width: 1.5 },
          data: [
            [0, 0],
            [1, 1],
          ],
        },
      ],
    },
    SIZE,
  );
}
