/** The rooms of src/ and the doors between them, read from the import lines. ARCHITECTURE.md tells why. */
import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const src = join(root, 'src');

/** What every room may use: files at the top of src/ that know nothing of networks. */
const GROUND: readonly string[] = ['errors', 'rng', 'files', 'version', 'protobuf', 'addon'];

/**
 * Which room may import which. Arrows point down: cli -> export, explain, train -> data, weights, heads, backbones,
 * report -> augment, engine. Three of them deserve a word: a backbone's published variants carry their preprocessing
 * (backbones -> augment), a model folder names its backbone and head (weights -> backbones, heads), and a run draws what
 * it leaves behind from plain numbers (train -> report).
 */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  rng: [],
  version: [],
  protobuf: [],
  addon: [],
  files: ['errors'],
  report: [],
  engine: [],
  augment: [],
  heads: ['engine'],
  backbones: ['augment', 'engine'],
  data: ['augment'],
  weights: ['augment', 'engine', 'backbones', 'heads'],
  train: ['augment', 'engine', 'backbones', 'heads', 'data', 'weights', 'report'],
  export: ['augment', 'engine', 'backbones', 'heads', 'data', 'weights'],
  explain: ['augment', 'engine', 'backbones', 'heads', 'data', 'weights'],
  cli: [...['augment', 'engine', 'backbones', 'heads', 'data', 'weights'], ...['train', 'export', 'explain', 'report']],
};

/** The few files above the engine that hold tensors: between a batch and the loss there is nothing else to hold. */
const TENSORS_IN_TRAIN = [
  'checkpoint',
  'classifier',
  'distill-logits',
  'epochs',
  'features/entries',
  'features/kept',
  'losses',
  'optimizers',
  'step',
  'trainable',
  'updater',
];

/** Runs what was exported in stock TensorFlow.js, on a thread of its own, as the model's user will. */
const STOCK = /^export\/(compare|tfjs\/stock|quantize\/ranges)\.ts$/;

/** Copies TensorFlow.js' scripts for browsers into the page that it writes, and names their types there. */
const WEB = /^export\/web\/(runtime|page\/tensorflow)\.ts$/;

/** Dependencies that no file imports: the package's declarations need them to compile. */
const TYPES_ONLY = ['@types/node'];

/** Third party -> the only files of src/ that may import it. */
const OWNERS: Readonly<Record<string, readonly RegExp[]>> = {
  '@tensorflow/tfjs-core': [
    /^engine\//,
    new RegExp(`^train/(${TENSORS_IN_TRAIN.join('|')})\\.ts$`),
    /^weights\/tfjs\/tfjs-mobilenet/,
    STOCK,
    WEB,
  ],
  '@tensorflow/tfjs-backend-cpu': [/^engine\//, WEB],
  '@tensorflow/tfjs-backend-wasm': [/^engine\//, STOCK, WEB],
  '@tensorflow/tfjs-converter': [STOCK, WEB],
  '@tensorflow/tfjs-layers': [STOCK],
  flatbuffers: [/^export\/tflite\//, WEB],
  '@litertjs/core': [/^export\/tflite\/litert\.ts$/],
  'onnxruntime-web': [/^export\/onnx\/runtime\.ts$/],
  '@tensorflow-models/mobilenet': [/^weights\/tfjs\/tfjs-mobilenet/],
  sharp: [/^data\/decode/, /^report\//],
  protobufjs: [/^protobuf\.ts$/],
  piscina: [/^data\//],
  h5wasm: [/^weights\/keras\/h5/],
  yauzl: [/^weights\//, /^engine\/setup\//],
  yazl: [/^weights\//, /^engine\/setup\//, /^export\/tflite\/labels\.ts$/],
  commander: [/^cli\//],
  'cli-progress': [/^cli\//],
  tinyglobby: [/^cli\//],
  echarts: [/^report\//],
  '@resvg/resvg-js': [/^report\//],
  'dejavu-fonts-ttf': [/^report\//],
  'csv-parse': [/^data\//, /^train\//],
  'csv-stringify': [/^train\//],
  'fastest-levenshtein': [/^backbones\//, /^train\/settings\//],
  yaml: [/^train\/settings\/config\.ts$/],
  tar: [/^weights\/archive\//],
  undici: [/^weights\/fetch\//],
  '@huggingface/hub': [/^weights\/fetch\/hub\.ts$/],
  zod: [/^augment\//, /^weights\//, /^train\//, /^export\/record\.ts$/],
};

const MOST_LINES = 500;

interface SourceFile {
  /** Below src/, with forward slashes. */
  readonly path: string;
  readonly room: string;
  readonly text: string;
  /** As written in import, export-from, dynamic import, and import.meta.resolve. */
  readonly imports: readonly string[];
}

const files: readonly SourceFile[] = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((each) => {
    return sourceFile(each.split(sep).join('/'), readFileSync(join(src, each), 'utf8'));
  });

function sourceFile(path: string, text: string): SourceFile {
  return { path, room: roomOf(path), text, imports: importsOf(text) };
}

function roomOf(path: string): string {
  return path.includes('/') ? path.slice(0, path.indexOf('/')) : path.replace(/\.ts$/, '');
}

function importsOf(text: string): string[] {
  const written = ts.preProcessFile(text).importedFiles.map(({ fileName }) => fileName);
  const resolved = [...text.matchAll(/\bresolve\('([@#\w][^']*)'\)/g)].map((match) => match[1]!);
  return [...written, ...resolved];
}

/** The file below src/ that a relative import means, or undefined for a package. */
function targetOf(file: SourceFile, imported: string): string | undefined {
  if (!imported.startsWith('.')) return undefined;
  const target = relative(src, resolve(src, dirname(file.path), imported));
  return target.split(sep).join('/').replace(/\.js$/, '.ts');
}

/** `@scope/name/inner` -> `@scope/name`; undefined for files and for what belongs to Node or this package. */
function packageOf(imported: string): string | undefined {
  if (/^(\.|#|node:)/.test(imported)) return undefined;
  return imported
    .split('/')
    .slice(0, imported.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Imports of a room that the importing room does not know. */
function wrongArrows(given: readonly SourceFile[]): string[] {
  return given
    .filter(({ room }) => room !== 'index') // the public door
    .flatMap((file) => {
      const ground = GROUND.includes(file.room) ? [] : GROUND;
      const allowed = new Set([file.room, ...ground, ...(ARROWS[file.room] ?? [])]);
      return file.imports.flatMap((imported) => {
        const target = targetOf(file, imported);
        if (target === undefined || allowed.has(roomOf(target))) return [];
        return [`${file.path} imports ${target}: ${file.room} -> ${roomOf(target)}`];
      });
    });
}

/** Imports of a package by a file that does not own it. */
function wrongOwners(given: readonly SourceFile[]): string[] {
  return given.flatMap((file) =>
    file.imports.flatMap((imported) => {
      const name = packageOf(imported);
      if (name === undefined || OWNERS[name]?.some((owner) => owner.test(file.path))) return [];
      return [`${file.path} imports ${name}`];
    }),
  );
}

const packageJson = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  dependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
};
const dependencies = { ...packageJson.dependencies, ...packageJson.optionalDependencies };

describe('rooms', () => {
  test('the import lines were found', () => {
    expect(files.length).toBeGreaterThan(80);
    expect(files.flatMap((file) => file.imports).length).toBeGreaterThan(300);
    const tensorflow = files.find((file) => file.path === 'engine/tensorflow.ts')!;
    expect(tensorflow.imports).toContain('@tensorflow/tfjs-backend-wasm'); // a dynamic import
    expect(tensorflow.imports).toContain('./setup/native.js');
  });

  test('every file lies in a room that is known', () => {
    const strangers = files.filter(({ room }) => room !== 'index' && ARROWS[room] === undefined);
    expect(strangers.map(({ path }) => path)).toEqual([]);
  });

  test('imports point down only', () => {
    expect(wrongArrows(files)).toEqual([]);
  });

  test('a wrong arrow would be seen', () => {
    const file = (path: string, line: string): SourceFile => sourceFile(path, `${line}\n`);
    const wrong = [
      file('engine/a.ts', "import { finetune } from '../train/finetune.js';"),
      file('augment/b.ts', "export type { Graph } from '../engine/graph.js';"),
      file('heads/c/d.ts', "const head = await import('../../weights/plan.js');"),
      file('rng.ts', "import './files.js';"),
      file('train/e.ts', "import { program } from '../cli/program.js';"),
    ];
    expect(wrongArrows(wrong)).toHaveLength(wrong.length);
    expect(wrongArrows([file('train/f.ts', "import { rng } from '../rng.js';")])).toEqual([]);
    const borrowed = file('train/finetune.ts', "import type { Tensor } from '@tensorflow/tfjs-core';");
    expect(wrongOwners([borrowed])).toEqual(['train/finetune.ts imports @tensorflow/tfjs-core']);
    expect(wrongOwners([file('train/g.ts', "import sharp from 'sharp';")])).toHaveLength(1);
  });

  test('what draws is loaded where something is drawn: other rooms import types of it alone', () => {
    const drawing = files.filter(({ room }) => room !== 'report' && room !== 'index');
    expect(drawing.some(({ text }) => /import\('[./]*report\//.test(text))).toBe(true);
    const atOnce = drawing.flatMap(({ path, text }) =>
      [...text.matchAll(/^(?:im|ex)port (?!type\b)[^;]*? from '[./]*report\/[^']*'/gm)].map(
        ([line]) => `${path}: ${line}`,
      ),
    );
    expect(atOnce).toEqual([]);
  });

  test('the arrows themselves make no circle', () => {
    const done = new Set<string>();
    const visit = (room: string, above: readonly string[]): void => {
      expect(above, `a circle: ${[...above, room].join(' -> ')}`).not.toContain(room);
      if (done.has(room)) return;
      for (const below of ARROWS[room]!) visit(below, [...above, room]);
      done.add(room);
    };
    for (const room of Object.keys(ARROWS)) visit(room, []);
  });

  test('nothing outside src/ is imported, and every imported file is there', () => {
    const paths = new Set(files.map(({ path }) => path));
    const faults = files.flatMap((file) =>
      file.imports.flatMap((imported) => {
        const target = targetOf(file, imported);
        return target === undefined || paths.has(target) ? [] : [`${file.path} imports ${imported}`];
      }),
    );
    expect(faults).toEqual([]);
  });

  test('only the public door looks into every room, and nothing imports it', () => {
    const faults = files.filter((file) => file.imports.some((imported) => targetOf(file, imported) === 'index.ts'));
    expect(faults.map(({ path }) => path)).toEqual([]);
  });
});

describe('third parties', () => {
  test('each is imported by its owner only', () => {
    expect(wrongOwners(files)).toEqual([]);
  });

  test('each is a dependency, and each dependency has an owner', () => {
    const imported = new Set(files.flatMap((file) => file.imports.flatMap((each) => packageOf(each) ?? [])));
    expect([...imported].filter((name) => dependencies[name] === undefined)).toEqual([]);
    expect(
      Object.keys(dependencies).filter((name) => !TYPES_ONLY.includes(name) && OWNERS[name] === undefined),
    ).toEqual([]);
  });

  test('modules of Node are called node:', () => {
    const faults = files.flatMap((file) =>
      file.imports.filter((imported) => builtinModules.includes(imported)).map((each) => `${file.path}: ${each}`),
    );
    expect(faults).toEqual([]);
  });
});

describe('files', () => {
  test('none is called utils', () => {
    const everything = readdirSync(src, { recursive: true, encoding: 'utf8' });
    expect(everything.filter((path) => /(^|[\\/])(utils?|helpers?|misc|common)([\\/.]|$)/i.test(path))).toEqual([]);
  });

  test(`none is longer than ${MOST_LINES} lines`, () => {
    const long = files.filter(({ text }) => text.split('\n').length > MOST_LINES);
    expect(long.map(({ path }) => path)).toEqual([]);
  });

  test('names are kebab-case', () => {
    expect(files.filter(({ path }) => !/^([a-z0-9-]+\/)*[a-z0-9-]+\.ts$/.test(path)).map(({ path }) => path)).toEqual(
      [],
    );
  });

  test('no shared room asks which family a network belongs to', () => {
    // A family declares a property instead; only its own file, the list of backbones, and what prints the list name it.
    const asking = files.filter(
      ({ path, room, text }) =>
        !['backbones', 'index', 'cli'].includes(room) &&
        /\.family\b\s*(===|!==)|===?\s*'(resnet|mobilenet)/.test(text) &&
        path !== 'weights/recognise.ts',
    );
    expect(asking.map(({ path }) => path)).toEqual([]);
  });
});
