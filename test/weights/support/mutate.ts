/** Damages files at random, repeatably, and watches what reading them comes to. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { ToolkitError } from '../../../src/errors.js';
import { type Rng, rng } from '../../../src/rng.js';
import type { TensorSource } from '../../../src/weights/source.js';

export const MUTATIONS = Number(process.env.TL_MUTATIONS ?? 300);
export const SEED = process.env.TL_MUTATION_SEED ?? '1';

/** What lengths, offsets and counts are turned into most often by accident or by malice. */
const EDGES = [0n, 1n, 0x7fn, 0xffn, 0xffffn, 0x7fffffffn, 0xffffffffn, 2n ** 53n, 2n ** 63n - 1n, 2n ** 64n - 1n];

/** One damaged copy. */
export function mutate(original: Buffer, random: Rng): Buffer {
  const at = () => random.integer(original.length);
  const kind = random.integer(10);
  if (kind === 0) return Buffer.from(original.subarray(0, at())); // cut off
  if (kind === 1) {
    const [start, length] = [at(), 1 + random.integer(16)]; // some bytes lost
    return Buffer.concat([original.subarray(0, start), original.subarray(start + length)]);
  }
  if (kind === 2) {
    const start = at(); // some bytes twice
    return Buffer.concat([original.subarray(0, start), original.subarray(Math.max(0, start - 16))]);
  }
  const copy = Buffer.from(original);
  if (kind <= 4) {
    const width = [1, 2, 4, 8][random.integer(4)]!;
    const start = random.integer(Math.max(1, copy.length - 8)) & ~(width - 1);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(EDGES[random.integer(EDGES.length)]!);
    bytes.copy(copy, start, 0, width);
    return copy;
  }
  for (let flips = 1 + random.integer(4); flips > 0; flips--) copy[at()]! ^= 1 << random.integer(8);
  return copy;
}

/** Numbers of every tensor: what an undamaged file reads as. */
export async function readNumbers(open: () => Promise<TensorSource>): Promise<Map<string, Float32Array>> {
  const source = await open();
  try {
    const found = new Map<string, Float32Array>();
    for (const { name, shape } of source.tensors) {
      const values = await source.read(name);
      if (values.length !== shape.reduce((n, size) => n * size, 1))
        throw new Error(`${name}: ${values.length} numbers`);
      found.set(name, values);
    }
    return found;
  } finally {
    await source.close();
  }
}

export interface MutationOptions {
  readonly open: (path: string) => Promise<TensorSource>;
  /** The format carries checksums: what can be read under its own name must then be right. */
  readonly checked: boolean;
  /** Longest that one file may take. */
  readonly limitMs: number;
}

/** @returns how often each outcome came; fails on any outcome but right or refused */
export async function survive(file: string, count: number, options: MutationOptions): Promise<Map<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'tl-mutated-'));
  const path = join(folder, 'mutated');
  const original = readFileSync(file);
  const right = await readNumbers(() => options.open(file));
  const outcomes = new Map<string, number>();
  try {
    for (let i = 0; i < count; i++) {
      const where = `${file}, seed ${SEED}, mutation ${i}`;
      writeFileSync(path, mutate(original, rng(SEED).split(file.split('/').at(-1)!).split(i)));
      const start = performance.now();
      let outcome = 'read';
      try {
        const numbers = await readNumbers(() => options.open(path));
        for (const [name, values] of options.checked ? numbers : []) {
          const expected = right.get(name);
          if (expected !== undefined)
            expect(Buffer.from(values.buffer).equals(Buffer.from(expected.buffer)), where).toBe(true);
        }
      } catch (error) {
        if (!(error instanceof ToolkitError)) throw new Error(`${where}: ${String(error)}`, { cause: error });
        if (error.hint === undefined || !error.message.includes(path)) throw new Error(`${where}: ${error.message}`);
        outcome = error.code;
      }
      expect(performance.now() - start, where).toBeLessThan(options.limitMs);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return outcomes;
}

export function report(title: string, count: number, outcomes: Map<string, number>): void {
  const list = [...outcomes].sort((a, b) => b[1] - a[1]).map(([outcome, n]) => `${outcome} ${n}`);
  console.log(`${title}: seed ${SEED}, ${count} mutations: ${list.join(', ')}`);
}
