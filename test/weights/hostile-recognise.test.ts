import { mkdirSync } from 'node:fs';
import { describe, it } from 'vitest';
import { openWeights } from '../../src/weights/source.js';
import { expectFailure, temporary, temporaryFile } from './support/temporary.js';
import { zipOf } from './support/torch-writer.js';

describe('things that are found under the name of a weights file', () => {
  it('no file, a folder, an empty file', async () => {
    await expectFailure(() => openWeights(temporary('none.h5')), 'FILE_NOT_FOUND', /none\.h5: .*no such file/);
    mkdirSync(temporary('model.h5'));
    await expectFailure(() => openWeights(temporary('model.h5')), 'FILE_IS_FOLDER', /received a folder/);
    await expectFailure(() => openWeights(temporaryFile('empty.h5', '')), 'FILE_EMPTY', /is empty/);
    await expectFailure(() => openWeights(`${temporaryFile('file.h5', 'x')}/inside`), 'FILE_NOT_FOUND');
    await expectFailure(() => openWeights('/dev/null'), 'FILE_NOT_READ', /device/);
  });

  const tar = Buffer.alloc(512);
  tar.write('sys_info', 0);
  tar.write('ustar', 257);
  const checkpoint = Buffer.concat([Buffer.alloc(100), Buffer.from('57fb808b247547db', 'hex')]);
  const cases: [string, string | Uint8Array, string, RegExp][] = [
    ['a web page', '\n<!DOCTYPE html>\n<html><body>404</body></html>', 'FILE_IS_HTML', /web page/],
    ['an XML error', '<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', 'FILE_IS_HTML', /web page/],
    [
      'a Git LFS pointer',
      'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
      'FILE_IS_LFS_POINTER',
      /Git LFS pointer/,
    ],
    ['a tar of early PyTorch', tar, 'TORCH_TAR', /before version 0\.1\.10/],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0), 'FORMAT_UNKNOWN', /gzip/],
    ['JSON', '{"modelTopology": {}}', 'FORMAT_UNKNOWN', /JSON text/],
    ['one NumPy array', Buffer.from('\x93NUMPY\x01\x00', 'latin1'), 'FORMAT_UNKNOWN', /single NumPy array/],
    ['a picture', Buffer.from('ffd8ffe000104a46', 'hex'), 'FORMAT_UNKNOWN', /bytes ff d8 ff e0 00 10 4a 46/],
    ['one byte', 'x', 'FORMAT_UNKNOWN', /bytes 78/],
  ];
  it('what ends like a TensorFlow checkpoint and is none', async () => {
    await expectFailure(() => openWeights(temporaryFile('model.ckpt', checkpoint)), 'CHECKPOINT_DAMAGED', /checksum/);
  });
  for (const [title, content, code, message] of cases) {
    it(title, async () => {
      const error = await expectFailure(() => openWeights(temporaryFile('resnet50.h5', content)), code, message);
      if (!/Keras HDF5 .*PyTorch .*safetensors .*NumPy/.test(error.message)) throw error;
    });
  }

  it('other zip archives', async () => {
    const keras = await zipOf([
      ['config.json', '{}'],
      ['model.weights.h5', 'x'],
    ]);
    await expectFailure(() => openWeights(temporaryFile('m.keras', keras)), 'KERAS_ARCHIVE', /model\.weights\.h5/);
    const other = await zipOf([['readme.txt', 'hello']]);
    await expectFailure(() => openWeights(temporaryFile('m.zip', other)), 'FORMAT_UNKNOWN', /zip archive with neither/);
    const empty = await zipOf([]);
    await expectFailure(() => openWeights(temporaryFile('e.zip', empty)), 'FORMAT_UNKNOWN', /zip archive with neither/);
  });
});
