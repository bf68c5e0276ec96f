/** Figures of a classifier, from its confusion matrix. */

/** Figures of one class; NaN where there is nothing to divide by. */
export interface ClassScores {
  readonly class: string;
  /** Pictures of this class. */
  readonly support: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly specificity: number;
}

/** `confusion[label][prediction]` counts pictures. */
export type Confusion = readonly (readonly number[])[];

/** One class against the rest: Sokolova and Lapalme 2009, table 3. */
export function classScores(confusion: Confusion, classes: readonly string[]): ClassScores[] {
  const total = sum(confusion.map(sum));
  return classes.map((name, i) => {
    const truePositives = confusion[i]![i]!;
    const support = sum(confusion[i]!);
    const predicted = sum(confusion.map((row) => row[i]!));
    const trueNegatives = total - support - predicted + truePositives;
    const [precision, recall] = [truePositives / predicted, truePositives / support];
    return {
      class: name,
      support,
      precision,
      recall,
      f1: (2 * truePositives) / (support + predicted),
      specificity: trueNegatives / (total - support),
    };
  });
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
