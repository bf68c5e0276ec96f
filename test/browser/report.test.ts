/** `report.html` of a run, in a browser: nothing is asked of anybody, every picture is there, nobody's name runs. */
import { cpSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeInBrowser, launchChromium } from '../support/chromium.js';
import { classNames, pictureFolder, temporary, train } from '../train/support/training.js';

/** What HTML would read otherwise, and letters from right to left. */
const NAMES = ['<img src=x onerror=alert(1)> & "co"', 'زهرة الشمس', '薔薇'];

let browser: Browser;
let run: string;
let bare: string;

describeInBrowser('the report of a run', () => {
  beforeAll(async () => {
    const data = await pictureFolder('named', 6, 4);
    for (const split of ['train', 'val']) {
      classNames.forEach((name, i) => {
        renameSync(join(data, split, name), join(data, split, NAMES[i]!));
      });
    }
    run = (await train({ data, epochs: 6, lr: 0.3, augment: 'standard' })).runFolder;
    const flat = temporary('flat');
    cpSync(join(data, 'train'), flat, { recursive: true });
    bare = (await train({ data: flat, valSplit: 0, epochs: 2 })).runFolder;
    browser = await launchChromium();
  });
  afterAll(async () => {
    await browser?.close();
  });

  /** Opens a report, and says what it asked for and complained of. */
  async function open(
    folder: string,
    options: BrowserContextOptions = {},
  ): Promise<{ page: Page; asked: string[]; words: string[] }> {
    const [asked, words]: [string[], string[]] = [[], []];
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.on('request', (request) => {
      if (!request.url().startsWith('data:')) asked.push(request.url());
    });
    page.on('console', (message) => void words.push(message.text()));
    page.on('pageerror', (error) => void words.push(String(error)));
    page.on('dialog', (dialog) => void words.push(dialog.message()));
    await page.goto(pathToFileURL(join(folder, 'report.html')).href, { waitUntil: 'load' });
    return { page, asked, words };
  }

  test.each(['light', 'dark'] as const)('has all its pictures, and asks for nothing, in %s', async (colorScheme) => {
    const { page, asked, words } = await open(run, { colorScheme });
    expect(asked).toEqual([page.url()]);
    expect(words).toEqual([]);
    const pictures = await page.evaluate(() =>
      [...document.images].map(({ naturalWidth, alt }) => ({ naturalWidth, described: alt.length > 0 })),
    );
    expect(pictures.length).toBeGreaterThan(20); // three charts, a batch, mistakes, and predictions
    expect(pictures.filter(({ naturalWidth, described }) => naturalWidth === 0 || !described)).toEqual([]);
    await page.context().close();
  });

  test('has classes by their names, with the figures of metrics.json', async () => {
    const { page } = await open(run);
    const rows = await page.locator('section', { hasText: 'each counted once' }).locator('tbody tr').allInnerTexts();
    const { validation } = JSON.parse(readFileSync(join(run, 'metrics.json'), 'utf8')) as {
      validation: { classes: { class: string; support: number; recall: number }[] };
    };
    expect(rows.map((row) => row.split('\t')[0])).toEqual(validation.classes.map((each) => each.class));
    expect([...NAMES].sort()).toEqual(validation.classes.map((each) => each.class).sort());
    rows.forEach((row, i) => {
      const { support, recall } = validation.classes[i]!;
      expect(row.split('\t')[1]).toBe(String(support));
      expect(row.split('\t')[3]).toBe(`${(100 * recall).toFixed(1)} %`);
    });
    await page.context().close();
  });

  test('fits a telephone and a sheet of paper', async () => {
    const { page } = await open(run, { viewport: { width: 390, height: 800 } });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
    expect((await page.pdf({ format: 'A4' })).subarray(0, 5).toString()).toBe('%PDF-');
    await page.context().close();
  });

  test('without validation pictures says so, and has neither classes nor mistakes', async () => {
    const { page, asked, words } = await open(bare);
    expect([asked, words]).toEqual([[page.url()], []]);
    expect(await page.getByRole('note').allInnerTexts()).toEqual([expect.stringContaining('no validation pictures')]);
    const headings = await page.getByRole('heading', { level: 2 }).allInnerTexts();
    expect(headings).toEqual([
      'Summary',
      'Curves',
      'First training batch',
      'How it was trained',
      'Settings and versions',
    ]);
    await page.context().close();
  });
});
