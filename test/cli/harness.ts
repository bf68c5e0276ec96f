/** Runs the program in this process, with streams of its own, and makes what it works on. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import sharp from 'sharp';
import type { TextStream } from '../../src/cli/output.js';
import { runProgram } from '../../src/cli/program.js';
import { toolkitHome } from '../../src/engine/setup/home.js';
import { encodeNpy } from '../../src/weights/numpy/npy.js';
import { writeSafetensors } from '../../src/weights/safetensors.js';
import { type ForwardGolden, generateTensor, inputBatch } from '../support/golden.js';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A stream that keeps what is written to it. */
function memory(isTTY: boolean): TextStream & { text(): string } {
  const chunks: string[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      chunks.push(chunk.toString());
      done();
    },
  });
  return Object.assign(stream, { isTTY, columns: 100, text: () => chunks.join('') });
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  readonly terminal?: boolean;
  readonly signal?: AbortSignal;
}

/** Runs `tl` with these arguments. */
export async function tl(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const { env = {}, terminal = false, signal = new AbortController().signal } = options;
  const [stdout, stderr] = [memory(terminal), memory(terminal)];
  const code = await runProgram(argv, { stdout, stderr, env, signal, stopping: { graceful: false } });
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

/** The only line of stdout as JSON; anything else on stdout fails. */
export function json<T = Record<string, unknown>>({ stdout }: Ran): T {
  if (!/^[^\n]+\n$/.test(stdout)) throw new Error(`expected one line on stdout, received:\n${stdout}`);
  return JSON.parse(stdout) as T;
}

/**
 * A folder of its own, and a `TL_HOME` in it with an empty store and the engine that is set up already. Set
 * `process.env.TL_HOME` to `home` for runs in this process.
 */
export function workplace(): { readonly folder: string; readonly home: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'tl-cli-'));
  const home = join(folder, 'home');
  mkdirSync(home);
  symlinkSync(join(toolkitHome(), 'engine'), join(home, 'engine'));
  return { folder, home, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Writes a fixture's weights under its publisher's names. */
export async function writeGoldenWeights(path: string, golden: Pick<ForwardGolden, 'tensors'>): Promise<void> {
  const entries = golden.tensors.map((row) => ({ name: row[0], shape: row[1], read: () => generateTensor(...row) }));
  await writeSafetensors(path, entries);
}

/** Writes the input of a fixture as `.npy`. */
export function writeInput(path: string, shape: readonly number[]): void {
  writeFileSync(path, encodeNpy({ shape, data: inputBatch(shape) }));
}

/** Writes `<folder>/<colour>/<n>.png`: classes that anything can tell apart. */
export async function writePictures(folder: string, perClass: number): Promise<void> {
  const colours = { blue: [20, 30, 220], green: [20, 200, 40], red: [220, 30, 20] };
  for (const [name, [r, g, b]] of Object.entries(colours) as [string, [number, number, number]][]) {
    mkdirSync(join(folder, name), { recursive: true });
    for (let i = 0; i < perClass; i++) {
      const background = { r: r - i, g: g + i, b: b + i };
      const picture = sharp({ create: { width: 40 + i, height: 36, channels: 3, background } });
      await picture.png().toFile(join(folder, name, `${i}.png`));
    }
  }
}
