import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { openH5 } from '../../src/weights/keras/h5.js';
import { openWeights } from '../../src/weights/source.js';
import { type H5Tensor, type Layers, tensorOf, writeH5, writeKeras, writeText } from './support/h5-writer.js';
import { expectFailure, readAll, temporary, temporaryFile, withSource } from './support/temporary.js';

const layers: Layers = [
  ['input_1', []],
  ['conv1', [tensorOf('conv1/kernel:0', [3, 3, 1, 2], 1), tensorOf('conv1/bias:0', [2], 50)]],
  ['predictions', [tensorOf('predictions/kernel:0', [2, 3], 60)]],
];
const names = ['conv1/kernel', 'conv1/bias', 'predictions/kernel'];

describe('layouts of Keras', () => {
  for (const [title, options] of [
    ['strings of variable length', {}],
    ['strings of fixed length', { fixed: true }],
    ['lists split over several attributes', { chunk: 2 }],
  ] as const) {
    it(`weights alone, ${title}`, async () => {
      const path = temporary('weights.h5');
      await writeH5(path, (file) => {
        writeKeras(file, layers, options);
        writeText(file, 'keras_version', '2.15.0');
        writeText(file, 'backend', 'tensorflow');
      });
      await withSource(path, async (source) => {
        expect(source.format).toBe('keras-h5');
        expect(source.metadata).toEqual({ layout: 'keras-weights', keras_version: '2.15.0', backend: 'tensorflow' });
        expect(source.tensors).toEqual([
          { name: 'conv1/kernel', dtype: 'float32', shape: [3, 3, 1, 2] },
          { name: 'conv1/bias', dtype: 'float32', shape: [2] },
          { name: 'predictions/kernel', dtype: 'float32', shape: [2, 3] },
        ]);
        expect([...(await source.read('conv1/kernel'))]).toEqual(Array.from({ length: 18 }, (_, i) => 1 + i));
        expect([...(await source.read('predictions/kernel'))]).toEqual([60, 61, 62, 63, 64, 65]);
      });
    });
  }

  it('a whole model, whose optimiser is no part of it', async () => {
    const path = temporary('model.h5');
    await writeH5(path, (file) => {
      writeText(file, 'model_config', '{"class_name": "Functional"}');
      writeText(file, 'keras_version', '2.15.0');
      const group = file.create_group('model_weights');
      writeText(group, 'backend', 'tensorflow');
      writeKeras(group, layers);
      file.create_group('optimizer_weights').create_dataset({ name: 'iter:0', data: Int32Array.of(3), shape: [1] });
    });
    await withSource(path, (source) => {
      expect(source.tensors.map(({ name }) => name)).toEqual(names);
      expect(source.metadata).toEqual({
        layout: 'keras-model',
        keras_version: '2.15.0',
        backend: 'tensorflow',
        model_config: '{"class_name": "Functional"}',
      });
      expect(source.setAside).toEqual([{ name: 'optimizer_weights/iter:0', reason: 'state of the optimiser' }]);
    });
  });

  it('a model inside a layer keeps the inner names; odd names get their layer, wrappers of Keras 3 go', async () => {
    const path = temporary('nested.h5');
    await writeH5(path, (file) =>
      writeKeras(file, [
        ['resnet50', [tensorOf('conv1_conv/kernel:0', [1]), tensorOf('conv1_bn/gamma:0', [1])]],
        ['block1_conv1', [tensorOf('block1_conv1_W_1:0', [1]), tensorOf('block1_conv1_b_1:0', [1])]],
        ['dense', [tensorOf('kernel', [1])]],
        ['head', [tensorOf('sequential/head/bias', [1])]],
        ['conv1', [tensorOf('conv10/kernel:0', [1])]],
      ]),
    );
    await withSource(path, (source) => {
      expect(source.tensors.map(({ name }) => name)).toEqual([
        'resnet50/conv1_conv/kernel',
        'resnet50/conv1_bn/gamma',
        'block1_conv1/block1_conv1_W_1',
        'block1_conv1/block1_conv1_b_1',
        'dense/kernel',
        'head/bias',
        'conv1/conv10/kernel',
      ]);
    });
  });

  it('a model that holds a layer of its own name, and a layer that is listed twice', async () => {
    const path = temporary('own-name.h5');
    await writeH5(path, (file) => {
      writeKeras(file, [
        ['head', [tensorOf('dense/kernel:0', [1]), tensorOf('head/dense/kernel:0', [2])]],
        ['dense', [tensorOf('dense/kernel:0', [3])]],
      ]);
      file.delete_attribute('layer_names');
      file.create_attribute('layer_names', ['head', 'dense', 'head'], [3], 'S');
    });
    await withSource(path, ({ tensors }) =>
      expect(tensors).toEqual([
        { name: 'head/dense/kernel', dtype: 'float32', shape: [1] },
        { name: 'head/head/dense/kernel', dtype: 'float32', shape: [2] },
        { name: 'dense/kernel', dtype: 'float32', shape: [3] },
      ]),
    );
  });

  it('datasets that no layer lists are set aside', async () => {
    const path = temporary('unlisted.h5');
    await writeH5(path, (file) => {
      writeKeras(file, layers);
      (file.get('conv1') as typeof file).create_dataset({ name: 'left', data: Float32Array.of(1), shape: [1] });
    });
    await withSource(path, ({ tensors, setAside }) => {
      expect(tensors.map(({ name }) => name)).toEqual(names);
      expect(setAside).toEqual([{ name: 'conv1/left', reason: "not listed among any layer's weights" }]);
    });
  });

  for (const [title, attribute, value, message] of [
    ['on Theano', 'backend', 'theano', /turned by 180 degrees/],
    [
      'of Keras 1 with channels first',
      'model_config',
      '{"class_name": "Sequential", "config": [{"class_name": "Convolution2D", "config": {"dim_ordering": "th"}}]}',
      /\[out, in, height, width\]/,
    ],
  ] as const) {
    it(`kernels of a model ${title} are refused`, async () => {
      const path = temporary('kernels.h5');
      await writeH5(path, (file) => {
        writeKeras(file, layers);
        writeText(file, attribute, value);
      });
      await expectFailure(() => openWeights(path), 'KERAS_KERNELS', message);
    });
  }

  it('variables of the model itself', async () => {
    const path = temporary('top.h5');
    await writeH5(path, (file) => {
      writeKeras(file, [...layers, ['top_level_model_weights', [tensorOf('cls_token:0', [4])]]]);
      file.delete_attribute('layer_names');
      file.create_attribute(
        'layer_names',
        layers.map(([layer]) => layer),
        [layers.length],
        'S',
      );
    });
    await withSource(path, (source) => expect(source.tensors.map(({ name }) => name)).toEqual([...names, 'cls_token']));
  });

  it('the numbered variables of Keras 3, by class and number', async () => {
    const path = temporary('keras3.weights.h5');
    await writeH5(path, (file) => {
      for (const [group, shape] of [
        ['layers', [2]],
        ['optimizer', [7]],
      ] as const) {
        const vars = file.create_group(group).create_group('conv2d').create_group('vars');
        vars.create_dataset({
          name: '0',
          data: Float32Array.from({ length: shape[0] }, (_, i) => i),
          shape: [...shape],
        });
      }
    });
    await withSource(path, (source) => {
      expect(source.metadata).toEqual({ layout: 'keras3-weights', layers: 'counted' });
      expect(source.setAside).toEqual([{ name: 'optimizer/conv2d/vars/0', reason: 'state of the optimiser' }]);
      expect(source.tensors).toEqual([{ name: 'conv2d/kernel', dtype: 'float32', shape: [2] }]);
    });
  });

  // a class of the user's own in Keras 3.6 and later: self.first = Conv2D(...), self.blocks = [Dense(...), Dense(...)]
  it('of Keras 3 in attributes of a model: the class from a name that Keras gave, two of one name by path', async () => {
    const path = temporary('attributes.weights.h5');
    await writeH5(path, (file) => {
      writeText(file.create_group('vars'), 'name', 'mine');
      for (const [group, name, shapes] of [
        ['first', 'conv2d_3', [[3, 3, 1, 2], [2]]],
        ['second', 'other', [[2, 4]]],
        ['blocks/dense', 'dense_7', [[4, 5]]],
        ['blocks/dense_1', 'dense_7', [[5, 6]]],
      ] as const) {
        const vars = group
          .split('/')
          .reduce((at, part) => (at.get(part) ?? at.create_group(part)) as typeof file, file);
        const own = vars.create_group('vars');
        writeText(own, 'name', name);
        shapes.forEach((shape, i) => {
          const { data } = tensorOf('', shape);
          own.create_dataset({ name: `${i}`, data, shape: [...shape] });
        });
      }
    });
    await withSource(path, (source) => {
      expect(source.metadata).toEqual({ layout: 'keras3-weights' });
      expect(source.tensors.map(({ name }) => name)).toEqual([
        'blocks/dense/vars/0',
        'blocks/dense_1/vars/0',
        'conv2d_3/kernel',
        'conv2d_3/bias',
        'other/vars/0',
      ]);
    });
  });

  it('any other HDF5 file, by path; text is no tensor, and links are not followed', async () => {
    const path = temporary('plain.h5');
    const outside = temporary('outside.h5');
    await writeH5(
      outside,
      (file) => void file.create_dataset({ name: 'secret', data: Float32Array.of(1), shape: [1] }),
    );
    await writeH5(path, (file) => {
      const group = file.create_group('MobilenetV2');
      group.create_dataset({ name: '__proto__', data: Float32Array.of(5, 6), shape: [2] });
      group.create_dataset({ name: 'note', data: 'text', dtype: 'S' });
      file.create_soft_link('/MobilenetV2/__proto__', 'soft');
      file.create_external_link(outside, 'secret', 'external');
      file.create_hard_link('/MobilenetV2/__proto__', 'hard');
    });
    expect(await readAll(path)).toEqual(
      new Map([
        ['MobilenetV2/__proto__', { shape: [2], data: [5, 6] }],
        ['hard', { shape: [2], data: [5, 6] }],
      ]),
    );
    await withSource(path, ({ metadata, setAside }) => {
      expect(metadata.layout).toBe('plain');
      expect(setAside).toEqual([
        { name: 'MobilenetV2/note', reason: 'no numbers' },
        { name: 'external', reason: 'a link, which is not followed' },
        { name: 'soft', reason: 'a link, which is not followed' },
      ]);
    });
  });
});

describe('numbers', () => {
  it('of every type and storage', async () => {
    const path = temporary('types.h5');
    const squares = Float32Array.from({ length: 600 }, (_, i) => i * i);
    await writeH5(path, (file) => {
      file.create_dataset({ name: 'double', data: Float64Array.of(0.1, 1e300), shape: [2] });
      file.create_dataset({ name: 'long', data: BigInt64Array.of(-5n), shape: [1] });
      file.create_dataset({ name: 'byte', data: Uint8Array.of(200), shape: [1] });
      file.create_dataset({ name: 'scalar', data: Float32Array.of(3), shape: [] });
      file.create_dataset({ name: 'empty', data: new Float32Array(), shape: [0, 3] });
      file.create_dataset({ name: 'packed', data: squares, shape: [30, 20], chunks: [10, 10], compression: 6 });
    });
    const all = await readAll(path);
    expect(all.get('double')?.data).toEqual([Math.fround(0.1), Number.POSITIVE_INFINITY]);
    expect(all.get('long')?.data).toEqual([-5]);
    expect(all.get('byte')?.data).toEqual([200]);
    expect(all.get('scalar')).toEqual({ shape: [], data: [3] });
    expect(all.get('empty')).toEqual({ shape: [0, 3], data: [] });
    expect(all.get('packed')).toEqual({ shape: [30, 20], data: [...squares] });
  });

  // h5py 3.16: f.create_dataset('big', data=np.array([1.5, -2], '>f4')) and so on; h5wasm cannot write these
  it('of h5py: big-endian, half precision, booleans, checksummed chunks; text, nothing and complex are left out', async () => {
    const path = fileURLToPath(new URL('./fixtures/h5py-types.h5', import.meta.url));
    expect(await readAll(path)).toEqual(
      new Map([
        ['big', { shape: [2], data: [1.5, -2] }],
        ['bool', { shape: [2], data: [1, 0] }],
        ['half', { shape: [2, 1], data: [0.5, 65504] }],
        ['long', { shape: [4], data: [-1, 0, 1, 2] }],
        ['packed', { shape: [8, 5], data: Array.from({ length: 40 }, (_, i) => i) }],
      ]),
    );
    await withSource(path, ({ tensors, setAside }) => {
      expect(setAside).toEqual(['complex', 'null', 'text'].map((name) => ({ name, reason: 'no numbers' })));
      expect(Object.fromEntries(tensors.map(({ name, dtype }) => [name, dtype]))).toEqual({
        big: 'float32',
        bool: 'bool',
        half: 'float16',
        long: 'int64',
        packed: 'float64',
      });
    });
  });

  it('of a tensor larger than one slice', async () => {
    const path = temporary('large.h5');
    const shape = [1000, 3, 3000]; // 36 MB, slices of 16 MiB do not divide it
    const large: H5Tensor = tensorOf('fc6/kernel:0', shape);
    await writeH5(path, (file) => writeKeras(file, [['fc6', [large]]]));
    await withSource(path, async (source) => {
      const read = Buffer.from((await source.read('fc6/kernel')).buffer);
      expect(read.equals(Buffer.from(large.data.buffer))).toBe(true);
    });
  });
});

describe('several files at once', () => {
  it('are kept apart, and may be read in any order', async () => {
    const paths = [1, 2, 3].map((n) => temporary(`several-${n}.h5`));
    for (const [i, path] of paths.entries()) {
      await writeH5(path, (file) => writeKeras(file, [['a', [tensorOf('a/w:0', [2], i * 10)]]]));
    }
    const sources = await Promise.all(paths.map((path) => openWeights(path)));
    const read = await Promise.all([...sources].reverse().map((source) => source.read('a/w')));
    expect(read.map((values) => [...values])).toEqual([
      [20, 21],
      [10, 11],
      [0, 1],
    ]);
    await sources[1]!.close();
    expect([...(await sources[2]!.read('a/w'))]).toEqual([20, 21]);
    await Promise.all([sources[0]!.close(), sources[2]!.close()]);
  });
});

describe('a program that has read a file', () => {
  for (const [title, end] of [
    ['closed it', 'await source.close();'],
    ['left it open', ''],
  ] as const) {
    it(`and ${title} ends at once`, async () => {
      const path = temporary('ends.h5');
      await writeH5(path, (file) => writeKeras(file, layers));
      const door = new URL('../../dist/weights/source.js', import.meta.url).href;
      const program = `
        const { openWeights } = await import(${JSON.stringify(door)});
        const source = await openWeights(${JSON.stringify(path)});
        console.log((await source.read('conv1/bias')).join());
        ${end}`;
      const run = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], {
        timeout: 20_000,
      });
      await expect(run).resolves.toEqual({ stdout: '50,51\n', stderr: '' });
    });
  }
});

describe('damaged files', () => {
  it('a list of weights that are not there names every one', async () => {
    const path = temporary('listed.h5');
    await writeH5(path, (file) => {
      writeKeras(file, layers);
      const conv1 = file.get('conv1') as typeof file;
      conv1.delete_attribute('weight_names');
      conv1.create_attribute(
        'weight_names',
        ['conv1/kernel:0', 'conv1/gone:0', '../predictions/predictions/kernel:0'],
        [3],
        'S',
      );
      (file.get('predictions') as typeof file).delete_attribute('weight_names');
      file.delete_attribute('layer_names');
      file.create_attribute('layer_names', ['conv1', 'predictions', 'fc'], [3], 'S');
    });
    await expectFailure(
      () => openWeights(path),
      'H5_LAYOUT',
      /lists "conv1\/gone:0".*\n.*\.\..*\n.*"predictions" has no attribute.*\n.*layer "fc" is listed/,
    );
  });

  it('a file that is cut off says so, wherever it ends', async () => {
    const path = temporary('whole.h5');
    await writeH5(path, (file) => writeKeras(file, layers));
    const bytes = readFileSync(path);
    for (let length = 8; length < bytes.length; length += Math.ceil(bytes.length / 20)) {
      await expectFailure(
        () => openWeights(temporaryFile('cut.h5', bytes.subarray(0, length))),
        'H5_DAMAGED',
        /cannot be opened/,
      );
    }
    await expectFailure(
      () => openWeights(temporaryFile('cut.h5', bytes.subarray(0, -1))),
      'H5_DAMAGED',
      /truncated file/,
    );
  });

  it('declared numbers that the file does not hold are not allocated', async () => {
    const path = temporary('sparse.h5');
    await writeH5(path, (file) => {
      // chunks that were never written read as zeros, and take no room
      const dataset = file.create_dataset({
        name: 'x',
        data: Float32Array.of(1),
        shape: [1],
        maxshape: [null],
        chunks: [1],
      });
      dataset.resize([400_000_000]);
    });
    await expectFailure(() => openH5(path), 'LIMIT_EXCEEDED', /declares 1600000000 bytes in a file of/);
  });

  it('a file on which the library loops for ever is given up, and the next one is read', async () => {
    const path = temporary('text.h5');
    await writeH5(path, (file) => {
      writeKeras(file, [['a', [tensorOf('a/w:0', [2], 1)]]]);
      writeText(file, 'backend', 'tensorflow');
    });
    const bytes = readFileSync(path);
    expect([...(await readAll(path)).get('a/w')!.data]).toEqual([1, 2]);
    // an object of a global heap that is one byte too long leads its reader to the middle of the next, of length 0
    const heap = bytes.indexOf('GCOL');
    let hung = 0;
    for (let at = heap + 24; at < heap + 200 && hung === 0; at += 8) {
      const copy = Buffer.from(bytes);
      copy[at] = 0x21;
      const opened = openH5(temporaryFile('hang.h5', copy), { timeoutMs: 1000 });
      await opened.then(
        (source) => source.close(),
        (error) => {
          if (error.code === 'H5_TIMEOUT') hung++;
        },
      );
    }
    expect(hung).toBe(1);
    expect([...(await readAll(path)).get('a/w')!.data]).toEqual([1, 2]);
  });
});
