/** Finds a tfjs-node that the user or the project has installed already, outside the toolkit's own folder. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BINDING_VERSION, bindingPackage, type EngineKind } from './recipe.js';

/** A tfjs-node package somewhere in node_modules. Nothing says yet that its binary is there or loads. */
export interface ResolvablePackage {
  readonly packageDir: string;
  readonly packageName: string;
  readonly version: string;
  /** Why it cannot be used, or undefined. */
  readonly unfit: string | undefined;
}

/**
 * Every tfjs-node of a kind that Node resolves from the working directory or from this package, nearest first.
 * @param from folders to resolve from
 */
export function findResolvable(
  kind: EngineKind,
  from: readonly string[] = [process.cwd(), dirname(fileURLToPath(import.meta.url))],
): ResolvablePackage[] {
  const packageName = bindingPackage(kind);
  const found = new Map<string, ResolvablePackage>();
  for (const folder of from) {
    try {
      const file = createRequire(join(folder, 'resolve.js')).resolve(`${packageName}/package.json`);
      const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
      const unfit =
        version === BINDING_VERSION
          ? undefined
          : `is ${version}, and only ${BINDING_VERSION} shares its registries with this toolkit`;
      found.set(dirname(file), { packageDir: dirname(file), packageName, version, unfit });
    } catch {
      // not installed there
    }
  }
  return [...found.values()];
}
