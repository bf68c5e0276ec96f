/** One self-contained page about a run: no script, no request, every picture inside. */
import { percent } from './axes.js';
import type { Drawing } from './chart.js';
import { Html, html } from './html.js';
import { style } from './style.js';
import { dataAddress, markOf, type Tile } from './tiles.js';

export type Row = readonly [name: string, value: string];

export interface ReportPage {
  /** What was trained. */
  readonly title: string;
  readonly subtitle: string;
  /** The figures that count, large. */
  readonly figures: readonly Row[];
  /** What the reader must know of: sentences. */
  readonly notes: readonly string[];
  readonly training: readonly Row[];
  /** What is frozen and what is trained: headings, a row a part of the network, and sums; numbers from the third column on. */
  readonly parameters: readonly (readonly string[])[];
  readonly curves: Drawing;
  readonly curvesText: string;
  /** Absent where nothing was validated. */
  readonly evaluation?: EvaluationSection | undefined;
  /** The first batch of training, as the network got it. */
  readonly batch: readonly Tile[];
  readonly settings: readonly Row[];
  readonly versions: readonly Row[];
}

/** Of one class, or a mean; NaN where there is nothing to divide by. */
export interface ScoreRow {
  readonly class: string;
  readonly support: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly specificity: number;
}

export interface EvaluationSection {
  readonly pictures: number;
  readonly classes: readonly ScoreRow[];
  readonly means: readonly ScoreRow[];
  /** Expected calibration error, 0 to 1. */
  readonly ece: number;
  readonly reliability: Drawing;
  /** PNG bytes, and its size in pixels. */
  readonly confusion: { readonly png: Uint8Array; readonly size: Drawing['size'] };
  /** The most frequent mistakes, the most frequent first. */
  readonly confused: readonly { readonly label: string; readonly prediction: string; readonly pictures: number }[];
  /** Pictures with the highest loss, the highest first. */
  readonly worst: readonly Tile[];
  /** Pictures chosen at random. */
  readonly chosen: readonly Tile[];
}

/** The page as text. Names of classes may hold any letters. */
export function reportPage(report: ReportPage): string {
  const { title, subtitle, evaluation } = report;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>${title}</title>
<style>${new Html(style)}</style>
</head>
<body>
<header>
<h1 dir="auto">${title}</h1>
<p>${subtitle}</p>
</header>
<main>
${summary(report)}
${section('Curves', chart(report.curves, report.curvesText))}
${evaluation === undefined ? undefined : evaluated(evaluation)}
${
  report.batch.length === 0
    ? undefined
    : section(
        'First training batch',
        html`<p>As the network got it: resized, changed at random and normalised, turned back into a picture; with what it was to say.</p>`,
        tiles(report.batch),
      )
}
${section(
  'How it was trained',
  html`<div class="two">${list('Training', report.training)}${parameters(report.parameters)}</div>`,
)}
${section('Settings and versions', html`<div class="two">${list('Settings', report.settings)}${list('Versions', report.versions)}</div>`)}
</main>
</body>
</html>
`.markup;
}

const section = (heading: string, ...content: readonly (Html | undefined)[]): Html =>
  html`<section><h2>${heading}</h2>${content}</section>`;

const summary = ({ figures, notes }: ReportPage): Html =>
  section(
    'Summary',
    html`<dl class="figures">${figures.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`,
    html`${notes.map((note) => html`<p class="note" role="note">${note}</p>`)}`,
  );

function evaluated(evaluation: EvaluationSection): Html {
  const { pictures, classes, means, ece, reliability, confusion, confused, worst, chosen } = evaluation;
  const wrong = worst.filter(({ right }) => right === false);
  return html`${section(
    'Classes',
    html`<p>The best model on the ${pictures} validation pictures, each counted once.</p>`,
    scores(classes, means),
  )}
${section(
  'Worst mistakes',
  html`<p>${wrong.length === 0 ? 'No picture was mistaken. These have the highest loss.' : 'The mistaken pictures with the highest loss, the highest first.'}</p>`,
  tiles(wrong.length === 0 ? worst : wrong),
)}
${section(
  'Confusion matrix',
  html`<div class="wide"><img class="chart" src="${dataAddress(confusion.png, 'png')}" width="${confusion.size.width}" height="${confusion.size.height}" alt="Confusion matrix of ${classes.length} classes, as counts and as shares of each class. ${confusedText(confused)}"></div>`,
  confused.length === 0
    ? undefined
    : html`<h3>Most frequent mistakes</h3><div class="wide"><table><thead><tr><th scope="col">true</th><th scope="col">predicted</th><th scope="col" class="number">pictures</th></tr></thead><tbody>${confused.map(
        ({ label, prediction, pictures: count }) =>
          html`<tr><td dir="auto">${label}</td><td dir="auto">${prediction}</td><td class="number">${count}</td></tr>`,
      )}</tbody></table></div>`,
)}
${section(
  'Calibration',
  html`<p>How often the model is right where it says how sure it is, with the number of pictures. On the dashed line its probabilities can be taken at their word; the expected calibration error is ${share(ece)}.</p>`,
  chart(reliability, `Reliability diagram; expected calibration error ${share(ece)}`),
)}
${section('Validation pictures', html`<p>Chosen at random.</p>`, tiles(chosen))}`;
}

function confusedText(confused: EvaluationSection['confused']): string {
  const [first] = confused;
  if (first === undefined) return 'No picture is mistaken.';
  return `The most frequent mistake: ${first.pictures} of ${first.label} taken for ${first.prediction}.`;
}

function scores(classes: readonly ScoreRow[], means: readonly ScoreRow[]): Html {
  const row = (each: ScoreRow): Html =>
    html`<tr><th scope="row" dir="auto">${each.class}</th><td class="number">${each.support}</td>${[
      each.precision,
      each.recall,
      each.f1,
      each.specificity,
    ].map((value) => html`<td class="number">${share(value)}</td>`)}</tr>`;
  const heads = ['pictures', 'precision', 'recall', 'F1', 'specificity'];
  return html`<div class="wide"><table class="full"><thead><tr><th scope="col">class</th>${heads.map(
    (head) => html`<th scope="col" class="number">${head}</th>`,
  )}</tr></thead><tbody>${classes.map(row)}</tbody><tfoot>${means.map(row)}</tfoot></table></div>`;
}

function parameters(rows: readonly (readonly string[])[]): Html | undefined {
  const [heads, ...others] = rows;
  if (heads === undefined) return undefined;
  const classOf = (i: number): string => (i < 2 ? '' : 'number');
  const row = ([part, ...cells]: readonly string[]): Html =>
    html`<tr><th scope="row">${part}</th>${cells.map((cell, i) => html`<td class="${classOf(i + 1)}">${cell}</td>`)}</tr>`;
  return html`<div><h3>Frozen and trained</h3><div class="wide"><table class="full"><thead><tr>${heads.map(
    (head, i) => html`<th scope="col" class="${classOf(i)}">${head}</th>`,
  )}</tr></thead><tbody>${others.slice(0, -1).map(row)}</tbody><tfoot>${others.slice(-1).map(row)}</tfoot></table></div></div>`;
}

const list = (heading: string, rows: readonly Row[]): Html =>
  html`<div><h3>${heading}</h3><table class="full list"><tbody>${rows.map(
    ([name, value]) => html`<tr><th scope="row">${name}</th><td dir="auto">${value}</td></tr>`,
  )}</tbody></table></div>`;

const chart = ({ svg, size }: Drawing, alt: string): Html =>
  html`<img class="chart" src="data:image/svg+xml;base64,${Buffer.from(svg).toString('base64')}" width="${size.width}" height="${size.height}" alt="${alt}">`;

const tiles = (all: readonly Tile[]): Html =>
  html`<ul class="tiles">${all.map((tile) => {
    const { picture, lines, right } = tile;
    const [first = '', ...others] = lines.map((line) => line.replaceAll(' %', '\u00a0%')); // not broken in two
    const kind = right === undefined ? '' : right ? 'right' : 'wrong';
    const shown =
      picture === undefined
        ? html`<div class="gone">cannot be read</div>`
        : html`<img src="${dataAddress(picture, 'jpeg')}" alt="${lines.join(', ')}">`;
    return html`<li><figure class="${kind}">${shown}<figcaption><strong dir="auto">${markOf(tile)}${first}</strong>${others.map(
      (line) => html`<span dir="auto">${line}</span>`,
    )}</figcaption></figure></li>`;
  })}</ul>`;

const share = (value: number): string => (Number.isNaN(value) ? '–' : percent(value));
