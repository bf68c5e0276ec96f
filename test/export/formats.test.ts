/** What holds for every format alike: whatever the classes are called, and however many there are. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildGraph } from '../../src/engine/graph.js';
import { conv2d, dense, globalAveragePool } from '../../src/engine/layers.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { exportModel } from '../../src/export/export.js';
import { openExport } from '../../src/export/exported.js';
import type { ExportableModel } from '../../src/export/format.js';
import { type FormatName, formatNames } from '../../src/export/formats.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { temporaryFolder } from '../weights/support/temporary.js';
import { randomParameters, recordOf } from './models.js';
import { picturesFor } from './stock.js';

/** Letters of many scripts, of both directions and beyond the first plane, and what files and quotes may trip over. */
const names = ['猫', 'собака', 'זברה', 'naïve café', '🦊', 'a/b', `"it's" <b>&amp;`, 'C:\\x', '', 'a,b;c'];

/** A small classifier for pictures of 12 by 12. */
function classifier(classes: readonly string[]): ExportableModel {
  const graph = buildGraph([12, 12, 3], (s, x) => {
    const pooled = s.at('pre_logits').tap(globalAveragePool(s.at('pool'), conv2d(s.at('c'), x, 8, 3, { bias: true })));
    return s.at('logits').tap(dense(s.at('classifier'), pooled, classes.length));
  });
  const record = recordOf('mobilenet_v2_1.0', 'keras', { height: 12, width: 12 }, classes.length);
  return { record: { ...record, classes }, graph, read: randomParameters(graph) };
}

async function written(format: FormatName, classes: readonly string[]): Promise<string> {
  const out = temporaryFolder(format);
  await exportModel(classifier(classes), { format, out, overwrite: true }, await loadEngine());
  return out;
}

describe.each(formatNames)('%s', (format) => {
  test('keeps names of classes of all letters, in order', async () => {
    const out = await written(format, names);
    expect(JSON.parse(readFileSync(join(out, 'class_indices.json'), 'utf8'))).toEqual({ ...names });
    const exported = await openExport(out);
    expect(exported.record.classes).toEqual(names);
    expect(readFileSync(join(out, 'README.md'), 'utf8')).toMatch(/^# mobilenet_v2_1.0, 10 classes$/m);
  });

  test('has a thousand classes', async () => {
    const many = Array.from({ length: 1000 }, (_, i) => `class ${i}`);
    const out = await written(format, many);
    const exported = await (await openExport(out)).load(await loadEngine());
    const { data } = picturesFor(classifier(many), 3);
    const probabilities = await exported.probabilities(data, 3);
    await exported.dispose();
    expect(probabilities.length).toBe(3000);
    expect(probabilities.reduce((a, b) => a + b)).toBeCloseTo(3, 4);
  });

  test('is not taken for a model folder, nor with one class fewer than it has', async () => {
    const out = await written(format, names);
    await expect(openModelFolder(out)).rejects.toMatchObject({ code: 'MODEL_IS_EXPORT' });
    const file = join(out, 'export.json');
    const record = JSON.parse(readFileSync(file, 'utf8')) as { classes: string[] };
    writeFileSync(file, JSON.stringify({ ...record, classes: record.classes.slice(1) }));
    const exported = await (await openExport(out)).load(await loadEngine());
    const { data } = picturesFor(classifier(names), 2);
    await expect(exported.probabilities(data, 2)).rejects.toMatchObject({ code: 'EXPORT_INVALID' });
    await exported.dispose();
    expect(readdirSync(out)).toContain('labels.txt');
  });

  test('says which of its files is missing', async () => {
    const out = await written(format, names);
    for (const name of readdirSync(out))
      if (name !== 'export.json') rmSync(join(out, name), { recursive: true, force: true });
    await expect((await openExport(out)).load(await loadEngine())).rejects.toMatchObject({
      code: expect.stringMatching(/^[A-Z_]+$/) as string,
      message: expect.stringContaining(out) as string,
    });
  });
});
