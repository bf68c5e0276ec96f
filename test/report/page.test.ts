/** The report of a run as a page: what is in it, and that names cannot break it. */
import { describe, expect, test } from 'vitest';
import { html } from '../../src/report/html.js';
import { type ReportPage, reportPage } from '../../src/report/page.js';

const drawing = { svg: '<svg xmlns="http://www.w3.org/2000/svg"/>', size: { width: 10, height: 10 } };
const HOSTILE = '<img src=x onerror="alert(1)"> & \'quoted\'';
const scores = { support: 3, precision: 1, recall: 0.5, f1: 2 / 3, specificity: Number.NaN };

const report = (more: Partial<ReportPage> = {}): ReportPage => ({
  title: HOSTILE,
  subtitle: 'run',
  figures: [['validation accuracy', '91.0 %']],
  notes: ['Overfitting since epoch 3.'],
  training: [['network', HOSTILE]],
  parameters: [
    ['stage', 'state', 'learning rate', 'trained', 'of parameters'],
    ['head', 'trained', '0.001', '1,234', '1,234'],
    ['all', '', '', '1,234', '1,234'],
  ],
  curves: drawing,
  curvesText: 'curves',
  batch: [],
  settings: [['data', HOSTILE]],
  versions: [],
  evaluation: {
    pictures: 3,
    classes: [{ class: HOSTILE, ...scores }],
    means: [{ class: 'macro mean', ...scores }],
    ece: 0.04,
    reliability: drawing,
    confusion: { png: Uint8Array.of(1), size: drawing.size },
    confused: [{ label: HOSTILE, prediction: 'b', pictures: 2 }],
    worst: [
      { picture: undefined, lines: ['gone.jpg'], right: false },
      { picture: Uint8Array.of(1), lines: [HOSTILE], right: true },
    ],
    chosen: [{ picture: Uint8Array.of(1), lines: ['b 51.0 %', HOSTILE], right: true }],
  },
  ...more,
});

describe('html', () => {
  test('escapes what is put in, but not its own pieces', () => {
    const inner = html`<b>${'a & b'}</b>`;
    expect(html`<p title="${'"\'<>'}">${[inner, inner]}${3}${undefined}</p>`.markup).toBe(
      '<p title="&#34;&#39;&#60;&#62;"><b>a &#38; b</b><b>a &#38; b</b>3</p>',
    );
  });
});

describe('a report', () => {
  const page = reportPage(report());

  test('holds names as text, wherever they stand', () => {
    expect(page).not.toContain('<img src=x');
    expect(
      page.match(/&#60;img src=x onerror=&#34;alert\(1\)&#34;&#62; &#38; &#39;quoted&#39;/g)!.length,
    ).toBeGreaterThan(7);
  });

  test('has no script, no style sheet, no link and no picture from elsewhere', () => {
    expect(page).not.toMatch(/<(script|link|iframe|a)\b/i);
    for (const [, address] of page.matchAll(/<img\b[^>]*? src="([^"]*)"/g)) expect(address).toMatch(/^data:image\//);
    expect(page).not.toMatch(/url\(|@import/);
  });

  test('says what each picture shows, and marks right and wrong by more than colour', () => {
    const images = [...page.matchAll(/<img\b[^>]*>/g)].map(([tag]) => tag);
    expect(images.length).toBe(4);
    for (const image of images) expect(image).toMatch(/ alt="[^"]{4,}"/);
    expect(page).toContain('✗ gone.jpg');
    expect(page).toContain('✓ b 51.0\u00a0%');
    expect(page).toContain('cannot be read');
  });

  test('shows mistakes alone where there are any, else what was nearly one', () => {
    expect(page).toContain('The mistaken pictures');
    expect(page.match(/<li>/g)).toHaveLength(2);
    const { evaluation } = report();
    const right = evaluation!.chosen;
    const good = reportPage(report({ evaluation: { ...evaluation!, worst: right, confused: [] } }));
    expect(good).toContain('No picture was mistaken');
    expect(good).not.toContain('Most frequent mistakes');
    expect(good.match(/<li>/g)).toHaveLength(2);
  });

  test('has a dash where there is nothing to divide by', () => {
    expect(page).toMatch(/<td class="number">50\.0 %<\/td><td class="number">66\.7 %<\/td><td class="number">–<\/td>/);
  });

  test('without validation pictures has no word of classes', () => {
    const bare = reportPage(report({ evaluation: undefined }));
    for (const heading of ['Classes', 'Confusion matrix', 'Worst mistakes', 'Calibration', 'Validation pictures']) {
      expect(page).toContain(`<h2>${heading}</h2>`);
      expect(bare).not.toContain(`<h2>${heading}</h2>`);
    }
    expect(bare).toContain('<h2>Curves</h2>');
  });
});
