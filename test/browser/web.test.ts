/** The page that `tl export --format web` writes, in a browser: it answers as `tl predict` does, and asks nobody else. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { presets, withChannels } from '../../src/augment/preprocessing.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { type ExportedModel, openExport } from '../../src/export/exported.js';
import { rng } from '../../src/rng.js';
import { predict } from '../../src/train/predict.js';
import {
  graphOf,
  type ModelRecord,
  type OpenedModel,
  openModelFolder,
  saveModelFolder,
} from '../../src/weights/model-folder.js';
import { publishedModel, randomParameters, recordOf } from '../export/models.js';
import { describeInBrowser, launchChromium, type Served, serveFolder } from '../support/chromium.js';

/** In letters of several writings, one of them from right to left, one that HTML reads otherwise. */
const CLASSES = ['daisy', 'Löwenzahn & <b>co</b>', '薔薇', 'زهرة الشمس', 'tulip', 'тюльпан'];
const SIZE = 96;

let folder: string;
let engine: Engine;
let browser: Browser;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tl-web-'));
  engine = await loadEngine();
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Exported {
  readonly model: string;
  readonly out: string;
}

async function exportFolder(model: string, out: string, withPreprocessing = false): Promise<Exported> {
  const opened = await openModelFolder(model);
  await exportModel(opened, { format: 'web', out, withPreprocessing }, engine);
  await opened.close();
  return { model, out };
}

/** A small network on the fixture's weights. */
async function exported(): Promise<Exported> {
  const model = join(folder, 'model');
  const { record, read } = publishedModel('mobilenet_v2_0.35', 'keras', SIZE, CLASSES.length);
  await saveModelFolder(model, { ...record, classes: CLASSES }, read);
  return exportFolder(model, join(folder, 'page'));
}

/** Another network with random weights, and this record. */
async function exportedWith(name: string, more: Partial<ModelRecord>, withPreprocessing = false): Promise<Exported> {
  const model = join(folder, `${name} model`);
  const size = { height: 64, width: 80 };
  const record = { ...recordOf('mobilenet_v1_0.25', 'keras', size, CLASSES.length), classes: CLASSES, ...more };
  await saveModelFolder(model, record, randomParameters(graphOf(record)));
  return exportFolder(model, join(folder, name), withPreprocessing);
}

/** Blots of colour on a slope: edges, and smooth parts, as photographs have them. */
function pixels(width: number, height: number, channels: 3 | 4): Buffer {
  const random = rng('web picture');
  const blots = Array.from({ length: 24 }, () => ({
    x: width * random.uniform(),
    y: height * random.uniform(),
    r: (0.25 * random.uniform() + 0.03) * width,
    colour: [255 * random.uniform(), 255 * random.uniform(), 255 * random.uniform(), 255 * random.uniform()],
  }));
  const data = Buffer.alloc(width * height * channels);
  let i = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const blot = blots.find((each) => Math.hypot(each.x - x, each.y - y) < each.r);
      const slope = [(255 * x) / width, (255 * y) / height, (255 * (x + y)) / (width + height), 255];
      for (let c = 0; c < channels; c++) data[i++] = (blot?.colour ?? slope)[c]! + 8 * random.uniform();
    }
  }
  return data;
}

/** What people have: cameras' JPEGs lying on their side, screenshots, cut-outs. */
async function pictures(): Promise<string[]> {
  const raw = (width: number, height: number, channels: 3 | 4) =>
    sharp(pixels(width, height, channels), { raw: { width, height, channels } });
  const made = {
    'photograph.jpg': raw(611, 407, 3).jpeg({ quality: 85 }),
    'on its side.jpg': raw(300, 200, 3)
      .jpeg({ chromaSubsampling: '4:4:4', progressive: true })
      .withMetadata({ orientation: 6 }),
    'grey.jpg': raw(200, 220, 3).greyscale().jpeg(),
    'tiny.png': raw(7, 5, 3).png(),
    'cut out.png': raw(240, 180, 4).png(),
    'other.webp': raw(320, 240, 3).webp({ lossless: true }),
  };
  return Promise.all(
    Object.entries(made).map(async ([name, image]) => {
      const path = join(folder, name);
      await image.toFile(path);
      return path;
    }),
  );
}

type Guesses = Readonly<Record<string, number>>;

async function predicted(model: OpenedModel | ExportedModel, paths: readonly string[]): Promise<Map<string, Guesses>> {
  const found = new Map<string, Guesses>();
  for await (const each of predict(model, paths, engine, { top: CLASSES.length })) {
    if ('error' in each) throw new Error(each.error);
    found.set(each.path, Object.fromEntries(each.guesses.map((guess) => [guess.class, guess.probability])));
  }
  return found;
}

async function predictedByModel({ model }: Exported, paths: readonly string[]): Promise<Map<string, Guesses>> {
  const opened = await openModelFolder(model);
  try {
    return await predicted(opened, paths);
  } finally {
    await opened.close();
  }
}

interface Opened {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly served: Served;
  /** What the page complained of, and addresses elsewhere that it asked for. */
  readonly faults: string[];
  close(): Promise<void>;
}

async function newPage(allowed: string): Promise<Omit<Opened, 'served' | 'close'>> {
  browser ??= await launchChromium();
  const context = await browser.newContext();
  const faults: string[] = [];
  context.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(allowed) && !url.startsWith('blob:')) faults.push(`asked for ${url}`);
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(String(error)));
  return { page, context, faults };
}

async function open(out: string): Promise<Opened> {
  const served = await serveFolder(out);
  const opened = await newPage(served.address);
  await opened.page.goto(served.address);
  const close = async (): Promise<void> => {
    await opened.context.close();
    await served.close();
  };
  return { ...opened, served, close };
}

/** Every class with its probability, as the page shows them. */
async function shown(page: Page): Promise<Guesses> {
  await page.locator('#bars li').first().waitFor();
  const more = page.locator('#more');
  if ((await more.getAttribute('aria-expanded')) === 'false') await more.click();
  const rows = await page
    .locator('#bars li')
    .evaluateAll((all) =>
      all.map((row) => [row.querySelector('.name')!.textContent!, Number(row.querySelector('data')!.value)] as const),
    );
  expect(rows.map(([, value]) => value)).toEqual([...rows.map(([, value]) => value)].sort((a, b) => b - a));
  return Object.fromEntries(rows);
}

function expectSame(received: Guesses, expected: Guesses, name: string, bound = 1e-4): void {
  expect(Object.keys(received).sort()).toEqual(Object.keys(expected).sort());
  for (const [each, value] of Object.entries(expected)) {
    expect(Math.abs(received[each]! - value), `${name}: ${each}`).toBeLessThan(bound);
  }
}

/** The answer to a picture, once it is there. */
async function answerTo(page: Page, path: string): Promise<Guesses> {
  await page.setInputFiles('#file', path);
  await page.getByAltText(basename(path)).waitFor();
  return shown(page);
}

/** Drops or pastes what somebody would: a file, or the address of one. */
async function give(page: Page, how: 'drop' | 'paste', what: { file: string } | { text: string }): Promise<void> {
  const given = 'file' in what ? { base64: readFileSync(what.file, 'base64'), name: basename(what.file) } : what;
  await page.evaluate(
    ([kind, about]) => {
      const data = new DataTransfer();
      if ('text' in about) data.setData('text/uri-list', about.text);
      else data.items.add(new File([Uint8Array.from(atob(about.base64), (c) => c.charCodeAt(0))], about.name));
      const event =
        kind === 'drop'
          ? new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })
          : new ClipboardEvent('paste', { clipboardData: data, bubbles: true });
      document.body.dispatchEvent(event);
    },
    [how, given] as const,
  );
}

describeInBrowser('the page', () => {
  let made: Exported;
  let paths: string[];
  let expected: Map<string, Guesses>;
  beforeAll(async () => {
    made = await exported();
    paths = await pictures();
    expected = await predictedByModel(made, paths);
  });

  test('answers as tl predict does, for each kind of picture, and asks nobody but its host', async () => {
    const { page, served, faults, close } = await open(made.out);
    for (const path of paths) expectSame(await answerTo(page, path), expected.get(path)!, basename(path));
    expect(faults).toEqual([]);
    expect(served.asked).toContain('/model/model.json');
    await close();
  });

  test('takes what is dropped and pasted, says what is no picture, and goes on', async () => {
    const { page, faults, close } = await open(made.out);
    const [first, second] = paths as [string, string];
    await give(page, 'drop', { file: first });
    await page.getByAltText(basename(first)).waitFor();
    expectSame(await shown(page), expected.get(first)!, 'dropped');

    const broken = join(folder, 'broken.jpg');
    writeFileSync(broken, readFileSync(first).subarray(0, 100));
    await give(page, 'drop', { file: broken });
    await page.getByRole('alert').filter({ hasText: '“broken.jpg” is not a picture' }).waitFor();
    expect(await page.locator('#bars li').count()).toBe(0); // not the answer to the picture before
    await give(page, 'drop', { text: 'https://example.org/daisy.jpg' });
    await page.getByRole('alert').filter({ hasText: 'That was no file' }).waitFor();

    await give(page, 'paste', { file: second });
    await page.getByAltText(basename(second)).waitFor();
    expectSame(await shown(page), expected.get(second)!, 'pasted');
    expect(await page.getByRole('alert').isVisible()).toBe(false);
    expect(faults).toEqual([]);
    await close();
  });

  test('opens and answers without a network, once it has been open', async () => {
    const { page, served, faults, close } = await open(made.out);
    await page.getByText('works without a network').waitFor();
    const asked = served.asked.filter((path) => path.endsWith('.bin'));
    expect(asked).toHaveLength(1); // what the page has loaded is kept, not loaded again
    await served.close();
    await page.reload();
    expectSame(await answerTo(page, paths[0]!), expected.get(paths[0]!)!, 'offline');
    expect(faults).toEqual([]);
    await close();
  });

  test('watches the camera until it is stopped', async () => {
    const { page, faults, close } = await open(made.out);
    await page.getByRole('button', { name: 'Use the camera' }).click();
    const seen = await shown(page);
    expect(Object.values(seen).reduce((a, b) => a + b)).toBeCloseTo(1, 3);
    const video = page.getByLabel('What the camera sees');
    const live = () => video.evaluate((element) => (element as HTMLVideoElement).srcObject !== null);
    expect(await live()).toBe(true);
    await page.getByRole('button', { name: 'Stop the camera' }).click();
    await page.getByText('The camera is off.').waitFor();
    expect(await live()).toBe(false);
    expect(await video.isVisible()).toBe(false);
    expect(faults).toEqual([]);
    await close();
  });

  test('can be used by keyboard, and by those who hear it', async () => {
    const { page, faults, close } = await open(made.out);
    await page.getByRole('status').filter({ hasText: 'Ready' }).waitFor();
    expect(await page.locator('html').getAttribute('lang')).toBe('en');
    expect(await page.title()).toContain('mobilenet_v2_0.35');
    await page.keyboard.press('Tab');
    expect(await page.getByLabel('Choose a picture').evaluate((input) => input === document.activeElement)).toBe(true);
    const outline = await page
      .locator('label.primary')
      .first()
      .evaluate((label) => getComputedStyle(label).outlineStyle);
    expect(outline).toBe('solid');
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement!.textContent)).toBe('Use the camera');
    await page.keyboard.press('Shift+Tab');
    const chooser = page.waitForEvent('filechooser');
    await page.keyboard.press('Space');
    await (await chooser).setFiles(paths[0]!);
    await page.getByAltText(basename(paths[0]!)).waitFor();
    const [best] = Object.entries(await shown(page))[0]!;
    await page.getByRole('status').filter({ hasText: best }).waitFor();
    // Whatever can be pressed or read has a name.
    const nameless = await page.evaluate(() =>
      [...document.querySelectorAll('button, input, img, video, progress, section, ol')]
        .filter((each) => each.checkVisibility())
        .filter((each) => {
          const labels = (each as HTMLInputElement).labels ?? [];
          const by = each.getAttribute('aria-labelledby');
          const text = by === null ? each.textContent : document.getElementById(by)?.textContent;
          const given = each.getAttribute('aria-label') ?? each.getAttribute('alt');
          return ![...labels].some((label) => label.textContent?.trim()) && !given?.trim() && !text?.trim();
        })
        .map(({ outerHTML }) => outerHTML),
    );
    expect(nameless).toEqual([]);
    expect(faults).toEqual([]);
    await close();
  });

  test('fits on a phone, names of classes are only text, and they may be a thousand', async () => {
    const classes = Array.from({ length: 1000 }, (_, i) => `${'long '.repeat(i % 20)}</script><b>${i}</b>`);
    const many = await exportedWith('many', { classes });
    const { page, faults, close } = await open(many.out);
    await page.setViewportSize({ width: 320, height: 640 });
    await page.setInputFiles('#file', paths[0]!);
    await page.locator('#bars li').first().waitFor();
    expect(await page.locator('#bars li').count()).toBe(5);
    expect(await page.locator('#bars b').count()).toBe(0);
    await page.getByRole('button', { name: 'All 1,000 classes' }).click();
    const names = await page.locator('#bars .name').allTextContents();
    expect(names.sort()).toEqual([...classes].sort());
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
    expect(faults).toEqual([]);
    await close();
  });

  test('opened from the disk it takes its folder, and needs no WebAssembly', async () => {
    const address = pathToFileURL(join(made.out, 'index.html')).href;
    const { page, context, faults } = await newPage(new URL('.', address).href);
    await page.addInitScript(() => Reflect.deleteProperty(globalThis, 'WebAssembly'));
    await page.goto(address);
    await page.getByLabel('Choose the folder of this page').setInputFiles(made.out);
    await page.getByText('plain JavaScript').waitFor();
    expectSame(await answerTo(page, paths[0]!), expected.get(paths[0]!)!, 'from the disk');
    expect(faults).toEqual([]);
    await context.close();
  });

  test.each([
    ['grey', { channels: 1, preprocessing: withChannels(presets.unit, 1) }],
    ['with alpha', { channels: 4, preprocessing: withChannels(presets.torch, 4) }],
    ['blue first', { preprocessing: presets.caffe }],
    ['cut like slim', { preprocessing: presets.slim_vgg }],
  ] as const)('prepares pictures by the record: %s', async (name, more) => {
    const other = await exportedWith(name, more);
    const given = paths.filter((path) => /photograph|side|cut/.test(basename(path)));
    const same = await predictedByModel(other, given);
    const { page, faults, close } = await open(other.out);
    for (const path of given) expectSame(await answerTo(page, path), same.get(path)!, `${name}, ${basename(path)}`);
    expect(faults).toEqual([]);
    await close();
  });

  test('gives whole pixels to a model that takes them, and runs in Node from the same folder', async () => {
    const other = await exportedWith('pixels', { preprocessing: presets.slim_inception }, true);
    const same = await predicted(await openExport(other.out), paths.slice(0, 2));
    const { page, faults, close } = await open(other.out);
    for (const [path, guesses] of same) {
      // In Node, whole pixels are found again from normalised ones: halves may be rounded the other way.
      expectSame(await answerTo(page, path), guesses, basename(path), 1e-3);
    }
    expect(faults).toEqual([]);
    await close();
  });
});
