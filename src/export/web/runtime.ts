/** The programs of the page: the toolkit's own, bundled when it was built, and TensorFlow.js as its packages hold it. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../../files.js';
import { runtimeScripts, wasmFiles } from './page/description.js';

/**
 * A program of the page: `tools/build-page.mjs` bundles it into dist/ with the very functions that resize and normalise
 * pictures here. `src/` lies beside `dist/`, so the address is the same from both.
 */
export async function pageScript(name: 'app' | 'worker' | 'service-worker'): Promise<string> {
  return readFile(new URL(`../../../dist/export/web/bundles/${name}.js`, import.meta.url), 'utf8');
}

/** Writes `tfjs/`: the scripts for browsers, the WebAssembly programs, and the licence. */
export async function writeRuntime(folder: string): Promise<void> {
  const { resolve } = createRequire(import.meta.url);
  const wasm = dirname(resolve('@tensorflow/tfjs-backend-wasm'));
  // Each package's entry for Node lies beside its builds for browsers.
  const scripts: Record<keyof typeof runtimeScripts, string> = {
    core: join(dirname(resolve('@tensorflow/tfjs-core')), 'tf-core.es2017.min.js'),
    converter: join(dirname(resolve('@tensorflow/tfjs-converter')), 'tf-converter.es2017.min.js'),
    wasm: join(wasm, 'tf-backend-wasm.es2017.min.js'),
    cpu: join(dirname(resolve('@tensorflow/tfjs-backend-cpu')), 'tf-backend-cpu.es2017.min.js'),
  };
  const copies: [from: string, to: string][] = [
    ...Object.entries(scripts).map(([key, from]): [string, string] => [
      from,
      runtimeScripts[key as keyof typeof runtimeScripts],
    ]),
    ...Object.values(wasmFiles).map((name): [string, string] => [join(wasm, name.replace(/^.*\//, '')), name]),
    // TensorFlow.js' packages name the Apache License 2.0 and leave its text out; this package holds it unchanged.
    [resolve('flatbuffers/LICENSE'), 'tfjs/LICENSE.txt'],
  ];
  for (const [from, to] of copies) await writeFileAtomic(join(folder, to), await readFile(from));
}
