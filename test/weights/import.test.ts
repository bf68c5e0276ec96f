/** From a published file to the local store and back: `importWeights`, the store, and `resolveWeights`. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { ToolkitError } from '../../src/errors.js';
import { importWeights } from '../../src/weights/import.js';
import { planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import { identify } from '../../src/weights/published-file.js';
import { resolveWeights } from '../../src/weights/resolve.js';
import { openSafetensors, writeSafetensors } from '../../src/weights/safetensors.js';
import { openWeights } from '../../src/weights/source.js';
import { findStored, folderOf, listStored } from '../../src/weights/store.js';
import { type GoldenRow, generatedSource, generateTensor, readForwardGolden } from '../support/golden.js';
import { setHome } from '../support/home.js';

const name = 'mobilenet_v1_0.25';
let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'tl-store-'));
  setHome(join(home, 'store'));
});
afterEach(() => {
  rmSync(home, { recursive: true, force: true });
});

type Change = (row: GoldenRow) => { name?: string; values?: Float32Array } | undefined;

/** Writes a fixture's weights as a file of the publisher's names. */
async function publishedFile(publisher: string, file = `${publisher}.safetensors`, change: Change = () => ({})) {
  const path = join(home, file);
  const entries = readForwardGolden(name, publisher).tensors.flatMap((row) => {
    const changed = change(row);
    if (changed === undefined) return [];
    const read = () => changed.values ?? generateTensor(...row);
    return [{ name: changed.name ?? row[0], shape: row[1], read }];
  });
  await writeSafetensors(path, entries);
  return path;
}

/** What the store must hold of a parameter: read from the publisher's tensors by the planner. */
async function expected(publisher: string, path: string): Promise<Float32Array> {
  const source = generatedSource(readForwardGolden(name, publisher).tensors, 'safetensors');
  const backbone = findBackbone(name);
  const { rows } = planWeights(source, backbone, findPublished(backbone, publisher));
  return readPlanned(source, rows.find((row) => row.parameter?.path === path)!);
}

async function rejection(work: Promise<unknown>): Promise<ToolkitError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ToolkitError);
  return error as ToolkitError;
}

describe('importing', () => {
  test('keeps every parameter, and a record of the file', async () => {
    const file = await publishedFile('keras');
    const report = await importWeights(file);
    const bytes = readFileSync(file);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    expect(report).toMatchObject({
      backbone: name,
      source: 'keras',
      classes: 1000,
      parameters: 475_544,
      file: { name: 'keras.safetensors', size: bytes.length, sha256 },
      totals: { ok: report.rows.length - 1, adapted: 1 },
      adaptations: [
        {
          kind: 'reshaped',
          tensors: ['conv_preds/kernel'],
          text: 'conv_preds/kernel: 1x1 convolution read as a dense layer',
        },
      ],
      ignored: [],
      folder: folderOf(name, 'keras'),
    });
    const stored = (await findStored(name, 'keras'))!;
    expect(stored.record).toMatchObject({ file: report.file, classes: 1000, source: 'keras', format: 'safetensors' });
    expect(Date.parse(stored.record.date)).toBeGreaterThan(Date.now() - 60_000);
    const tensors = await openSafetensors(stored.file);
    expect(tensors.tensors.map((tensor) => tensor.name)).toEqual(report.rows.map((row) => row.parameter));
    for (const path of [
      'stem.conv.kernel',
      'block7.depthwise.conv.kernel',
      'classifier.kernel',
      'stem.norm.variance',
    ]) {
      expect(await tensors.read(path), path).toEqual(await expected('keras', path));
    }
    await tensors.close();
    const again = await openWeights(stored.file);
    expect(await identify(again)).toEqual([{ backbone: name, source: 'keras', classes: 1000, head: null }]);
    await again.close();
  });

  test('a dry run plans and checks, and keeps nothing', async () => {
    const report = await importWeights(await publishedFile('slim'), { dryRun: true });
    expect(report).toMatchObject({ source: 'slim', folder: null });
    expect(report.rows[0]).toEqual({
      verdict: 'ok',
      parameter: 'stem.conv.kernel',
      parameterShape: [3, 3, 3, 8],
      tensor: 'MobilenetV1/Conv2d_0/weights',
      dtype: 'float32',
      shape: [3, 3, 3, 8],
      adaptation: null,
      reason: null,
    });
    expect(existsSync(process.env.TL_HOME!)).toBe(false);
  });

  test('a file with faults changes nothing, and the error says what it fits', async () => {
    const file = await publishedFile('keras');
    await importWeights(file);
    const record = readFileSync(join(folderOf(name, 'keras'), 'record.json'), 'utf8');
    const torn = await publishedFile('keras', 'torn.safetensors', (row) =>
      row[0] === 'conv1/kernel' ? undefined : {},
    );
    expect(await rejection(importWeights(torn, { backbone: name }))).toMatchObject({
      code: 'WEIGHTS_MISMATCH',
      message: expect.stringContaining('absent: stem.conv.kernel [3, 3, 3, 8]') as string,
    });
    const elsewhere = await rejection(importWeights(file, { backbone: 'mobilenet_v1_0.5', source: 'slim' }));
    expect(elsewhere.hint).toBe(`this file fits --backbone ${name} --source keras`);
    expect(readFileSync(join(folderOf(name, 'keras'), 'record.json'), 'utf8')).toBe(record);
    expect(await readdir(join(process.env.TL_HOME!, 'weights', name))).toEqual(['keras']);
  });

  test('numbers that cannot be weights are refused, and leave nothing behind', async () => {
    const spoiled = (tensor: string, value: number) =>
      publishedFile('keras', 'spoiled.safetensors', (row) => {
        if (row[0] !== tensor) return {};
        const values = generateTensor(...row);
        values[5] = value;
        return { values };
      });
    const first = await rejection(importWeights(await spoiled('conv_pw_9/kernel', Number.NaN)));
    expect(first).toMatchObject({ code: 'NOT_FINITE', message: expect.stringContaining('position 5') as string });
    const second = await rejection(importWeights(await spoiled('conv1_bn/moving_variance', -0.5)));
    expect(second.code).toBe('NEGATIVE_VARIANCE');
    expect(existsSync(folderOf(name, 'keras'))).toBe(false);
    expect((await listStored()).stored).toEqual([]);
  });

  test('an interrupted import leaves the old weights', async () => {
    const file = await publishedFile('keras');
    const old = await importWeights(file);
    const controller = new AbortController();
    controller.abort();
    await expect(importWeights(file, { signal: controller.signal })).rejects.toThrow(/abort/);
    expect((await findStored(name, 'keras'))?.record.file).toEqual(old.file);
    expect(await readdir(join(process.env.TL_HOME!, 'weights', name))).toEqual(['keras']);
  });

  test('what is left out by name takes the value without effect; kernels never', async () => {
    const lacking = await publishedFile('keras', 'l.safetensors', ([tensor]) =>
      /^conv_pw_3_bn\/(gamma|beta|moving_variance)/.test(tensor) ? undefined : {},
    );
    const report = await importWeights(lacking, { backbone: name, ignore: ['block3.pointwise.norm.*'] });
    expect(report.ignored).toHaveLength(3);
    expect(report.adaptations).toContainEqual({
      kind: 'left_out',
      tensors: [],
      text: 'block3.pointwise.norm.gamma left out: 1 everywhere, which has no effect',
    });
    const { read, close } = await resolveWeights({ backbone: name, weights: 'auto' });
    expect(await read!('block3.pointwise.norm.variance')).toEqual(new Float32Array(32).fill(1));
    expect(await read!('block3.pointwise.norm.beta')).toEqual(new Float32Array(32));
    await close();
    const torn = await publishedFile('keras', 't.safetensors', ([tensor]) =>
      tensor === 'conv1/kernel' ? undefined : {},
    );
    const error = await rejection(importWeights(torn, { backbone: name, ignore: ['stem.*'] }));
    expect(error).toMatchObject({
      code: 'IGNORED_KERNEL',
      message: expect.stringContaining('stem.conv.kernel') as string,
    });
  });

  test('an ignored classifier is no classifier', async () => {
    const odd = await publishedFile('keras', 'o.safetensors', ([tensor]) =>
      tensor === 'conv_preds/kernel' ? undefined : {},
    );
    const report = await importWeights(odd, { ignore: ['classifier.kernel'] });
    expect(report.classes).toBeNull();
    expect(report.parameters).toBe(475_544 - 257_000);
    const stored = await openSafetensors((await findStored(name, 'keras'))!.file);
    expect(stored.tensors.filter((tensor) => tensor.name.startsWith('classifier'))).toEqual([]);
    await stored.close();
  });

  test('our own files can be imported on another machine', async () => {
    const { folder } = await importWeights(await publishedFile('slim'));
    const copy = join(home, 'copy.safetensors');
    writeFileSync(copy, readFileSync(join(folder!, 'weights.safetensors')));
    rmSync(folder!, { recursive: true });
    expect(await importWeights(copy)).toMatchObject({ backbone: name, source: 'slim', adaptations: [] });
    expect(readFileSync(join(folder!, 'weights.safetensors')).equals(readFileSync(copy))).toBe(true);
    const wrong = await rejection(importWeights(copy, { backbone: name, source: 'keras' }));
    expect(wrong).toMatchObject({ code: 'WEIGHTS_MISMATCH', hint: `name --backbone ${name} --source slim` });
  });
});

describe('the store', () => {
  test('lists what is whole, and names what is not', async () => {
    expect(await listStored()).toEqual({ stored: [], damaged: [] });
    await importWeights(await publishedFile('keras'));
    await importWeights(await publishedFile('slim'));
    await writeFile(join(folderOf(name, 'slim'), 'record.json'), '{"formatVersion": 7}');
    await mkdir(folderOf('resnet50', 'torch'), { recursive: true });
    await mkdir(join(process.env.TL_HOME!, 'weights', name, '.slim.123.tmp'));
    const { stored, damaged } = await listStored();
    expect(stored.map(({ record }) => record.source)).toEqual(['keras']);
    expect(damaged.map(({ folder }) => folder)).toEqual([folderOf(name, 'slim'), folderOf('resnet50', 'torch')]);
    const error = await rejection(findStored(name, 'slim'));
    expect(error).toMatchObject({ code: 'STORE_DAMAGED', hint: expect.stringContaining('tl import') as string });
    expect(error.message).toContain('formatVersion');
  });

  test('a folder under a wrong name is no weights of that name', async () => {
    await importWeights(await publishedFile('keras'));
    const wrong = folderOf(name, 'slim');
    await mkdir(wrong, { recursive: true });
    for (const file of ['record.json', 'weights.safetensors'])
      writeFileSync(join(wrong, file), readFileSync(join(folderOf(name, 'keras'), file)));
    expect((await rejection(findStored(name, 'slim'))).message).toContain(`that of ${name} (source keras)`);
  });
});

describe('resolving', () => {
  test('auto takes the named source, else the only one, else the first in the published order', async () => {
    await importWeights(await publishedFile('slim'));
    const only = await resolveWeights({ backbone: name, weights: 'auto' });
    expect(only).toMatchObject({ published: { source: 'slim' }, license: 'Apache-2.0' });
    expect(only.origin).toMatch(/^slim\.safetensors \(sha256 [0-9a-f]{64}\), imported from slim$/);
    await only.close();
    await importWeights(await publishedFile('keras'));
    const both = await resolveWeights({ backbone: name, weights: 'auto' });
    expect(both.published.source).toBe('keras');
    expect(both.classes).toBe(1000);
    expect(await both.read!('block2.pointwise.conv.kernel')).toEqual(
      await expected('keras', 'block2.pointwise.conv.kernel'),
    );
    await both.close();
    const named = await resolveWeights({ backbone: name, source: 'slim', weights: 'auto' });
    expect(named.published.source).toBe('slim');
    await named.close();
  });

  test('nothing imported is an error that says what to fetch and how to import it', async () => {
    const error = await rejection(resolveWeights({ backbone: 'mobilenet_v1', weights: 'auto' }));
    expect(error).toMatchObject({ code: 'WEIGHTS_NOT_FOUND' });
    expect(error.message).toContain(folderOf('mobilenet_v1_1.0', 'keras'));
    expect(error.hint).toContain('tl import FILE --backbone mobilenet_v1_1.0');
    expect(error.hint).toContain('keras: storage.googleapis.com');
    expect(error.hint).toContain('--weights none');
    await importWeights(await publishedFile('keras'));
    const other = await rejection(resolveWeights({ backbone: name, source: 'slim', weights: 'auto' }));
    expect(other.message).toContain('imported sources: keras');
  });

  test('none is no numbers at all', async () => {
    const resolved = await resolveWeights({ backbone: name, source: 'slim', weights: 'none' });
    expect(resolved).toMatchObject({ published: { source: 'slim' }, read: undefined, classes: undefined });
    expect((await resolveWeights({ backbone: name, weights: 'none' })).published.source).toBe('keras');
  });

  test('a file is planned as it is, without going through the store', async () => {
    const file = await publishedFile('slim');
    const resolved = await resolveWeights({ backbone: name, weights: file });
    expect(resolved).toMatchObject({ published: { source: 'slim' }, origin: file });
    expect(await resolved.read!('stem.norm.mean')).toEqual(await expected('slim', 'stem.norm.mean'));
    await resolved.close();
    expect(existsSync(process.env.TL_HOME!)).toBe(false);
    expect((await rejection(resolveWeights({ backbone: name, weights: 'imagenet' }))).code).toBe('WEIGHTS_NOT_FOUND');
    expect((await rejection(resolveWeights({ backbone: 'resnet50', weights: file }))).code).toBe('WEIGHTS_MISMATCH');
    expect((await rejection(resolveWeights({ backbone: name, source: 'flax', weights: file }))).code).toBe(
      'UNKNOWN_SOURCE',
    );
  });

  test('a model folder, or a run folder with its best model, gives its backbone', async () => {
    const { folder } = await importWeights(await publishedFile('keras'));
    const stored = await openSafetensors(join(folder!, 'weights.safetensors'));
    const best = join(home, 'run', 'best');
    await mkdir(best, { recursive: true });
    const entries = stored.tensors
      .filter((tensor) => !tensor.name.startsWith('classifier.'))
      .map(({ name: path, shape }) => ({ name: path, shape, read: () => stored.read(path) }));
    const head = { name: 'head.logits.bias', shape: [2], read: () => new Float32Array(2) };
    await writeSafetensors(join(best, 'weights.safetensors'), [...entries, head], { format: 'tl', backbone: name });
    expect((await rejection(resolveWeights({ backbone: name, weights: best }))).message).toContain('does not say');
    await writeFile(join(best, 'model.json'), JSON.stringify({ backbone: name, source: 'keras' }));
    for (const given of [best, join(home, 'run'), join(best, 'weights.safetensors')]) {
      const resolved = await resolveWeights({ backbone: name, weights: given });
      expect(resolved).toMatchObject({ published: { source: 'keras' }, classes: undefined });
      expect(await resolved.read!('stem.conv.kernel')).toEqual(await expected('keras', 'stem.conv.kernel'));
      await resolved.close();
    }
    await stored.close();
    expect((await rejection(resolveWeights({ backbone: name, weights: home }))).code).toBe('WEIGHTS_NOT_FOUND');
  });
});
