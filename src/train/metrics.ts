/** Figures of a classifier, from what it said of each picture. */
import { topIndices } from './classifier.js';
import { orNull } from './run-folder.js';

/** Figures of one class; NaN where there is nothing to divide by. */
export interface ClassScores extends Scores {
  readonly class: string;
  /** Pictures of this class. */
  readonly support: number;
}

/** Of one class against the rest, or means over classes; 0 to 1. */
export interface Scores {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly specificity: number;
}

/** `confusion[label][prediction]` counts pictures. */
export type Confusion = readonly (readonly number[])[];

/** How far probabilities can be taken at their word. */
export interface Calibration {
  /** Expected calibration error, 0 to 1. */
  readonly ece: number;
  readonly bins: readonly CalibrationBin[];
}

/** The pictures whose most probable class has a probability above `from` and up to `to`. */
export interface CalibrationBin {
  readonly from: number;
  readonly to: number;
  readonly pictures: number;
  /** Mean of that probability; NaN without pictures. */
  readonly confidence: number;
  /** Share of them that is right; NaN without pictures. */
  readonly accuracy: number;
}

/** What was said of one picture. */
export interface Outcome {
  /** Its position in the samples. */
  readonly index: number;
  /** Index of its class. */
  readonly label: number;
  /** Of that class, 0 to 1. */
  readonly probability: number;
  /** Cross-entropy: minus the natural logarithm of that probability. */
  readonly loss: number;
  /** The {@link TOP} most probable classes, or all where there are fewer, the most probable first. */
  readonly top: readonly { readonly class: number; readonly probability: number }[];
}

/** Figures over all pictures. */
export interface Figures {
  readonly pictures: number;
  /** Mean cross-entropy. */
  readonly loss: number;
  /** 0 to 1. */
  readonly top1: number;
  /** 0 to 1; 1 with five classes or fewer. */
  readonly top5: number;
  readonly classes: readonly ClassScores[];
  /** The mean over classes, each counting once. */
  readonly macro: Scores;
  /** The mean over classes, each counting as often as it has pictures. */
  readonly weighted: Scores;
  readonly calibration: Calibration;
  readonly confusion: Confusion;
}

/** Guesses of a picture that are kept: top-5 is what ImageNet's challenge counts (Russakovsky et al. 2015, section 4.1). */
export const TOP = 5;

/** Cross-entropy of a label's probability; what is no longer above 0 has a finite one. */
export const lossOf = (probability: number): number => -Math.log(Math.max(probability, Number.MIN_VALUE));

/** @param probabilities of the classes, which sum to one */
export function outcomeOf(index: number, label: number, probabilities: ArrayLike<number>): Outcome {
  const probability = probabilities[label]!;
  return {
    index,
    label,
    probability,
    loss: lossOf(probability),
    top: topIndices(probabilities, TOP).map((i) => ({ class: i, probability: probabilities[i]! })),
  };
}

export const isRight = ({ label, top }: Outcome): boolean => top[0]!.class === label;

/** @param outcomes of one picture or more */
export function figuresOf(outcomes: readonly Outcome[], classes: readonly string[]): Figures {
  const confusion = classes.map(() => new Array<number>(classes.length).fill(0));
  for (const { label, top } of outcomes) confusion[label]![top[0]!.class]!++;
  const scores = classScores(confusion, classes);
  const taking = scores.filter((_, i) => scores[i]!.support + predictionsOf(confusion, i) > 0);
  const share = (counts: (outcome: Outcome) => boolean): number => outcomes.filter(counts).length / outcomes.length;
  return {
    pictures: outcomes.length,
    loss: sum(outcomes.map(({ loss }) => loss)) / outcomes.length,
    top1: share(isRight),
    top5: share(({ label, top }) => top.some((guess) => guess.class === label)),
    classes: scores,
    macro: meanOf(taking, () => 1),
    weighted: meanOf(taking, ({ support }) => support),
    calibration: calibrationOf(
      outcomes.map((outcome) => ({ confidence: outcome.top[0]!.probability, right: isRight(outcome) })),
    ),
    confusion,
  };
}

/** One class against the rest: Sokolova and Lapalme 2009, table 3. */
export function classScores(confusion: Confusion, classes: readonly string[]): ClassScores[] {
  const total = sum(confusion.map(sum));
  return classes.map((name, i) => {
    const truePositives = confusion[i]![i]!;
    const support = sum(confusion[i]!);
    const predicted = predictionsOf(confusion, i);
    const trueNegatives = total - support - predicted + truePositives;
    return {
      class: name,
      support,
      precision: truePositives / predicted,
      recall: truePositives / support,
      f1: (2 * truePositives) / (support + predicted),
      specificity: trueNegatives / (total - support),
    };
  });
}

/**
 * As scikit-learn's `classification_report`: what cannot be divided counts as 0, and a class that is neither a label nor
 * a prediction takes no part.
 * @see https://scikit-learn.org/stable/modules/generated/sklearn.metrics.classification_report.html
 */
function meanOf(classes: readonly ClassScores[], weightOf: (scores: ClassScores) => number): Scores {
  const whole = sum(classes.map(weightOf));
  const mean = (key: keyof Scores): number =>
    sum(classes.map((scores) => weightOf(scores) * (Number.isNaN(scores[key]) ? 0 : scores[key]))) / whole;
  return { precision: mean('precision'), recall: mean('recall'), f1: mean('f1'), specificity: mean('specificity') };
}

/** Guo et al. 2017, section 5 (M = 15). */
export const CALIBRATION_BINS = 15;

/**
 * The expected calibration error: `sum over bins of share * |accuracy - confidence|`, with bins of equal width that each
 * have their upper end.
 * @see Guo, Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, equations 2 and 3
 */
export function calibrationOf(
  pictures: readonly { readonly confidence: number; readonly right: boolean }[],
): Calibration {
  const within = Array.from({ length: CALIBRATION_BINS }, () => ({ pictures: 0, confidence: 0, right: 0 }));
  for (const { confidence, right } of pictures) {
    const bin = within[Math.max(0, Math.ceil(confidence * CALIBRATION_BINS) - 1)]!;
    bin.pictures++;
    bin.confidence += confidence;
    bin.right += Number(right);
  }
  const bins = within.map((bin, i) => ({
    from: i / CALIBRATION_BINS,
    to: (i + 1) / CALIBRATION_BINS,
    pictures: bin.pictures,
    confidence: bin.confidence / bin.pictures,
    accuracy: bin.right / bin.pictures,
  }));
  const gaps = within.map(({ confidence, right }) => Math.abs(right - confidence));
  return { ece: sum(gaps) / pictures.length, bins };
}

const predictionsOf = (confusion: Confusion, i: number): number => confusion.reduce((count, row) => count + row[i]!, 0);

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** As `metrics.json` keeps them: null where there is nothing to divide by. */
export interface ValidationMetrics {
  /** 0 to 1; 1 with five classes or fewer. */
  readonly top5: number;
  /** Expected calibration error, 0 to 1. */
  readonly ece: number;
  readonly macro: Scores;
  readonly weighted: Scores;
  readonly classes: readonly (Readonly<Record<keyof Scores, number | null>> & {
    readonly class: string;
    readonly support: number;
  })[];
}

export function validationOf({ top5, calibration, macro, weighted, classes }: Figures): ValidationMetrics {
  return {
    top5,
    ece: calibration.ece,
    macro,
    weighted,
    classes: classes.map((each) => ({
      class: each.class,
      support: each.support,
      precision: orNull(each.precision),
      recall: orNull(each.recall),
      f1: orNull(each.f1),
      specificity: orNull(each.specificity),
    })),
  };
}
