// Bundles the programs of the page that `tl export --format web` writes: one plain script each, which a browser also runs
// from the disk, without what they never reach of Node and zod. Run by tools/build.mjs.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';

const programs = ['app', 'worker', 'service-worker'];

/** @param {string} root the repository @param {string} dist where src/ was compiled to */
export async function bundlePage(root, dist) {
  const page = 'export/web/page';
  for (const name of programs) {
    const bundle = await rolldown({
      input: join(root, 'src', page, `${name}.ts`),
      platform: 'browser',
      external: ['node:module'],
      // The preprocessing record's schema is made by calls that do nothing else; nothing here validates a record.
      treeshake: {
        moduleSideEffects: [{ test: /\/page\//, sideEffects: true }],
        manualPureFunctions: ['z', 'positive'],
      },
    });
    const { output } = await bundle.write({
      file: join(dist, 'export/web/bundles', `${name}.js`),
      format: 'iife',
      minify: true,
      banner: '/* tl-toolkit, MIT licence */',
    });
    await bundle.close();
    const outside = output.flatMap((chunk) =>
      'code' in chunk && /\brequire\(|node:module/.test(chunk.code) ? [name] : [],
    );
    if (outside.length > 0) throw new Error(`${name}: a browser has no require`);
  }
  for (const left of programs) rmSync(join(dist, page, `${left}.js`));
}
