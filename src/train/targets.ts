/** Target distributions of a batch. */

/**
 * One row a label: `1 - smoothing` at the label, and `smoothing / classes` added everywhere (Szegedy et al. 2016,
 * section 7), which is the rule of Keras and PyTorch alike.
 * @returns `[labels.length, classes]`, in C order
 */
export function smoothedTargets(labels: ArrayLike<number>, classes: number, smoothing: number): Float32Array {
  const targets = new Float32Array(labels.length * classes).fill(smoothing / classes);
  for (let i = 0; i < labels.length; i++) targets[i * classes + labels[i]!]! += 1 - smoothing;
  return targets;
}

/** Targets of a batch by how much their classes count. */
export interface WeightedTargets {
  /** `[N, classes]`, each row sums to one. */
  readonly targets: Float32Array;
  /** `[N]`: how much each row counts. */
  readonly weights: Float32Array;
}

/**
 * Distributions in which every class counts as much as it weighs: the loss of a row is `-sum of weight * target *
 * log(p)`, written as its weight in all times the loss of a distribution. The mean is over pictures, as Keras' of
 * `class_weight`, and as PyTorch's of `cross_entropy(weight=...)` with distributions as targets; with labels PyTorch
 * divides by the sum of the weights instead.
 * @param targets `[N, classes]`, each row sums to one; left as they are
 * @param classWeights `[classes]`, above 0
 */
export function weightedTargets(targets: Float32Array, classWeights: ArrayLike<number>): WeightedTargets {
  const classes = classWeights.length;
  const count = targets.length / classes;
  const [weighted, weights] = [new Float32Array(targets.length), new Float32Array(count)];
  for (let i = 0; i < count; i++) {
    let sum = 0;
    for (let c = 0; c < classes; c++) sum += targets[i * classes + c]! * classWeights[c]!;
    for (let c = 0; c < classes; c++) weighted[i * classes + c] = (targets[i * classes + c]! * classWeights[c]!) / sum;
    weights[i] = sum;
  }
  return { targets: weighted, weights };
}
