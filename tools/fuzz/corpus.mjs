/** The undamaged files: those that the reference implementations wrote, and our own made of them. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { closeTar, closeZip } from './envelopes.mjs';

const FIXTURES = fileURLToPath(new URL('../../test/golden/fixtures/files', import.meta.url));
const H5PY = fileURLToPath(new URL('../../test/weights/fixtures', import.meta.url));

/**
 * Which format a file or folder of the fixtures has, by its name, and which others belong to it. `checked`: a checksum
 * covers names, shapes and numbers (`all`), or numbers only (`numbers`: the directory of a zip has none).
 */
const RULES = [
  { format: 'keras-h5', name: /\.h5$/ },
  { format: 'keras3', name: /\.keras$/, checked: 'numbers' },
  { format: 'checkpoint-v2', name: /\.index$/, family: (name) => name.replace(/index$/, 'data-'), checked: 'all' },
  { format: 'checkpoint-v1', name: /\.ckpt(-sharded)?(-\d{5}-of-\d{5})?$/, checked: 'all' },
  { format: 'frozen-graph', name: /\.pb$/ },
  { format: 'npz', name: /\.npz$/, checked: 'numbers' },
  { format: 'npy', name: /\.npy$/, way: 'npy' },
  { format: 'safetensors', name: /\.safetensors$/ },
  { format: 'torch-zip', name: /-zip\.pth$/, checked: 'numbers' },
  { format: 'torch-stream', name: /-legacy\.pth$/ },
  { format: 'archive', name: /\.(tar|tar\.gz|tgz)$/, checked: 'all' },
  { format: 'archive', name: /\.zip$/, checked: 'numbers' },
];

/** Refused by design: what they are for is another test. */
const LEFT_OUT = /hostile/;

/** @typedef {{ name: string, format: string, way: string, files: Map<string, Buffer>, file: string,
 *   checked?: 'all' | 'numbers', options?: object }} Case */

/** @returns {Promise<Case[]>} */
export async function corpus(dist, sums) {
  const cases = [...filesIn(FIXTURES), ...filesIn(H5PY), ...foldersIn(FIXTURES)];
  const find = (name) => cases.find((each) => each.name === name);
  cases.push(
    ...archivesOf(cases, sums),
    savedModelOf(find('objects.ckpt.index')),
    kerasOf(find('keras3.weights.h5'), sums),
  );
  cases.push(...(await ownFolders(dist)));
  return cases;
}

function filesIn(folder) {
  const names = readdirSync(folder).filter((name) => statSync(join(folder, name)).isFile() && !LEFT_OUT.test(name));
  return names.flatMap((name) => {
    const rule = RULES.find((each) => each.name.test(name));
    if (rule === undefined) return [];
    const { format, checked, way = 'weights', family } = rule;
    const more = family === undefined ? [] : names.filter((each) => each.startsWith(family(name)));
    const shards = /^(.*-)\d{5}-of-\d{5}$/.exec(name)?.[1];
    if (shards !== undefined) more.push(...names.filter((each) => each !== name && each.startsWith(shards)));
    const files = new Map([name, ...more].map((each) => [each, readFileSync(join(folder, each))]));
    return [{ name, format, way, checked, file: name, files }];
  });
}

/** Models that are folders: one case a folder that has a `model.json`, a SavedModel, or a checkpoint or index in it. */
function foldersIn(parent) {
  return readdirSync(parent).flatMap((name) => {
    const folder = join(parent, name);
    if (!statSync(folder).isDirectory() || LEFT_OUT.test(name)) return [];
    const inside = readdirSync(folder, { recursive: true })
      .map(String)
      .filter((each) => statSync(join(folder, each)).isFile());
    const files = new Map(inside.map((each) => [each, readFileSync(join(folder, each))]));
    const manifest = ['model.json', 'weights_manifest.json'].find((each) => files.has(each));
    const index = inside.find((each) => each.endsWith('.index.json') || each.endsWith('.index'));
    const sharded = inside.find((each) => /-0+\d-of-\d+$/.test(each));
    const format = manifest
      ? 'tfjs'
      : existsSync(join(folder, 'saved_model.pb'))
        ? 'saved-model'
        : index?.endsWith('.json')
          ? 'safetensors'
          : 'checkpoint-v2';
    const file = manifest ?? (format === 'saved-model' ? '' : (index ?? sharded ?? ''));
    return [
      { name, format, way: 'weights', file, files, checked: format.startsWith('checkpoint') ? 'all' : undefined },
    ];
  });
}

/** `.tar.gz` and `.zip` around one file of every format. */
function archivesOf(cases, sums) {
  const inside = [
    'keras2-weights.h5',
    'kinds.safetensors',
    'arrays.npz',
    'torch-zip.pth',
    'saver-v1.ckpt',
    'saver-v2.ckpt.index',
  ];
  return inside.flatMap((name) => {
    const parts = [...cases.find((each) => each.name === name).files].map(([each, data]) => ({
      name: `model/${each}`,
      data,
    }));
    const tar = gzipSync(closeTar(parts));
    const zip = closeZip(
      parts.map((part) => ({ ...part, method: 8 })),
      sums,
    );
    return [
      ['tar.gz', tar, 'all'],
      ['zip', zip, 'numbers'],
    ].map(([end, bytes, checked]) => ({
      name: `${name}.${end}`,
      format: 'archive',
      way: 'weights',
      file: `model.${end}`,
      files: new Map([[`model.${end}`, bytes]]),
      checked,
    }));
  });
}

/** A SavedModel keeps its variables as a checkpoint under this name (kSavedModelVariablesFilename). */
function savedModelOf({ files, name }) {
  const prefix = name.replace(/\.index$/, '');
  const renamed = [...files].map(([each, data]) => [each.replace(prefix, 'variables/variables'), data]);
  return {
    name: 'saved-model',
    format: 'saved-model',
    way: 'weights',
    file: '',
    files: new Map(renamed),
    checked: 'all',
  };
}

/** The archive of Keras 3 (saving_lib.py): a configuration, facts, and the weights. */
function kerasOf({ files }, sums) {
  const parts = [
    { name: 'metadata.json', data: Buffer.from('{"keras_version": "3.8.0", "date_saved": "2026-01-01@00:00:00"}') },
    {
      name: 'config.json',
      data: Buffer.from('{"module": "keras", "class_name": "Sequential", "config": {"layers": []}}'),
    },
    { name: 'model.weights.h5', data: [...files.values()][0] },
  ].map((part) => ({ ...part, method: 0 }));
  return {
    name: 'keras3.keras',
    format: 'keras3',
    way: 'weights',
    file: 'model.keras',
    files: new Map([['model.keras', closeZip(parts, sums)]]),
    checked: 'numbers',
  };
}

/** The local store, a model folder and a table of names, of the smallest network, written by the toolkit itself. */
async function ownFolders(dist) {
  const load = (module) => import(pathToFileURL(join(dist, module)).href);
  const { findBackbone, findPublished, buildBackbone } = await load('backbones/index.js');
  const { storeWeights } = await load('weights/store.js');
  const { graphOf, saveModelFolder } = await load('weights/model-folder.js');
  const { writeSafetensors } = await load('weights/safetensors.js');
  const { rng } = await load('rng.js');
  const [backbone, source] = ['mobilenet_v1_0.25', 'keras'];
  const published = findPublished(findBackbone(backbone), source);
  const numbers = (parameters) => {
    const shapes = new Map(parameters.map(({ path, shape }) => [path, shape]));
    return async (path) => {
      const random = rng(path);
      return Float32Array.from({ length: shapes.get(path).reduce((a, b) => a * b, 1) }, () => random.uniform());
    };
  };
  const scratch = mkdtempSync(join(tmpdir(), 'tl-fuzz-own-'));
  const home = process.env.TL_HOME;
  try {
    process.env.TL_HOME = join(scratch, 'home');
    const size = { height: 32, width: 32 };
    const { parameters } = buildBackbone(published, { size });
    const record = {
      formatVersion: 1,
      backbone,
      source,
      classes: null,
      file: { name: 'demo.h5', size: 1, sha256: '0'.repeat(64) },
      format: 'keras-h5',
      date: '2026-01-01T00:00:00.000Z',
      origin: 'the fuzzer',
      license: 'none',
      adaptations: [],
      ignored: [],
    };
    await storeWeights(record, parameters, numbers(parameters), () => record);
    const model = {
      formatVersion: 1,
      backbone,
      source,
      inputSize: size,
      channels: published.channels ?? 3,
      head: { hidden: [], dropout: 0 },
      classes: ['a', 'b'],
      preprocessing: published.preprocessing,
      weights: { origin: 'the fuzzer', license: 'none' },
      data: { fingerprint: 'abc', valSplit: 0.2, seed: 7 },
      toolkit: '0.0.0',
    };
    await saveModelFolder(join(scratch, 'model'), model, numbers(graphOf(model).parameters));
    const rows = parameters.map(({ path, shape }, i) => ({ name: `w${i}`, path, shape }));
    const entries = rows.map(({ name, path, shape }) => ({ name, shape, read: () => numbers(parameters)(path) }));
    await writeSafetensors(join(scratch, 'private', 'weights.safetensors'), entries);
    const table = rows.map(({ name, path }) => `${path} ${name}\n`).join('');
    writeFileSync(join(scratch, 'private', 'names.txt'), `# parameter tensor\n${table}`);
    const own = (name, way, folder, options) => {
      return { name, format: name, way, file: '', files: read(join(scratch, folder)), options };
    };
    return [
      own('store', 'store', 'home', { backbone }),
      own('model-folder', 'model', 'model'),
      own('name-map', 'map', 'private', { backbone, source }),
    ];
  } finally {
    if (home === undefined) delete process.env.TL_HOME;
    else process.env.TL_HOME = home;
    rmSync(scratch, { recursive: true, force: true });
  }
}

function read(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  return new Map(paths.map((path) => [relative(folder, path), readFileSync(path)]));
}
