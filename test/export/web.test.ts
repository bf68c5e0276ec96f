/** What `tl export --format web` writes, without a browser; test/browser/web.test.ts runs it in one. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { conv2d } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { type ExportOptions, type ExportReport, exportModel } from '../../src/export/export.js';
import type { ExportableModel } from '../../src/export/format.js';
import type { PageDescription } from '../../src/export/web/page/description.js';
import type { Shell } from '../../src/export/web/page/service-worker.js';
import { styleCss } from '../../src/export/web/style.js';
import { temporary } from '../weights/support/temporary.js';
import { smallModel } from './models.js';

let count = 0;
const tiny = (): ExportableModel => smallModel([8, 8], (s, x) => conv2d(s.at('c'), x, 4, 3, { bias: true }));

async function write(model: ExportableModel, more: Partial<ExportOptions> = {}): Promise<ExportReport> {
  return exportModel(model, { format: 'web', out: temporary(String(++count)), ...more }, await loadEngine());
}

const read = ({ out }: ExportReport, name: string): string => readFileSync(join(out, name), 'utf8');

function descriptionOf(report: ExportReport): PageDescription {
  const [, json] = /<script type="application\/json" id="description">(.*?)<\/script>/s.exec(
    read(report, 'index.html'),
  )!;
  return JSON.parse(json!);
}

function shellOf(report: ExportReport): Shell {
  return JSON.parse(/^self\.shell = (.*);$/m.exec(read(report, 'sw.js'))![1]!);
}

describe('the folder', () => {
  test('holds the page, the model, what runs it and its licence, and keeps all of it for later', async () => {
    const model = tiny();
    const report = await write(model);
    const names = report.files.map(({ name }) => name);
    const page = [
      ...['app.js', 'icon.svg', 'manifest.webmanifest', 'model/group1-shard1of1.bin', 'model/model.json', 'style.css'],
      ...['tfjs/LICENSE.txt', 'tfjs/tf-backend-cpu.js', 'tfjs/tf-backend-wasm.js', 'tfjs/tf-converter.js'],
      ...['tfjs/tf-core.js', 'tfjs/tfjs-backend-wasm-simd.wasm', 'tfjs/tfjs-backend-wasm.wasm', 'worker.js'],
    ];
    expect(names).toEqual(expect.arrayContaining([...page, 'index.html', 'sw.js', 'README.md', 'export.json']));
    expect(shellOf(report).files).toEqual(['./', 'index.html', ...page]);
    const bytesOf = (name: string) => report.files.find((file) => file.name === name)!.bytes;
    const { version, ...description } = descriptionOf(report);
    expect(description).toMatchObject({
      classes: model.record.classes,
      preprocessing: model.record.preprocessing,
      inputSize: { height: 8, width: 8 },
      channels: 3,
      input: 'normalised',
      modelFiles: ['model/model.json', 'model/group1-shard1of1.bin'].map((name) => ({ name, bytes: bytesOf(name) })),
    });
    expect(version).toBe(shellOf(report).version);
    expect(read(report, 'tfjs/LICENSE.txt')).toMatch(/^\s+Apache License\s+Version 2\.0, January 2004/);
    for (const command of ['npx serve .', 'python3 -m http.server'])
      expect(read(report, 'README.md')).toContain(command);
  });

  test('has nothing in it that a page may not run, or that lies elsewhere', async () => {
    const report = await write(tiny());
    const html = read(report, 'index.html');
    expect(html).toContain("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'");
    expect(html).not.toMatch(/https?:|\bon[a-z]+="|style="|<style/);
    expect(read(report, 'style.css')).not.toMatch(/url\(|@import/);
    for (const script of ['app.js', 'worker.js', 'sw.js']) expect(read(report, script)).not.toMatch(/https?:|node:/);
  });

  test('has a version that changes with the weights, and with the classes, and with nothing else', async () => {
    const model = tiny();
    const named = { ...model, record: { ...model.record, classes: ['a', 'b', 'c', 'd', 'e'] } };
    const reports = await Promise.all([
      write(model),
      write(model),
      write(named),
      write(model, { quantize: 'float16' }),
      write(model, { withPreprocessing: true }),
    ]);
    const [first, again, ...others] = reports.map((report) => descriptionOf(report).version);
    expect(again).toBe(first);
    expect(new Set([first, ...others]).size).toBe(4);
  });

  test('names classes as text, whatever letters they have', async () => {
    const model = tiny();
    const classes = ['</script><script>x', '<!-- a', 'b & "c"', 'ד', '\u2028'];
    const report = await write({ ...model, record: { ...model.record, classes } });
    expect(descriptionOf(report).classes).toEqual(classes);
    expect(read(report, 'index.html').match(/<script/g)).toHaveLength(2);
    expect(read(report, 'index.html')).not.toContain('<!--');
  });
});

/** Relative luminance of `#rrggbb`. @see WCAG 2.2, relative luminance */
function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const c = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

describe.each(['light', 'dark'] as const)('colours, %s', (scheme) => {
  const schemes = [...styleCss.matchAll(/:root \{([^}]*)\}/g)].map(([, body]) =>
    Object.fromEntries([...body!.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, name, value]) => [name!, value!])),
  );
  const colours = schemes[scheme === 'light' ? 0 : 1]!;

  // 4.5 for text, 3 for what is no text: WCAG 2.2, success criteria 1.4.3 and 1.4.11.
  test.each([
    ['ink', 'back', 4.5],
    ['ink', 'card', 4.5],
    ['soft', 'back', 4.5],
    ['soft', 'card', 4.5],
    ['accent', 'back', 4.5],
    ['accent', 'card', 4.5],
    ['on-accent', 'accent', 4.5],
    ['fault', 'fault-back', 4.5],
    ['fault', 'card', 4.5],
    ['accent', 'track', 3],
  ] as const)('%s on %s can be read', (front, back, least) => {
    const [light, dark] = [luminance(colours[front]!), luminance(colours[back]!)].sort((a, b) => b - a) as [
      number,
      number,
    ];
    expect((light + 0.05) / (dark + 0.05)).toBeGreaterThanOrEqual(least);
  });
});
