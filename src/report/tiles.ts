/** Pictures with what is said of them, side by side, as one picture. */
import type { EChartsOption } from 'echarts';
import { colours, type Drawing, draw, FONT, heading, textWidth } from './chart.js';
import { THUMBNAIL } from './thumbnails.js';

/** A picture and a few words. */
export interface Tile {
  /** JPEG bytes; absent where the picture could not be read. */
  readonly picture: Uint8Array | undefined;
  /** The first line is printed bold. */
  readonly lines: readonly string[];
  /** Whether the model is right about it; absent where that is not the question. */
  readonly right?: boolean;
}

export interface TilesTitle {
  readonly title: string;
  readonly subtitle: string;
}

const GAP = 18;
const LINE = 18;
const FONT_SIZE = 13;
const TOP = 84;
const MOST_COLUMNS = 4;

/** The picture as an address that holds it. */
export const dataAddress = (bytes: Uint8Array, type: 'jpeg' | 'png'): string =>
  `data:image/${type};base64,${Buffer.from(bytes).toString('base64')}`;

/** A mark that tells right from wrong without colour. */
export const markOf = ({ right }: Pick<Tile, 'right'>): string => (right === undefined ? '' : right ? '✓ ' : '✗ ');

/** Draws tiles, four in a row. @param tiles at least one */
export async function drawTiles(tiles: readonly Tile[], { title, subtitle }: TilesTitle): Promise<Drawing> {
  const columns = Math.min(MOST_COLUMNS, tiles.length);
  const rows = Math.ceil(tiles.length / columns);
  const lines = Math.max(...tiles.map((tile) => tile.lines.length));
  const [wide, high] = [THUMBNAIL + GAP, THUMBNAIL + lines * LINE + GAP + 8];
  const size = { width: Math.max(GAP + MOST_COLUMNS * wide, 480), height: TOP + rows * high };
  const option: EChartsOption = {
    title: { ...heading(title, subtitle, GAP), padding: 0 },
    graphic: tiles.flatMap((tile, i) => {
      const [x, y] = [GAP + (i % columns) * wide, TOP + Math.floor(i / columns) * high];
      return elementsOf(tile, x, y);
    }),
  };
  return draw(option, size);
}

function elementsOf({ picture, lines, right }: Tile, x: number, y: number): object[] {
  const colour = right === undefined ? colours.ink : right ? colours.best : colours.wrong;
  const mark = markOf(right === undefined ? {} : { right });
  const square = { x, y, width: THUMBNAIL, height: THUMBNAIL };
  const text = (line: string, style: object): object => ({
    type: 'text',
    style: { text: line, fontFamily: FONT, ...style },
  });
  return [
    picture === undefined
      ? { type: 'rect', shape: square, style: { fill: '#eceff2' } }
      : { type: 'image', style: { ...square, image: dataAddress(picture, 'jpeg') } },
    ...(picture === undefined
      ? [text('cannot be read', { x: x + 12, y: y + THUMBNAIL / 2, fontSize: 13, fill: colours.faint })]
      : []),
    ...(right === undefined
      ? []
      : [{ type: 'rect', shape: square, style: { fill: 'none', stroke: colour, lineWidth: 3 } }]),
    ...lines.map((line, i) =>
      text(fitted(`${i === 0 ? mark : ''}${line}`, i === 0), {
        x,
        y: y + THUMBNAIL + 8 + i * LINE,
        fontSize: FONT_SIZE,
        ...(i === 0 ? { fontWeight: 'bold', fill: colour } : { fill: colours.ink }),
      }),
    ),
  ];
}

/** A line as wide as its picture: what is too long is cut before its share, `A very long na… 35.1 %`. */
function fitted(line: string, bold: boolean): string {
  const font = `${bold ? 'bold ' : ''}${FONT_SIZE}px`;
  if (textWidth(line, font) <= THUMBNAIL) return line;
  const share = / [\d.]+ %$/.exec(line)?.[0] ?? '';
  const letters = [...line.slice(0, line.length - share.length)];
  while (letters.length > 0 && textWidth(`${letters.join('')}…${share}`, font) > THUMBNAIL) letters.pop();
  return `${letters.join('').trimEnd()}…${share}`;
}
