/** A run that recomputes learns what any other does, and keeps in args.json that it did. */
import { expect, test } from 'vitest';
import { readArguments } from '../../src/train/run-folder.js';
import { historyOf, pictureFolder, tracesOf, train } from './support/training.js';

test('a run that recomputes learns as any other, and keeps in args.json that it does', async () => {
  const data = await pictureFolder('pictures', 4, 2);
  const settings = { data, freeze: 'last:4', epochs: 2 } as const;
  const plain = await tracesOf(settings);
  const { runFolder } = await train({ ...settings, recompute: true });
  expect((await readArguments(runFolder)).settings.recompute).toBe(true);
  const losses = historyOf(runFolder).map(({ trainLoss }) => trainLoss);
  plain.history.forEach(({ trainLoss }, i) => {
    expect(losses[i]! / trainLoss).toBeCloseTo(1, 4);
  });
});
