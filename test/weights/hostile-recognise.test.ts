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
    ['what a server says', '404: Not Found', 'FILE_IS_TEXT', /this is text, not weights: "404: Not Found"/],
    ['an archive of bzip2', 'BZh91AY&SY', 'ARCHIVE_UNSUPPORTED', /packed by bzip2/],
    ['an archive of xz', Buffer.from('fd377a585a000004', 'hex'), 'ARCHIVE_UNSUPPORTED', /packed by xz/],
    ['an archive of 7-Zip', Buffer.from('377abcaf271c0004', 'hex'), 'ARCHIVE_UNSUPPORTED', /packed by 7-Zip/],
    ['an archive of RAR', 'Rar!\x1a\x07\x00', 'ARCHIVE_UNSUPPORTED', /packed by RAR/],
    ['an archive of zstd', Buffer.from('28b52ffd24', 'hex'), 'ARCHIVE_UNSUPPORTED', /packed by zstd/],
    // the beginnings of what TensorFlow 2.15 wrote
    ['TensorFlow Lite', Buffer.from('1c00000054464c3314002000', 'hex'), 'FILE_IS_TFLITE', /TensorFlow Lite/],
    [
      'the graph of a SavedModel',
      Buffer.from('080112c7d8010aef0d12c20d0a5e0a1041737369676e5661726961626c654f70', 'hex'),
      'FILE_IS_SAVED_MODEL',
      /graph of a SavedModel/,
    ],
    [
      'the graph of a checkpoint',
      Buffer.from('0ab306128f060a440a0541646456321206', 'hex'),
      'FILE_IS_META_GRAPH',
      /graph of a checkpoint/,
    ],
    // ModelProto of onnx.proto, with and without producer_name; Model of Core ML's Model.proto
    ['ONNX of PyTorch', '\x08\x06\x12\x07pytorch\x1a\x051.9.0:', 'FILE_IS_ONNX', /ONNX model/],
    ['ONNX', Buffer.from('08083a9a010a', 'hex'), 'FILE_IS_ONNX', /ONNX model/],
    ['Core ML', '\x08\x01\x12\x40\x0a\x16\x0a\x05image\x1a\x0d', 'FILE_IS_COREML', /Core ML model/],
    ['MatConvNet', 'MATLAB 5.0 MAT-file, Platform: GLNXA64', 'FILE_IS_MATLAB', /MATLAB file/],
    // flax.serialization.to_bytes({'params': {'a': ...}}) of flax 0.12
    ['msgpack of flax', Buffer.from('81a6706172616d7381a161c71501', 'hex'), 'FILE_IS_MSGPACK', /msgpack/],
    ['one NumPy array', Buffer.from('\x93NUMPY\x01\x00', 'latin1'), 'FORMAT_UNKNOWN', /single NumPy array/],
    ['a picture', Buffer.from('ffd8ffe000104a46', 'hex'), 'FORMAT_UNKNOWN', /bytes ff d8 ff e0 00 10 4a 46/],
    ['one byte', Buffer.from([1]), 'FORMAT_UNKNOWN', /bytes 01/],
    [
      'other JSON',
      '{"architectures": ["ViT"], "model_type": "vit"}',
      'FORMAT_UNKNOWN',
      /the keys "architectures", "model_type"/,
    ],
  ];
  it('what ends like a TensorFlow checkpoint and is none', async () => {
    await expectFailure(() => openWeights(temporaryFile('model.ckpt', checkpoint)), 'CHECKPOINT_DAMAGED', /checksum/);
  });
  for (const [title, content, code, message] of cases) {
    it(title, async () => {
      const error = await expectFailure(() => openWeights(temporaryFile('resnet50.h5', content)), code, message);
      if (!/expected Keras .*PyTorch .*safetensors .*NumPy/.test(error.message)) throw error;
    });
  }

  it('other zip archives', async () => {
    const other = await zipOf([['readme.txt', 'hello']]);
    await expectFailure(() => openWeights(temporaryFile('m.zip', other)), 'ARCHIVE_EMPTY', /readme\.txt/);
    const empty = await zipOf([]);
    await expectFailure(() => openWeights(temporaryFile('e.zip', empty)), 'ARCHIVE_EMPTY', /the archive is empty/);
  });

  it('JSON that leads to no weights', async () => {
    const open = (content: string) => () => openWeights(temporaryFile('model.json', content));
    await expectFailure(open('{"modelTopology": {}}'), 'TFJS_NO_WEIGHTS');
    const keras = '\uFEFF{"class_name": "Functional", "config": {}, "keras_version": "2.15.0"}';
    await expectFailure(open(keras), 'KERAS_ARCHITECTURE', /architecture of a Keras model/);
    await expectFailure(open('[{"a": 1}]'), 'FORMAT_UNKNOWN', /this is JSON; expected/);
    await expectFailure(open('{"weight_map": {'), 'JSON_INVALID');
  });

  it('downloads that have not finished', async () => {
    for (const name of ['vgg16.h5.part', 'vgg16.h5.crdownload', 'vgg16.h5.incomplete', 'Unconfirmed.download']) {
      await expectFailure(() => openWeights(temporaryFile(name, 'x')), 'FILE_UNFINISHED', /has not finished/);
    }
  });
});
