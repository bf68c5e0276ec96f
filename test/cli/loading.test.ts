/** What a command loads before it works: the modules that its imports lead to, read from the sources. */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const src = fileURLToPath(new URL('../../src', import.meta.url));

interface Imports {
  /** Loaded with the module. */
  readonly atOnce: readonly string[];
  /** Loaded when the code that asks for them runs. */
  readonly later: readonly string[];
}

/** Imports of types alone are gone once it is compiled. */
function importsOf(path: string): Imports {
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true };
  const { outputText } = ts.transpileModule(readFileSync(join(src, path), 'utf8'), { compilerOptions });
  const file = ts.createSourceFile(path, outputText, ts.ScriptTarget.ES2022);
  const atOnce: string[] = [];
  const later: string[] = [];
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier !== undefined) {
      atOnce.push((node.moduleSpecifier as ts.StringLiteral).text);
    }
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      later.push((node.arguments[0] as ts.StringLiteral).text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { atOnce, later };
}

const isOwn = (imported: string): boolean => imported.startsWith('.');
const targetOf = (from: string, imported: string): string =>
  relative(src, join(src, dirname(from), imported))
    .replaceAll('\\', '/')
    .replace(/\.js$/, '.ts');

/** Files of src/ that are loaded with these, and the packages that all of them ask for. */
function loadedWith(...entries: string[]): { files: Set<string>; packages: Set<string> } {
  const files = new Set<string>();
  const packages = new Set<string>();
  const open = [...entries];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (files.has(path)) continue;
    files.add(path);
    for (const imported of importsOf(path).atOnce) {
      if (isOwn(imported)) open.push(targetOf(path, imported));
      else if (!imported.startsWith('node:')) packages.add(imported);
    }
  }
  return { files, packages };
}

/**
 * The same for what a command's work asks for, in all of its branches but the one for an exported folder, which brings
 * its own way of computing.
 */
function loadedBy(command: string): ReturnType<typeof loadedWith> {
  const path = `cli/commands/${command}.ts`;
  const askedBy = (asking: string) => importsOf(asking).later.map((imported) => targetOf(asking, imported));
  const opensModels = importsOf(path).atOnce.includes('../model.js') ? askedBy('cli/model.ts') : [];
  return loadedWith(...askedBy(path), ...opensModels);
}

const roomsOf = (files: ReadonlySet<string>): Set<string> =>
  new Set([...files].map((path) => (path.includes('/') ? path.slice(0, path.indexOf('/')) : path)));

describe('what is loaded', () => {
  test('for --help: the options of every command, and the library that reads them', () => {
    const { files, packages } = loadedWith('cli/main.ts');
    expect([...packages]).toEqual(['commander']);
    const grounds = [...roomsOf(files)].filter((room) => room !== 'cli').sort();
    expect(grounds).toEqual(['errors.ts', 'export', 'train', 'version.ts']);
    expect([...files].filter((path) => path.startsWith('train/')).sort()).toEqual([
      'train/features/places.ts', // names
      'train/schedule.ts', // names, and a formula
      'train/settings/augmentation-settings.ts',
      'train/settings/computation-settings.ts',
      'train/settings/kinds.ts',
      'train/settings/model-settings.ts',
      'train/settings/table.ts',
      'train/settings/training-settings.ts',
    ]);
    expect([...files].filter((path) => path.startsWith('export/')).sort()).toEqual([
      'export/formats.ts', // names and how each is loaded
      'export/quantize/quantizations.ts',
    ]);
    expect(files.size).toBeGreaterThan(15); // every command among them
  });

  test('for predict: neither the trainer nor what only many pictures or a setup need', () => {
    const { files, packages } = loadedBy('predict');
    expect([...packages].sort()).toEqual([
      '@tensorflow/tfjs-core',
      'fastest-levenshtein',
      'protobufjs/minimal.js',
      'sharp',
      'zod',
    ]);
    expect([...files].filter((path) => path.startsWith('train/')).sort()).toEqual([
      'train/classifier.ts',
      'train/predict.ts',
      'train/test-time.ts',
    ]);
    expect(
      [...files].filter((path) => /^(export|report|engine\/setup\/(index|inspect|verify|wheel))/.test(path)),
    ).toEqual(['export/load-model.ts']);
  });

  test('for import: no engine', () => {
    const { packages } = loadedBy('import');
    expect([...packages].filter((name) => name.startsWith('@tensorflow/'))).toEqual([]);
    expect(packages).not.toContain('sharp');
    expect(packages).not.toContain('undici');
  });

  test('a library that is loaded later is not counted, and one that is loaded at once is', () => {
    expect(importsOf('cli/pictures.ts')).toMatchObject({ later: expect.arrayContaining(['tinyglobby']) });
    expect(loadedWith('cli/pictures.ts').packages).not.toContain('tinyglobby');
    expect(loadedWith('data/decode.ts').packages).toContain('sharp');
  });
});
