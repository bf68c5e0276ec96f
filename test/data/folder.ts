import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A new empty folder that is removed when the test ends. */
export function newFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'tl-data-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** A new folder with these files, all holding `content`. */
export function folderWith(paths: readonly string[], content: string | Uint8Array = 'x'): string {
  const dir = newFolder();
  for (const path of paths) writeFile(join(dir, path), content);
  return dir;
}

export function writeFile(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}
