/** Files that are taken for weights and are none that can be read: how each is told, and what to do about it. */

/** One kind of such files. */
interface Stranger {
  readonly code: string;
  /** For people: `this is ...`. */
  readonly what: string;
  readonly hint: string;
  /** @param head the first bytes of the file, up to 1024 */
  is(head: Buffer): boolean;
}

const begins =
  (...bytes: number[]) =>
  (head: Buffer): boolean =>
    head.subarray(0, bytes.length).equals(Buffer.from(bytes));

const says =
  (text: RegExp) =>
  (head: Buffer): boolean =>
    text.test(head.toString('latin1').trimStart());

const packed = (by: string, is: Stranger['is']): Stranger => ({
  code: 'ARCHIVE_UNSUPPORTED',
  what: `this is an archive packed by ${by}`,
  hint: 'unpack it, and give the weights file; .zip, .tar, .tar.gz and .gz need not be unpacked',
  is,
});

export const strangers: readonly Stranger[] = [
  {
    code: 'FILE_IS_HTML',
    what: 'this is a web page, not a weights file',
    hint: 'the download was answered with a page (an error, a login, a notice): open the address in a browser, or use the direct link',
    is: says(/^(<!doctype html|<html|<head|<\?xml|<!--)/i),
  },
  {
    code: 'FILE_IS_LFS_POINTER',
    what: 'this is a Git LFS pointer, not the weights themselves',
    hint: 'fetch the content with: git lfs pull',
    is: says(/^version https:\/\/git-lfs\.github\.com\/spec\//),
  },
  packed('bzip2', says(/^BZh[1-9]/)),
  packed('xz', begins(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0)),
  packed('zstd', begins(0x28, 0xb5, 0x2f, 0xfd)),
  packed('7-Zip', begins(0x37, 0x7a, 0xbc, 0xaf, 0x27, 0x1c)),
  packed('RAR', says(/^Rar!/)),
  packed('compress', begins(0x1f, 0x9d)),
  {
    code: 'FORMAT_UNKNOWN',
    what: 'this is a single NumPy array',
    hint: 'save all arrays with their names: numpy.savez',
    is: says(/^\x93NUMPY/),
  },
  {
    code: 'FILE_IS_TFLITE', // the identifier of a flatbuffer: tensorflow/lite/schema/schema.fbs, file_identifier
    what: 'this is a TensorFlow Lite model, whose weights are fused and quantised for phones',
    hint: 'give the checkpoint, SavedModel or Keras file that it was made of',
    is: (head) => head.toString('latin1', 4, 8) === 'TFL3',
  },
  {
    code: 'FILE_IS_ONNX',
    what: 'this is an ONNX model',
    hint: 'give the file that it was exported from: a state dict of PyTorch, a Keras file, a checkpoint',
    is: (head) => protobufKind(head) === 'onnx',
  },
  {
    code: 'FILE_IS_COREML',
    what: 'this is a Core ML model',
    hint: 'give the file that it was converted from: a state dict of PyTorch, a Keras file, a checkpoint',
    is: (head) => protobufKind(head) === 'coreml',
  },
  {
    code: 'FILE_IS_SAVED_MODEL',
    what: 'this is the graph of a SavedModel, without the folder variables/ beside it that holds weights',
    hint: 'give the whole SavedModel; a frozen one has no variables/: import what it was made from, for `tl export` the model folder',
    is: (head) => protobufKind(head) === 'saved-model',
  },
  {
    code: 'FILE_IS_META_GRAPH',
    what: 'this is the graph of a checkpoint, without its weights',
    hint: 'give the checkpoint itself: the file that ends in .index, with those that end in .data-00000-of-00001 beside it',
    is: (head) => protobufKind(head) === 'meta-graph',
  },
  {
    code: 'FILE_IS_MATLAB',
    what: 'this is a MATLAB file, as MatConvNet has its networks',
    hint: 'give the same network as Keras, PyTorch or slim publish it: tl pull',
    is: says(/^MATLAB 5\.0 MAT-file/),
  },
  {
    code: 'FILE_IS_MSGPACK',
    what: 'this is msgpack, as flax.serialization writes it',
    hint: 'write its arrays as npz: numpy.savez(path, **flax.traverse_util.flatten_dict(params, sep="/"))',
    is: isMsgpackOfNames,
  },
];

/**
 * Messages of protocol buffers that begin alike: by the numbers of their first fields.
 * @see https://protobuf.dev/programming-guides/encoding
 */
function protobufKind(head: Buffer): 'onnx' | 'coreml' | 'saved-model' | 'meta-graph' | undefined {
  const messageAt = (at: number): number => {
    let next = at;
    while (next < head.length && head[next]! >= 0x80) next++; // the length, 7 bits a byte
    return next + 1;
  };
  if (head[0] === 0x0a) {
    // MetaGraphDef: meta_info_def, in it stripped_op_list, in it an OpDef
    const info = messageAt(1);
    return head[info] === 0x12 && head[messageAt(info + 1)] === 0x0a ? 'meta-graph' : undefined;
  }
  // a version, of at most 100, is the first field of the three others
  if (head[0] !== 0x08 || head[1] === undefined || head[1] > 100) return undefined;
  if (head[2] === 0x3a) return 'onnx'; // ModelProto.graph, where nothing is said about who wrote it
  if (head[2] !== 0x12) return undefined;
  const second = messageAt(3);
  if (head[second] !== 0x0a) return /^[\w.-]/.test(head.toString('latin1', second)) ? 'onnx' : undefined; // producer_name
  // SavedModel: a MetaGraphDef, in it a MetaInfoDef; Core ML: a ModelDescription, in it a FeatureDescription and its name
  return head[messageAt(second + 1)] === 0x0a ? 'coreml' : 'saved-model';
}

/** A map of few entries, the first of which has a short name (msgpack specification, fixmap and fixstr). */
function isMsgpackOfNames(head: Buffer): boolean {
  const [map, name] = [head[0] ?? 0, head[1] ?? 0];
  if (map < 0x81 || map > 0x8f || name < 0xa1 || name > 0xbf) return false;
  return /^[\w./ -]+$/.test(head.toString('latin1', 2, 2 + name - 0xa0));
}
