/** From logits to probabilities, on plain numbers. */

/**
 * Softmax of each row, in double precision.
 * @param logits `[rows, classes]`, C order, as the result, whose rows each sum to 1
 */
export function softmaxRows(logits: ArrayLike<number>, classes: number): Float64Array {
  const out = Float64Array.from(logits);
  for (let start = 0; start < out.length; start += classes) {
    const row = out.subarray(start, start + classes);
    const largest = row.reduce((a, b) => Math.max(a, b)); // without it exp overflows
    row.forEach((value, i) => {
      row[i] = Math.exp(value - largest);
    });
    const sum = row.reduce((a, b) => a + b);
    row.forEach((power, i) => {
      row[i] = power / sum;
    });
  }
  return out;
}
