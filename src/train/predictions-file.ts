/** What a model said of each picture, as a CSV file. */
import { stringify } from 'csv-stringify/sync';
import { writeFileAtomic } from '../files.js';
import type { PictureOutcome } from './evaluate.js';
import { isRight, TOP } from './metrics.js';

/**
 * A row a picture: its path, its class, the most probable class, 1 where these are the same, the loss, the probability
 * of its own class, and the most probable classes with their probabilities, the most probable first.
 * @throws FILE_NOT_WRITTEN
 */
export async function writePredictions(
  file: string,
  outcomes: readonly PictureOutcome[],
  classes: readonly string[],
): Promise<void> {
  const places = Array.from({ length: Math.min(TOP, classes.length) }, (_, i) => i);
  const columns = [
    ...['path', 'label', 'prediction', 'correct', 'loss', 'label_probability'],
    ...places.flatMap((i) => [`class_${i + 1}`, `probability_${i + 1}`]),
  ];
  const rows = outcomes.map((outcome) => {
    const { path, label, top, loss, probability } = outcome;
    const guesses = places.flatMap((i) => [classes[top[i]!.class]!, top[i]!.probability]);
    return [path, classes[label]!, classes[top[0]!.class]!, Number(isRight(outcome)), loss, probability, ...guesses];
  });
  await writeFileAtomic(file, stringify([columns, ...rows]));
}
