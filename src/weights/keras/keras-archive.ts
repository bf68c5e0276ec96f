/**
 * A `.keras` archive: a zip of the model's configuration (`config.json`), its weights (`model.weights.h5`, in the layout
 * of keras3-names.ts) and the version that wrote it (`metadata.json`). The weights are unpacked to a file piece by piece,
 * since HDF5 is read by position; the file is gone when the source is closed.
 * @see keras.src.saving.saving_lib._save_model_to_fileobj
 */

import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { FormatError } from '../../errors.js';
import { fileError } from '../../files.js';
import { makeTemporaryFolder } from '../archive/temporary-folder.js';
import type { ZipArchive } from '../archive/zip.js';
import { DAMAGED_HINT, limitExceeded } from '../limits.js';
import type { TensorSource } from '../source.js';
import { type KerasArchive, openH5 } from './h5.js';
import { MAX_CONFIG_BYTES, parseKerasConfig } from './keras-config.js';

const CONFIG = 'config.json';
const METADATA = 'metadata.json';
const WEIGHTS = 'model.weights.h5';

/** ViT-H/14 and both moments of Adam have 7.6 GB in float32. */
const MAX_UNPACKED_BYTES = 16 * 1024 ** 3;

/** Keras writes a version and a date. */
const MAX_METADATA_BYTES = 1024 * 1024;

export function isKerasArchive({ entries }: ZipArchive): boolean {
  return entries.has(CONFIG) && [...entries.keys()].some((name) => /^model(_\d+)?\.weights\.(h5|npz|json)$/.test(name));
}

/**
 * Takes the archive over: it is closed on return, and on failure.
 * @throws KERAS_ARCHIVE, KERAS_CONFIG, ZIP_DAMAGED, LIMIT_EXCEEDED, FILE_NOT_WRITTEN, and what `openH5` throws
 */
export async function kerasFromZip(zip: ZipArchive): Promise<TensorSource> {
  const { path } = zip;
  const folder = await makeTemporaryFolder().catch(async (error: unknown) => {
    await zip.close();
    throw error;
  });
  try {
    const archive = await readArchive(zip);
    const weights = join(folder.path, WEIGHTS);
    await unpack(zip, WEIGHTS, weights);
    const source = await openH5(weights, { archive });
    return {
      ...source,
      path,
      async close() {
        await source.close();
        await folder.remove();
      },
    };
  } catch (error) {
    await folder.remove();
    throw error;
  } finally {
    await zip.close();
  }
}

async function readArchive(zip: ZipArchive): Promise<KerasArchive> {
  const { path, entries } = zip;
  if (!entries.has(WEIGHTS)) {
    const [other] = [...entries.keys()].filter((name) => /\.weights\.(npz|json)$/.test(name));
    throw new FormatError({
      code: 'KERAS_ARCHIVE',
      message: `${path}: the weights of this .keras archive are ${other ?? 'in several files'}; expected ${WEIGHTS}`,
      hint: 'load the model in Keras and save it again as one file: model.save("model.keras")',
    });
  }
  const text = await readText(zip, CONFIG, MAX_CONFIG_BYTES);
  const config = parseKerasConfig(path, text);
  const version = entries.has(METADATA)
    ? versionIn(path, await readText(zip, METADATA, MAX_METADATA_BYTES))
    : undefined;
  const majorVersion = version === undefined ? undefined : Number.parseInt(version, 10);
  const metadata = { ...(version === undefined ? {} : { keras_version: version }), model_config: text };
  return { path, config, majorVersion, metadata };
}

async function readText(zip: ZipArchive, name: string, limit: number): Promise<string> {
  const { size } = zip.entries.get(name)!;
  if (size > limit) throw limitExceeded(zip.path, `${name} has ${size} bytes`, limit);
  return (await zip.read(name)).toString('utf8');
}

function versionIn(path: string, text: string): string {
  try {
    return z.object({ keras_version: z.string().regex(/^\d+\./) }).parse(JSON.parse(text)).keras_version;
  } catch (cause) {
    throw new FormatError({
      code: 'KERAS_ARCHIVE',
      message: `${path}: ${METADATA} does not name a version of Keras; expected {"keras_version": "3.8.0", ...}`,
      hint: DAMAGED_HINT,
      cause,
    });
  }
}

/** Writes an entry to a new file; its checksum is compared on the way. */
async function unpack(zip: ZipArchive, name: string, to: string): Promise<void> {
  const { size } = zip.entries.get(name)!;
  if (size > MAX_UNPACKED_BYTES) throw limitExceeded(zip.path, `${name} has ${size} bytes`, MAX_UNPACKED_BYTES);
  const failed = (error: unknown) =>
    fileError('FILE_NOT_WRITTEN', to, `${name} of ${zip.path} cannot be unpacked`, error);
  const file = await open(to, 'wx', 0o600).catch((error: unknown) => {
    throw failed(error);
  });
  try {
    for await (const piece of zip.pieces(name)) {
      await file.writeFile(piece).catch((error: unknown) => {
        throw failed(error);
      });
    }
  } finally {
    await file.close();
  }
}
