/** JSON files that lead to weights in other files, and those that lead to none. */
import { FormatError } from '../errors.js';
import { readJsonFile } from '../files.js';
import { quote } from './limits.js';
import { FORMATS_READ } from './recognise.js';
import { openSharded, shardMapIn } from './sharded.js';
import type { TensorSource } from './source.js';
import { isTfjsModel, tfjsSource } from './tfjs/tfjs-model.js';

/** Keys that are shown of a file that is not known. */
const KEYS_SHOWN = 6;

/**
 * Opens the weights that a JSON file leads to; it is read and parsed once.
 * @param open opens one shard of several
 * @throws JSON_TOO_LARGE, JSON_INVALID, KERAS_ARCHITECTURE, FORMAT_UNKNOWN, and what the readers throw
 */
export async function openJson(path: string, open: (path: string) => Promise<TensorSource>): Promise<TensorSource> {
  const json = await readJsonFile(path);
  if (isTfjsModel(json)) return await tfjsSource(path, json);
  const map = shardMapIn(json);
  if (map !== undefined) return await openSharded(path, map, open);
  const keys = typeof json === 'object' && json !== null ? Object.keys(json) : [];
  if (keys.includes('class_name') && keys.includes('config')) {
    throw new FormatError({
      code: 'KERAS_ARCHITECTURE',
      message: `${path}: this is the architecture of a Keras model, as model.to_json() writes it, without its weights`,
      hint: 'give the file that model.save_weights() or model.save() wrote: .weights.h5, .h5 or .keras',
    });
  }
  const shown = `${keys.slice(0, KEYS_SHOWN).map(quote).join(', ')}${keys.length > KEYS_SHOWN ? ', ...' : ''}`;
  throw new FormatError({
    code: 'FORMAT_UNKNOWN',
    message: `${path}: this is JSON${Array.isArray(json) || shown === '' ? '' : ` with the keys ${shown}`}; expected ${FORMATS_READ}`,
    hint: 'give the file with the weights, not the one that describes it',
  });
}
