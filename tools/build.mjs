// Compiles src/ to dist/ and makes the command line executable. Run by `npm run build` and, after `npm ci`, by `prepare`.
// Compiled beside dist/ and renamed into place, so that a program that runs meanwhile finds one or the other whole.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundlePage } from './build-page.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
const [dist, fresh, old] = ['dist', `dist.${process.pid}.new`, `dist.${process.pid}.old`].map((name) =>
  join(root, name),
);
const { status } = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.json'), '--outDir', fresh], {
  stdio: 'inherit',
  cwd: root,
});
const main = join(fresh, 'cli/main.js');
if (existsSync(main)) {
  await bundlePage(root, fresh);
  chmodSync(main, 0o755);
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(fresh, dist);
}
for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true });
process.exit(status ?? 1);
