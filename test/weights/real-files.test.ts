/** Every file that Keras, PyTorch, safetensors and numpy wrote for us reads as the tensors that they hold. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readNpy } from '../../src/weights/numpy/npy.js';
import { fixturesFolder } from '../support/golden.js';
import { expectFailure, withSource } from './support/temporary.js';

interface Expected {
  readonly name: string;
  /** The layer of a Keras file that lists the tensor. */
  readonly layer?: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Float32, little-endian, base64. */
  readonly values: string;
}

interface Index {
  readonly writer: string;
  readonly files: readonly {
    readonly file: string;
    readonly about: string;
    readonly hostile?: boolean;
    /** What the error says of a file that is not read. */
    readonly refused?: { readonly code: string; readonly message: string };
    readonly tensors: readonly Expected[];
  }[];
}

const folder = join(fixturesFolder, 'files');
const indexes = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Index);

const numbers = (values: string) => new Float32Array(new Uint8Array(Buffer.from(values, 'base64')).buffer);

/** The name that is given out: from the layer's own name on, or the listed name behind it. */
function nameOf({ name, layer }: Expected): string {
  if (layer === undefined) return name;
  if (name === `wrapped/${layer}/kernel` || name === `wrapped/${layer}/bias`) return name.slice('wrapped/'.length);
  return name.startsWith(`${layer}/`) ? name : `${layer}/${name}`;
}

const byName = (a: { name: string }, b: { name: string }) => (a.name < b.name ? -1 : 1);

for (const { writer, files } of indexes) {
  describe(writer, () => {
    for (const { file, about, hostile, refused, tensors } of files) {
      it(`${file}: ${about}`, async () => {
        const path = join(folder, file);
        if (hostile) {
          await expectFailure(() => withSource(path, () => undefined), 'PICKLE_REFUSED', /print/);
        } else if (refused !== undefined) {
          await expectFailure(() => withSource(path, () => undefined), refused.code, new RegExp(refused.message));
        } else if (file.endsWith('.npy')) {
          const [expected] = tensors;
          expect(await readNpy(path)).toEqual({ shape: expected!.shape, data: numbers(expected!.values) });
        } else {
          await withSource(path, async (source) => {
            expect([...source.tensors].sort(byName)).toEqual(
              tensors.map((row) => ({ name: nameOf(row), dtype: row.dtype, shape: row.shape })).sort(byName),
            );
            for (const expected of tensors) {
              expect(await source.read(nameOf(expected)), expected.name).toEqual(numbers(expected.values));
            }
          });
        }
      });
    }
  });
}

it('there are files of every writer', () => {
  expect(indexes.map(({ writer }) => writer.split(' ')[0]).sort()).toEqual([
    'Keras',
    'Keras',
    'Python',
    'huggingface_hub',
    'numpy',
    'numpy',
    'tensorflow',
    'tensorflow',
    'tensorflowjs',
    'torch',
  ]);
});
