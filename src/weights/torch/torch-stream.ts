/**
 * PyTorch's older format, a stream: five pickles (a magic number, a protocol version, facts about the machine, the
 * object, the keys of its storages), then for each key the count of its numbers and the numbers.
 * @see https://github.com/pytorch/pytorch/blob/v2.4.0/torch/serialization.py (_legacy_save, _legacy_load)
 */

import { FormatError } from '../../errors.js';
import { type ByteFile, closedOnFailure, openByteFile } from '../byte-file.js';
import { checkTensorCount, limitExceeded, quote, shown } from '../limits.js';
import { MAX_PICKLE_BYTES, unpickle } from './pickle.js';
import { PickleDict, PickleIncomplete, type PickleRules, type PickleValue } from './pickle-values.js';
import type { TorchFile } from './torch.js';
import { TorchStorage, torchDamaged, torchRules } from './torch-rules.js';

/** MAGIC_NUMBER of torch/serialization.py. */
const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;

/** PROTOCOL_VERSION of torch/serialization.py. */
const PROTOCOL_VERSION = 1001;

/** More than the pickle of the magic number takes in any protocol: 15 bytes in the one that torch.save uses. */
const MAGIC_BYTES = 64;

/** Names and shapes; grows fourfold where it is not enough. */
const FIRST_READ = 1024 * 1024;

interface Stored {
  /** Where its numbers begin in the file. */
  readonly begin: number;
  readonly bytes: number;
}

/** @throws PICKLE_NOT_TORCH, TORCH_DAMAGED, PICKLE_REFUSED, PICKLE_DAMAGED, FILE_TRUNCATED, LIMIT_EXCEEDED */
export async function openTorchStream(path: string): Promise<TorchFile> {
  return await closedOnFailure(await openByteFile(path), open);
}

async function open(file: ByteFile): Promise<TorchFile> {
  const { path } = file;
  const widths = new Map<string, number>();
  const rules = noting(torchRules(path), widths);
  await checkMagic(file);
  const { values, end } = await readPickles(file, 5, rules);
  const [, protocol, machine, root, keys] = values as [PickleValue, PickleValue, PickleValue, PickleValue, PickleValue];
  if (protocol !== PROTOCOL_VERSION) {
    throw torchDamaged(path, `expected protocol version ${PROTOCOL_VERSION}, received ${shown([protocol])}`);
  }
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string')) {
    throw torchDamaged(path, 'the list of storages is not readable');
  }
  const storages = await locateStorages(file, end, keys, widths);
  const littleEndian = machine instanceof PickleDict ? machine.entries.get('little_endian') !== false : true;
  return {
    path,
    root,
    littleEndian,
    container: { container: 'stream', version: String(protocol) },
    storageBytes: (key) => storages.get(key)?.bytes,
    async readStorage(key, offset, length) {
      const { begin } = storages.get(key)!;
      return await file.read(begin + offset, length, `storage ${quote(key)}`);
    },
    close: () => file.close(),
  };
}

/**
 * Of a pickle that torch.save did not write, nothing but the beginning is read.
 * @throws PICKLE_NOT_TORCH
 */
async function checkMagic({ path, size, read }: ByteFile): Promise<void> {
  const notTorch = (cause?: unknown): FormatError =>
    new FormatError({
      code: 'PICKLE_NOT_TORCH',
      message: `${path}: this is a pickle of Python that torch.save did not write; expected it to begin with PyTorch's magic number`,
      hint: 'if you trust the file, load it in Python, and save its tensors: torch.save({name: torch.as_tensor(value), ...}, "out.pth")',
      cause,
    });
  const refuse = (): never => {
    throw notTorch();
  };
  const head = await read(0, Math.min(MAGIC_BYTES, size), 'the first bytes');
  let value: PickleValue;
  try {
    ({ value } = unpickle(head, 0, { path, find: refuse, load: refuse }));
  } catch (error) {
    throw notTorch(error);
  }
  if (value !== MAGIC_NUMBER) throw notTorch();
}

/** The rules, noting how wide the numbers of each storage are: the stream itself does not say. */
function noting(rules: PickleRules, widths: Map<string, number>): PickleRules {
  return {
    ...rules,
    load(id) {
      const loaded = rules.load(id);
      const storage = loaded instanceof Object && 'value' in loaded ? loaded.value : undefined;
      if (storage instanceof TorchStorage) {
        const { width } = storage;
        if ((widths.get(storage.key) ?? width) !== width) {
          throw torchDamaged(rules.path, `storage ${quote(storage.key)} is declared with two number types`);
        }
        widths.set(storage.key, width);
      }
      return loaded;
    },
  };
}

/** Reads as much of the file as the pickles turn out to need. */
async function readPickles(
  file: ByteFile,
  count: number,
  rules: PickleRules,
): Promise<{ values: PickleValue[]; end: number }> {
  for (let length = Math.min(FIRST_READ, file.size); ; length = Math.min(length * 4, file.size)) {
    if (length > MAX_PICKLE_BYTES) throw limitExceeded(file.path, `the pickles have ${length} bytes`, MAX_PICKLE_BYTES);
    const bytes = await file.read(0, length, 'the pickles');
    try {
      const values: PickleValue[] = [];
      let end = 0;
      while (values.length < count) {
        const read = unpickle(bytes, end, rules);
        values.push(read.value);
        end = read.end;
      }
      return { values, end };
    } catch (error) {
      if (!(error instanceof PickleIncomplete) || length === file.size) throw error;
    }
  }
}

/** Each storage is a count of 8 bytes, little-endian, and that many numbers; all of them follow each other. */
async function locateStorages(
  file: ByteFile,
  start: number,
  keys: readonly string[],
  widths: ReadonlyMap<string, number>,
): Promise<Map<string, Stored>> {
  checkTensorCount(file.path, keys.length);
  const storages = new Map<string, Stored>();
  let at = start;
  for (const key of keys) {
    const what = `storage ${quote(key)}`;
    const width = widths.get(key);
    if (width === undefined) throw torchDamaged(file.path, `${what} belongs to no tensor`);
    if (storages.has(key)) throw torchDamaged(file.path, `${what} is listed twice`);
    const count = Number(file.readNow(at, 8, `the length of ${what}`).readBigUInt64LE());
    const bytes = count * width;
    if (!(at + 8 + bytes <= file.size)) await file.read(at + 8, bytes, what); // says where and how much
    storages.set(key, { begin: at + 8, bytes });
    at += 8 + bytes;
  }
  return storages;
}
