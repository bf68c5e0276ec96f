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
