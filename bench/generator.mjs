/** The deterministic weights of tools/golden/generator.py, bit for bit, for the JavaScript side of the benches. */

/** FNV-1a, 32 bits, over UTF-8 (Fowler, Noll, Vo). */
function fnv1a32(text) {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) h = Math.imul(h ^ byte, 0x01000193);
  return h >>> 0;
}

/**
 * The tensor of that name, C order: element i is `center + scale * r`, r in [-1, 1) from murmur3's finaliser of
 * `fnv1a32(name) + i * 0x9E3779B9`.
 */
export function generateTensor(name, shape, center = 0, scale = 1) {
  const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
  let key = fnv1a32(name);
  for (let i = 0; i < values.length; i++) {
    let x = key;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    x = (x ^ (x >>> 16)) >>> 0;
    values[i] = center + scale * (x / 2 ** 31 - 1);
    key = (key + 0x9e3779b9) >>> 0;
  }
  return values;
}
