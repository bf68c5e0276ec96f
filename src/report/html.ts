/** HTML as values: what is put into a piece is escaped, unless it is a piece itself. */

/** Markup that is known to be sound. */
export class Html {
  constructor(readonly markup: string) {}
}

type Part = Html | string | number | readonly Part[] | undefined;

/** `` html`<p>${text}</p>` ``: text and numbers are escaped, lists joined, undefined left out. */
export const html = (pieces: TemplateStringsArray, ...parts: readonly Part[]): Html =>
  new Html(pieces.map((piece, i) => `${piece}${i < parts.length ? written(parts[i]) : ''}`).join(''));

function written(part: Part): string {
  if (part === undefined) return '';
  if (part instanceof Html) return part.markup;
  if (typeof part === 'object') return part.map(written).join('');
  return escaped(String(part));
}

/** Text as it stands between tags, and in attributes in either quotes. */
export const escaped = (text: string): string => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
