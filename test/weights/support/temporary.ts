/** A folder for the files of one test file, gone when its tests are done. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { ToolkitError } from '../../../src/errors.js';
import { openWeights, type TensorSource } from '../../../src/weights/source.js';

const folder = mkdtempSync(join(tmpdir(), 'tl-weights-'));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

export function temporary(name: string): string {
  return join(folder, name);
}

/** A new and empty folder whose name begins so. */
export function temporaryFolder(name: string): string {
  return mkdtempSync(join(folder, `${name}-`));
}

export function temporaryFile(name: string, content: string | Uint8Array): string {
  const path = temporary(name);
  writeFileSync(path, content);
  return path;
}

/** Runs what must fail with this code; its message must match. */
export async function expectFailure(run: () => unknown, code: string, message: RegExp = /./): Promise<ToolkitError> {
  let thrown: unknown;
  try {
    await run();
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toBeInstanceOf(ToolkitError);
  const error = thrown as ToolkitError;
  expect({ code: error.code, message: error.message }).toEqual({ code, message: expect.stringMatching(message) });
  expect(error.hint).toBeTruthy();
  return error;
}

/** Opens a file, hands it over, and closes it. */
export async function withSource<T>(path: string, use: (source: TensorSource) => Promise<T> | T): Promise<T> {
  const source = await openWeights(path);
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}

/** Every tensor of a file: name -> shape and numbers. */
export async function readAll(path: string): Promise<Map<string, { shape: readonly number[]; data: number[] }>> {
  return await withSource(path, async (source) => {
    const all = new Map<string, { shape: readonly number[]; data: number[] }>();
    for (const { name, shape } of source.tensors) all.set(name, { shape, data: [...(await source.read(name))] });
    return all;
  });
}
