/** Names that Keras gives by counting through a whole program, so that two files of one network differ. */

/**
 * The names with places for numbers: of `aux_2/dense_2` and `aux_2/dense_3`, the layers of their kind beside each other,
 * they become `aux_2/dense` and `aux_2/dense_1`. A Sequential without a name of its own is counted too, and left out:
 * `sequential_3/dense_2` is `dense_2`.
 */
export function placesOf(names: readonly string[]): string[] {
  const parts = names.map((name) => {
    const bare = name.replaceAll(/(?<=^|\/)sequential(_\d+)?\//g, '');
    return /^(.*?)(?:_(\d+))?(\/[^/]*)$/.exec(bare) ?? [bare, bare, undefined, ''];
  });
  const numbers = new Map<string, Set<number>>();
  for (const [, base, number] of parts) {
    numbers.set(base!, (numbers.get(base!) ?? new Set()).add(Number(number ?? 0)));
  }
  const places = new Map(
    [...numbers].map(([base, set]) => {
      const inOrder = [...set].sort((a, b) => a - b);
      return [base, new Map(inOrder.map((number, place) => [number, place]))] as const;
    }),
  );
  return parts.map(([, base, number, leaf]) => {
    const place = places.get(base!)!.get(Number(number ?? 0))!;
    return `${base}${place === 0 ? '' : `_${place}`}${leaf}`;
  });
}

/** Variables that nobody named are counted through the program by Keras 3: `layer_scale/variable_14`. */
export function withoutCounts(names: readonly string[]): string[] {
  const plain = names.map((name) => name.replace(/(?<=^|\/)variable(_\d+)?$/i, 'Variable'));
  const times = new Map<string, number>();
  for (const name of plain) times.set(name, (times.get(name) ?? 0) + 1);
  return plain.map((name, i) => (times.get(name) === 1 ? name : names[i]!)); // of one layer, the number tells them apart
}

/** Layers in a Sequential in a layer are three levels below it. */
const MOST_LEVELS = 8;

/**
 * In a checkpoint of TensorFlow 2 the layers of a Sequential inside a layer lose that layer's name, which those beside it
 * keep: of `inception_5a/conv2d_60/kernel` at `layer_with_weights-11/branch1/kernel` and `conv2d_61/kernel` at
 * `layer_with_weights-11/branch2/layer_with_weights-0/kernel`, the second is `inception_5a/conv2d_61/kernel`.
 * @param paths of attributes, for each name
 */
export function withOuterNames(names: readonly string[], paths: readonly string[]): string[] {
  const outerAt = new Map<string, string>();
  for (const [i, name] of names.entries()) {
    const [outer, object] = [withoutLast(name, 2), withoutLast(paths[i]!, 2)];
    if (name !== paths[i] && outer !== '' && object !== '') outerAt.set(object, outer);
  }
  return names.map((name, i) => {
    if (name === paths[i]) return name; // it has none of its own
    for (let up = 1; up <= MOST_LEVELS; up++) {
      const outer = outerAt.get(withoutLast(paths[i]!, up));
      if (outer !== undefined) return name.startsWith(`${outer}/`) ? name : `${outer}/${name}`;
    }
    return name;
  });
}

/** `a/b/c` without its last two parts is `a`; empty where it has no more. */
const withoutLast = (path: string, count: number): string => path.split('/').slice(0, -count).join('/');
