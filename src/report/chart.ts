/** From a description of a chart to a picture: ECharts draws SVG without a browser, resvg turns it into pixels. */
import { createRequire } from 'node:module';
import type { EChartsOption, TitleComponentOption } from 'echarts';

const DEJAVU = 'DejaVu Sans';

/** Verdana has nearly the same widths, where a browser shows a chart on a machine without DejaVu. */
export const FONT = `${DEJAVU}, Verdana, sans-serif`;

/** Readable by colour-blind people and in grey print: Okabe and Ito, Color Universal Design, 2008. */
export const colours = {
  training: '#0072B2',
  validation: '#D55E00',
  best: '#009E73',
  wrong: '#D55E00',
  ink: '#1f2933',
  faint: '#7b8794',
  grid: '#e4e7eb',
} as const;

export interface ChartSize {
  readonly width: number;
  readonly height: number;
}

/** A chart. */
export interface Drawing {
  /** Complete, with everything that it shows inside. */
  readonly svg: string;
  readonly size: ChartSize;
}

/** What stands above a chart. @param left from the left edge, in pixels */
export const heading = (text: string, subtext?: string, left = 24): TitleComponentOption => ({
  text,
  ...(subtext === undefined ? {} : { subtext }),
  left,
  top: 14,
  itemGap: 8,
  textStyle: { fontSize: 20, fontWeight: 'bold', color: colours.ink },
  subtextStyle: { fontSize: 13, color: colours.faint },
});

/** Names of axes. */
export const axisName = { fontSize: 13, color: colours.faint } as const;

/** What no XML may hold, not even escaped: control characters, halves of pairs. @see https://www.w3.org/TR/xml/#charsets */
const NOT_XML = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

/** In one file: the package's entry is a thousand files, which take eight times as long to load. */
const ECHARTS: string = 'echarts/dist/echarts.esm.min.mjs';

/** Draws a chart; the library is loaded on the first call. */
export async function draw(option: EChartsOption, { width, height }: ChartSize): Promise<Drawing> {
  const { init, setPlatformAPI }: typeof import('echarts') = await import(ECHARTS);
  setPlatformAPI({ measureText: (text: string, font?: string) => ({ width: textWidth(text, font) }) });
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, backgroundColor: '#ffffff', textStyle: { fontFamily: FONT }, ...option });
    return { svg: chart.renderToSVGString().replace(NOT_XML, '\ufffd'), size: { width, height } };
  } finally {
    chart.dispose();
  }
}

/**
 * A chart as PNG bytes. The fonts come from a package, so it looks the same on a machine that has none; the machine's own
 * are asked for letters that those lack.
 */
export async function pngOf({ svg }: Drawing): Promise<Buffer> {
  const [{ renderAsync }, { default: sharp }] = await Promise.all([import('@resvg/resvg-js'), import('sharp')]);
  const font = { fontFiles: fontFiles(), defaultFontFamily: DEJAVU, sansSerifFamily: DEJAVU };
  const image = await renderAsync(svg, {
    background: '#ffffff',
    font: { ...font, loadSystemFonts: OTHER_LETTERS.test(svg) },
  });
  const raw = { width: image.width, height: image.height, channels: 4 as const };
  return sharp(image.pixels, { raw }).removeAlpha().png().toBuffer(); // the background is opaque
}

/** Writings that DejaVu Sans has no letters of. */
const OTHER_LETTERS =
  /[^\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Script=Armenian}\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Georgian}\p{Script=Common}\p{Script=Inherited}]/u;

function fontFiles(): string[] {
  const { resolve } = createRequire(import.meta.url);
  return ['DejaVuSans.ttf', 'DejaVuSans-Bold.ttf'].map((name) => resolve(`dejavu-fonts-ttf/ttf/${name}`));
}

/**
 * Width of a line of DejaVu Sans, units, for laying out: narrow letters and wide ones apart. Where there is no browser
 * ECharts takes the widths of Helvetica, which is a tenth narrower.
 */
export function textWidth(text: string, font = ''): number {
  const size = Number(/(\d+(?:\.\d+)?)px/.exec(font)?.[1] ?? 12);
  const bold = /bold|[6-9]00/.test(font) ? 1.1 : 1;
  let ems = 0;
  for (const letter of text) {
    if (/[fijlrt|!.,:;'"()[\] ]/.test(letter)) ems += 0.36;
    else if (/[mwMW%@]/.test(letter)) ems += 0.95;
    else ems += letter > '\u2e7f' ? 1 : 0.62;
  }
  return ems * size * bold;
}
