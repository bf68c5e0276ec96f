/** Settings of augmentation: what they make of the presets, what is refused, and runs with them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { recipes } from '../../src/augment/recipe.js';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { augmentationWords, endlessFlags, mixingFor, recipeFor } from '../../src/train/augmentation.js';
import { evaluate } from '../../src/train/evaluate.js';
import { completeSettings } from '../../src/train/settings/complete.js';
import { formatConfiguration, readConfiguration } from '../../src/train/settings/config.js';
import type { GivenSettings } from '../../src/train/settings/settings.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { expectFailure, temporaryFile } from '../weights/support/temporary.js';
import { historyOf, numbersOf, pictureFolder, tracesOf, train, weightsOf } from './support/training.js';

const settingsWith = (given: GivenSettings) => completeSettings({ backbone: 'mobilenet_v1_0.25', ...given });
const recipeWith = (given: GivenSettings) => recipeFor(settingsWith(given));

describe('a recipe from settings', () => {
  test('is the preset where nothing else is named', () => {
    for (const augment of ['none', 'flip', 'standard', 'strong'] as const) {
      expect(recipeWith({ augment })).toEqual(recipes[augment]);
    }
  });

  test('has each part that is named in the place of the preset’s own', () => {
    expect(recipeWith({ augment: 'none', cropArea: '0.5,0.9' })).toEqual({
      crop: { area: [0.5, 0.9], shape: [3 / 4, 4 / 3] },
    });
    expect(recipeWith({ augment: 'strong', hflip: 0, vflip: 0.25, rotate: 5, colorJitter: '0.4' })).toEqual({
      crop: recipes.strong.crop,
      rotation: 5,
      jitter: { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0 },
      verticalFlip: 0.25,
    });
    expect(recipeWith({ augment: 'none', colorJitter: '0.1,0.2,0.3' }).jitter).toEqual({
      ...{ brightness: 0.1, contrast: 0.2, saturation: 0.3, hue: 0 },
    });
    expect(recipeWith({ augment: 'none', colorJitter: '0.1,0.2,0.3,0.5' }).jitter?.hue).toBe(0.5);
    expect(recipeWith({ augment: 'none', randAugment: '2,9' })).toEqual({
      randAugment: { operations: 2, magnitude: 9 },
    });
    expect(recipeWith({ augment: 'none', erase: 0.25 })).toEqual({ erasing: { probability: 0.25, fill: 'zero' } });
    expect(recipeWith({ erase: 0.25, eraseFill: 'noise' }).erasing).toEqual({ probability: 0.25, fill: 'noise' });
  });

  test('says nothing of what does nothing', () => {
    expect(recipeWith({ augment: 'strong', rotate: 0, colorJitter: '0' })).toEqual(recipes.standard);
    expect(recipeWith({ hflip: 0, vflip: 0, erase: 0, randAugment: '0,9' })).toEqual({});
  });

  test('is told in words, with the flags that make epochs differ', () => {
    expect(augmentationWords(settingsWith({}))).toBe('flip');
    const words = { augment: 'standard', randAugment: '2,9', mixup: 0.2, fit: 'pad' } as const;
    expect(augmentationWords(settingsWith(words))).toBe('standard, rand-augment 2,9, mixup 0.2, fit pad');
    expect(endlessFlags(settingsWith({}))).toEqual([]);
    expect(endlessFlags(settingsWith({ augment: 'standard', rotate: 3 }))).toEqual(['--augment standard']);
    expect(endlessFlags(settingsWith({ rotate: 3, hflip: 0 }))).toEqual(['--hflip', '--rotate']);
    expect(endlessFlags(settingsWith({ mixup: 0.1, cutmix: 1 }))).toEqual(['--mixup', '--cutmix']);
    expect(endlessFlags(settingsWith({ mixup: 0 }))).toEqual([]);
  });

  test('mixing is off at 0, and knows what targets are', () => {
    expect(mixingFor(settingsWith({ mixup: 0, cutmix: 0 }), 3)).toBeUndefined();
    expect(mixingFor(settingsWith({ cutmix: 1, labelSmoothing: 0.1 }), 3)).toEqual({
      ...{ cutmix: 1, classes: 3, labelSmoothing: 0.1 },
    });
  });

  test.each<[GivenSettings, RegExp]>([
    [{ cropArea: '1,0.3' }, /--crop-area: expected two fractions/],
    [{ cropArea: '0,1' }, /--crop-area/],
    [{ cropArea: '0.3' }, /--crop-area/],
    [{ cropArea: '0.3,,1' }, /--crop-area/],
    [{ hflip: 1.5 }, /--hflip: expected a number at least 0 and at most 1, received 1\.5/],
    [{ rotate: -3 }, /--rotate/],
    [{ colorJitter: '0.1,0.2' }, /--color-jitter: expected one number, or three or four/],
    [{ colorJitter: '0.1,0.2,0.3,0.6' }, /--color-jitter/],
    [{ colorJitter: '' }, /--color-jitter/],
    [{ randAugment: '2,31' }, /--rand-augment: expected whole numbers of operations/],
    [{ randAugment: '2.5,9' }, /--rand-augment/],
    [{ randAugment: '2' }, /--rand-augment/],
    [{ erase: 2 }, /--erase/],
    [{ eraseFill: 'noise' }, /--erase-fill: has no meaning without --erase/],
    [{ mixup: -1 }, /--mixup/],
    [{ cutmix: Number.NaN }, /--cutmix/],
    [{ fit: 'squash' as 'pad' }, /--fit: expected one of crop, pad, stretch, received "squash"/],
    [{ cacheViews: 2, rotate: 0 }, /--cache-views: flip, rotate 0 has no random views to keep/],
    [{ cacheViews: 2, augment: 'standard', mixup: 0.2 }, /--cache-views: --mixup brings other pictures together/],
  ])('%j is refused', async (given, message) => {
    await expectFailure(async () => settingsWith(given), 'BAD_OPTION', message);
  });

  test('random views may come from any flag', () => {
    expect(settingsWith({ cacheViews: 2, rotate: 10 }).cacheViews).toBe(2);
  });
});

describe('a configuration file', () => {
  test('may write numbers, lists and text, and what is printed reads back', async () => {
    const text = 'color-jitter: 0.4\nrand-augment: [2, 9]\ncrop-area: 0.5,1\nmixup: 0.2\nfit: pad\n';
    const { settings } = await readConfiguration(temporaryFile('augment.yaml', text));
    const wanted = { colorJitter: '0.4', randAugment: '2,9', cropArea: '0.5,1', mixup: 0.2, fit: 'pad' };
    expect(settings).toEqual(wanted);
    const printed = formatConfiguration(settingsWith(settings), () => undefined);
    const again = await readConfiguration(temporaryFile('again.yaml', printed));
    expect(again.settings).toEqual(settingsWith(settings));
  });
});

describe('runs', () => {
  let data: string;
  beforeAll(async () => {
    data = await pictureFolder('pictures', 5, 2);
  });

  const everything = {
    augment: 'strong',
    randAugment: '2,9',
    vflip: 0.3,
    erase: 0.5,
    mixup: 0.4,
    cutmix: 1,
    labelSmoothing: 0.1,
    fit: 'pad',
    epochs: 2,
  } as const;

  test('with everything at once learn, twice to the same bits, and say that nothing is kept', async () => {
    const lines: string[] = [];
    const reporter = { warn: (line: string) => lines.push(line) };
    const runs = [];
    for (const freeze of ['backbone', 'last:1']) {
      const first = await train({ data, freeze, ...everything, cache: 'disk' }, reporter);
      const second = await tracesOf({ data, freeze, ...everything });
      expect(numbersOf(historyOf(first.runFolder))).toEqual(second.history);
      expect(await weightsOf(join(first.runFolder, 'last'))).toEqual(second.last);
      runs.push(first);
    }
    expect(lines.join('\n')).toContain('--mixup and --cutmix show other pictures in every epoch, so nothing is kept');
    expect(lines.join('\n')).not.toContain('--cache-views');
    const model = await openModelFolder(runs[0]!.runFolder);
    expect(model.record.preprocessing).toMatchObject({ resize: { rule: 'pad' }, crop: 'none' });
    expect(model.record.training?.recipe.augment).toContain(
      'strong, vflip 0.3, rand-augment 2,9, erase 0.5, mixup 0.4',
    );
    // The model's own record is what evaluation reads.
    const { loss } = await evaluate(model, await loadEngine({ engine: 'tensorflow' }), { data });
    const best = historyOf(runs[0]!.runFolder).findLast((row) => row.best)!;
    expect(loss).toBeCloseTo(best.valLoss, 5);
    await model.close();
  });

  test.each<GivenSettings>([
    { augment: 'none', hflip: 0.3 },
    { augment: 'none', hflip: 1 },
    { rotate: 10, erase: 0.5, cacheViews: 2 },
  ])('%j gives the same numbers from rows that were kept and without any', async (given) => {
    const lines: string[] = [];
    const reporter = { info: (line: string) => lines.push(line) };
    const how = { ...given, data, epochs: 2 };
    const kept = await train({ ...how, cache: 'memory' }, reporter);
    expect(lines.join('\n')).toMatch(/kept|memory/);
    const { cacheViews, ...views } = how;
    const anew = await train({ ...views, cache: 'off' });
    const rows = [kept, anew].map(({ runFolder }) => numbersOf(historyOf(runFolder)));
    for (const [i, row] of rows[0]!.entries()) {
      expect(row.trainLoss).toBeCloseTo(rows[1]![i]!.trainLoss, 4);
      expect(row.valLoss).toBeCloseTo(rows[1]![i]!.valLoss, 4);
    }
  });

  test('a teacher is asked about the mixed pictures, not about those that it was asked about before', async () => {
    const teacher = (await train({ data })).runFolder;
    const how = { data, teacher, augment: 'flip', mixup: 0.4, epochs: 2 } as const;
    const plain = await train({ ...how, mixup: 0 }); // keeps the teacher's output for plain and mirrored pictures
    const runs = [await train({ ...how, cache: 'auto' }), await train({ ...how, cache: 'off' })];
    const [kept, anew] = runs.map(({ runFolder }) => numbersOf(historyOf(runFolder)));
    expect(kept).toEqual(anew);
    expect(kept![0]!.trainSoftLoss).not.toBe(historyOf(plain.runFolder)[0]!.trainSoftLoss);
  });

  test('go on where they stopped', async () => {
    const whole = await train({ data, freeze: 'last:1', ...everything, epochs: 3 });
    const controller = new AbortController();
    const stopped = await train(
      { data, freeze: 'last:1', ...everything, epochs: 3, signal: controller.signal },
      { epoch: ({ epoch }) => epoch === 1 && controller.abort() },
    );
    const resumed = await train({ data, resume: stopped.runFolder });
    expect(numbersOf(historyOf(resumed.runFolder))).toEqual(numbersOf(historyOf(whole.runFolder)));
  });

  test('mixed pictures cannot be fitted better than their labels are mixed', async () => {
    const how = { data, freeze: 'none', epochs: 12, lr: 0.01, batchSize: 5 } as const;
    const [plain, mixed] = [await train(how), await train({ ...how, mixup: 8 })];
    const lossOf = ({ runFolder }: { runFolder: string }) => historyOf(runFolder).at(-1)!.trainLoss;
    // Halves of two classes have an entropy of log 2, and two of three partners are of another class.
    expect(lossOf(mixed)).toBeGreaterThan(0.8 * (2 / 3) * Math.log(2));
    expect(lossOf(plain)).toBeLessThan(lossOf(mixed));
    const args = JSON.parse(readFileSync(join(mixed.runFolder, 'args.json'), 'utf8')) as { settings: object };
    expect(args.settings).toMatchObject({ mixup: 8, augment: 'none' });
    expect(args.settings).not.toHaveProperty('cutmix');
  });
});
