/** Settings: what is left out, what cannot stand, recipes, and files of them. */
import { describe, expect, test } from 'vitest';
import { learningRate, scheduleOf } from '../../src/train/schedule.js';
import { checkSettings, completeSettings } from '../../src/train/settings/complete.js';
import { formatConfiguration, readConfiguration } from '../../src/train/settings/config.js';
import { findRecipe, layered, recipes, settingsOf } from '../../src/train/settings/recipes.js';
import type { GivenSettings } from '../../src/train/settings/settings.js';
import { settingList, settings } from '../../src/train/settings/table.js';
import { expectFailure, temporaryFile } from '../weights/support/temporary.js';

let files = 0;

const written = (text: string): string => temporaryFile(`settings-${files++}.yaml`, text);

describe('what is left out', () => {
  test('has the defaults of the table', () => {
    const complete = completeSettings({ backbone: 'resnet50' });
    for (const { key, default: value } of settingList) {
      if (value !== undefined) expect(complete[key], key).toEqual(value);
    }
    expect(complete).toMatchObject({ backbone: 'resnet50', data: 'data', freeze: 'backbone' });
    expect(complete).not.toHaveProperty('lr');
    expect(completeSettings({ backbone: 'resnet50', manifest: 'x.csv' })).not.toHaveProperty('data');
  });

  test('a setting that is undefined is one that was left out', () => {
    expect(completeSettings({ backbone: 'resnet50', epochs: undefined as never })).toMatchObject({ epochs: 20 });
  });

  test('every default is a value of its kind, and every flag reads it back from its own text', () => {
    for (const { key, kind, default: value, flag } of settingList) {
      if (value === undefined) continue;
      expect(kind.accepts(value), key).toBe(true);
      if (kind.placeholder !== undefined) expect(kind.parse(String(value)), flag).toEqual(value);
    }
    expect(new Set(settingList.map(({ flag }) => flag)).size).toBe(settingList.length);
  });
});

describe('what cannot be used', () => {
  test('no network', async () => {
    await expectFailure(() => completeSettings({}), 'MISSING_OPTION', /no network/);
  });

  test('a name that is none, a value that is none, and what has no meaning alone, all at once', async () => {
    const given = { backbone: 'resnet50', epoch: 3, epochs: 0, lr: '0.1', temperature: 2 };
    const error = await expectFailure(() => completeSettings(given as never), 'BAD_OPTION');
    expect(error.message.split('\n').slice(1)).toEqual([
      '  - epoch: there is no such setting',
      '  - --epochs: expected a whole number from 1, received 0',
      '  - --lr: expected a number above 0, received "0.1"',
      '  - --temperature: has no meaning without --teacher',
      '  - --warmup: expected less than the 0 epochs of the run, received 0',
    ]);
  });

  test('two that exclude each other', async () => {
    const both = { backbone: 'resnet50', data: 'a', manifest: 'b' };
    await expectFailure(() => completeSettings(both), 'BAD_OPTION', /--manifest: cannot stand beside --data/);
  });

  test('a head that is none', async () => {
    await expectFailure(() => completeSettings({ backbone: 'resnet50', head: 'mlp' }), 'BAD_HEAD');
  });
});

describe('a file of settings', () => {
  const text = `
# how we train
backbone: resnet50
batch-size: 8          # under the name of the flag
labelSmoothing: 0.1    # or that of args.json
lr: 1e-4
skip-bad-images: true
input-size: 128x96
recipe: notes-resnet50
`;

  test('in YAML, and the same in JSON', async () => {
    const settings = {
      backbone: 'resnet50',
      batchSize: 8,
      labelSmoothing: 0.1,
      lr: 1e-4,
      skipBadImages: true,
      inputSize: { height: 128, width: 96 },
    };
    expect(await readConfiguration(written(text))).toEqual({ settings, recipe: 'notes-resnet50' });
    expect(await readConfiguration(written(JSON.stringify({ ...settings, recipe: 'notes-resnet50' })))).toEqual({
      settings,
      recipe: 'notes-resnet50',
    });
  });

  test("a run's args.json gives its settings", async () => {
    const ran = completeSettings({ backbone: 'vgg16', epochs: 2, inputSize: 64 });
    const file = written(JSON.stringify({ settings: ran, resolved: { lr: 1 }, versions: {} }));
    expect(completeSettings((await readConfiguration(file)).settings)).toEqual(ran);
  });

  test('what is printed is read again, whatever was given', async () => {
    const given = { backbone: 'vgg16', inputSize: { height: 5, width: 7 }, skipBadImages: true, lr: 1e-7, channels: 1 };
    const complete = completeSettings(given as never);
    const printed = formatConfiguration(complete, (key) => (key === 'lr' ? 'from a # file' : undefined));
    expect(printed).toContain('lr: 1e-7 # from a # file\n');
    expect(printed).toContain('# source: that of the imported weights\n');
    expect((await readConfiguration(written(printed))).settings).toEqual(complete);
  });

  test('names that are none come with the nearest, and every fault is told', async () => {
    const bad = written('epoch: 3\nlr: fast\nbatch-size: 4\nbatchSize: 5\nfreeze: [1, {}]\nseed: null\n');
    const error = await expectFailure(() => readConfiguration(bad), 'CONFIG_INVALID');
    for (const line of [
      'epoch: there is no such setting; did you mean epochs?',
      'lr: expected a number above 0, received "fast"',
      'batchSize: stands there twice, as --batch-size too',
      'seed: expected a whole number from 0, received null',
    ])
      expect(error.message).toContain(line);
  });

  test.each([
    ['no file', 'nowhere.yaml', 'FILE_NOT_READ', /nowhere.yaml/],
    ['neither YAML nor JSON', 'a: [1\nb: }', 'CONFIG_INVALID', /neither YAML nor JSON/],
    ['a list', '- epochs: 3', 'CONFIG_INVALID', /holds a list/],
    ['a word', 'epochs', 'CONFIG_INVALID', /holds "epochs"/],
    ['nothing', '', 'CONFIG_INVALID', /holds null/],
  ])('%s', async (_, content, code, message) => {
    await expectFailure(() => readConfiguration(content.endsWith('.yaml') ? content : written(content)), code, message);
  });

  test('a bomb of aliases is refused', async () => {
    const levels = Array.from({ length: 12 }, (_, i) =>
      i === 0
        ? 'a0: &a0 [x, x, x]'
        : `a${i}: &a${i} [${Array(9)
            .fill(`*a${i - 1}`)
            .join(', ')}]`,
    );
    await expectFailure(() => readConfiguration(written(levels.join('\n'))), 'CONFIG_INVALID', /alias/);
  });
});

describe('recipes', () => {
  test.each(Object.keys(recipes))('%s is a set of settings that a run takes, and cites its source', (name) => {
    const recipe = findRecipe(name);
    expect(recipe.source.length).toBeGreaterThan(20);
    for (const trainPictures of [60, 3000, 30_000, 1_200_000]) {
      const given = typeof recipe.settings === 'function' ? recipe.settings({ trainPictures }) : recipe.settings;
      const complete = completeSettings({ backbone: 'resnet50', ...given });
      checkSettings(complete);
      expect(complete).toMatchObject(given);
    }
  });

  test('the hyper-rule of BiT gives the rates of its schedule, step by step', () => {
    const rule = findRecipe('bit-hyperrule').settings as (facts: { trainPictures: number }) => GivenSettings;
    for (const [trainPictures, falls, end] of [
      [325, [200, 300, 400], 500],
      [5120, [200, 300, 400], 500],
      [51_200, [3000, 6000, 9000], 10_000],
    ] as const) {
      const settings = completeSettings({ backbone: 'resnet50', ...rule({ trainPictures }) });
      const updates = Math.ceil(Math.ceil(trainPictures / settings.batchSize) / settings.accumulate!);
      const schedule = scheduleOf(settings, settings.lr!, updates);
      expect(schedule.totalSteps).toBe(end);
      for (const [i, fall] of falls.entries()) {
        expect(learningRate(fall - 1, schedule)).toBeCloseTo(3e-3 / 10 ** i, 12);
        expect(learningRate(fall, schedule)).toBeCloseTo(3e-4 / 10 ** i, 12);
      }
      const warmup = trainPictures < 20_000 ? 100 : 500;
      expect(learningRate(warmup / 2 - 1, schedule)).toBeCloseTo(1.5e-3, 12);
      expect(settings.mixup).toBe(trainPictures < 20_000 ? undefined : 0.1);
    }
  });

  test('one that depends on the pictures counts those that are given', async () => {
    const lines = ['path,label', ...Array.from({ length: 40 }, (_, i) => `${i}.png,${i % 2 ? 'a' : 'b'}`)];
    const manifest = temporaryFile('some.csv', lines.join('\n'));
    for (let i = 0; i < 40; i++) temporaryFile(`${i}.png`, '');
    const settings = await settingsOf(findRecipe('vit'), { manifest });
    expect(settings).toMatchObject({ epochs: 500, warmupEpochs: 25, accumulate: 32, inputSize: 384 });
  });

  test('an unknown one names the nearest', async () => {
    await expectFailure(() => findRecipe('notes-resnet5'), 'UNKNOWN_RECIPE', /notes-resnet5/);
  });

  test('what is given overrides it, and drives out what cannot stand beside it', () => {
    expect(layered({ epochs: 3, lr: 1, data: 'a' }, { lr: 2, manifest: 'b' })).toEqual({
      epochs: 3,
      lr: 2,
      manifest: 'b',
    });
    expect(layered({ manifest: 'b' }, { data: 'a' })).toEqual({ data: 'a' });
    expect(settings.manifest.conflicts).toEqual(['data']);
  });
});
