/** The data set of a run, for its model: found again, listed once, and left alone where it is another. */
import { cpSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { loadEngine } from '../../src/engine/tensorflow.js';
import { dataOfRun, labelledData, labelledSamples } from '../../src/train/labelled.js';
import { openModelFolder } from '../../src/weights/model-folder.js';
import { classNames, pictureFolder, temporary, train } from './support/training.js';

let data: string;
let run: string;
beforeAll(async () => {
  await loadEngine({ engine: 'tensorflow' });
  data = await pictureFolder('pictures', 3, 2);
  run = (await train({ data, epochs: 1 })).runFolder;
});

test('is listed once for all of its splits', async () => {
  const model = await openModelFolder(run);
  const again = temporary('moved');
  cpSync(data, again, { recursive: true });
  const labelled = labelledData(model.record, { data: again });
  renameSync(again, `${again}-away`);
  expect(labelled().split).toBe('val');
  expect(labelled('train').samples).toHaveLength(9);
  expect(labelled('all').samples).toHaveLength(15);
  expect(labelled().samples.map(({ path, label }) => [path, label])).toEqual(
    classNames.flatMap((name, label) => [0, 1].map((i) => [join(again, 'val', name, `val-${i}.png`), label])),
  );
  expect(() => labelledSamples(model.record, { data: again })).toThrow(/moved/);
  await model.close();
});

test('is found beside the model, as long as it is the same', async () => {
  const model = await openModelFolder(run);
  const found = await dataOfRun(model.folder, model.record);
  expect(found?.()).toEqual(labelledSamples(model.record, { data }));
  renameSync(join(data, 'train', 'sky', 'train-0.png'), join(data, 'train', 'sky', 'another.png'));
  expect(await dataOfRun(model.folder, model.record)).toBeUndefined();
  renameSync(data, `${data}-away`);
  expect(await dataOfRun(model.folder, model.record)).toBeUndefined();
  await model.close();
});
