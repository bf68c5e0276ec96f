/** The page that `tl export --format web` writes, in a browser: it answers as `tl predict` does, and asks nobody else. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { presets } from '../../src/augment/preprocessing.js';
import { type Engine, loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { rng } from '../../src/rng.js';
import { predict } from '../../src/train/predict.js';
import { type ModelRecord, openModelFolder, saveModelFolder } from '../../src/weights/model-folder.js';
import { publishedModel } from '../export/models.js';
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

async function exported(name: string, more: Partial<ModelRecord> = {}, withPreprocessing = false): Promise<Exported> {
  const model = join(folder, `${name}-model`);
  const small = publishedModel('mobilenet_v2_0.35', 'keras', SIZE, CLASSES.length);
  await saveModelFolder(model, { ...small.record, classes: CLASSES, ...more }, small.read);
  const out = join(folder, name);
  const opened = await openModelFolder(model);
  await exportModel(opened, { format: 'web', out, withPreprocessing }, engine);
  await opened.close();
  return { model, out };
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

async function predicted({ model }: Exported, paths: readonly string[]): Promise<Map<string, Guesses>> {
  const opened = await openModelFolder(model);
  const found = new Map<string, Guesses>();
  for await (const each of predict(opened, paths, engine, { top: CLASSES.length })) {
    if ('error' in each) throw new Error(each.error);
    found.set(each.path, Object.fromEntries(each.guesses.map((guess) => [guess.class, guess.probability])));
  }
  await opened.close();
  return found;
}

interface Opened {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly served: Served;
  /** What the page complained of, and addresses elsewhere that it asked for. */
  readonly faults: string[];
  close(): Promise<void>;
}

async function open(out: string): Promise<Opened> {
  browser ??= await launchChromium();
  const served = await serveFolder(out);
  const context = await browser.newContext();
  const faults: string[] = [];
  context.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(served.address) && !url.startsWith(`blob:${served.address}`)) faults.push(`asked for ${url}`);
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(String(error)));
  await page.goto(served.address);
  const close = async (): Promise<void> => {
    await context.close();
    await served.close();
  };
  return { page, context, served, faults, close };
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

function expectSame(received: Guesses, expected: Guesses, name: string): void {
  expect(Object.keys(received).sort()).toEqual(Object.keys(expected).sort());
  for (const [each, value] of Object.entries(expected)) {
    expect(Math.abs(received[each]! - value), `${name}: ${each}`).toBeLessThan(1e-4);
  }
}

describeInBrowser('the page', () => {
  let made: Exported;
  let paths: string[];
  let expected: Map<string, Guesses>;
  beforeAll(async () => {
    made = await exported('page');
    paths = await pictures();
    expected = await predicted(made, paths);
  });

  test('answers as tl predict does, for each kind of picture', async () => {
    const { page, faults, close } = await open(made.out);
    for (const path of paths) {
      await page.setInputFiles('#file', path);
      await page.getByAltText(basename(path)).waitFor();
      expectSame(await shown(page), expected.get(path)!, basename(path));
    }
    expect(faults).toEqual([]);
    await close();
  });
});
