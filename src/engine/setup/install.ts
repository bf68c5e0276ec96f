/** Step: the binding's JavaScript and C++ source, without running its install script. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EngineError } from '../../errors.js';
import { npmCommand, runCommand } from './command.js';
import { packageDirIn } from './home.js';
import { BINDING_VERSION, bindingPackage, type EngineKind, NODE_API_HEADERS_VERSION } from './recipe.js';

/** Measured 7 s on two cores; a slow line may need minutes for its 100 MB. */
const NPM_TIMEOUT_MS = 15 * 60_000;

/**
 * Installs the pinned binding into a private folder with its own package.json, scripts off.
 * @returns the folder of the binding's package
 * @throws EngineError ENGINE_INSTALL_FAILED when npm is absent or fails
 */
export async function installBinding(privateDir: string, kind: EngineKind): Promise<string> {
  const npm = npmCommand();
  if (!npm) throw installError('npm was not found beside node or on the PATH');
  await mkdir(privateDir, { recursive: true });
  const manifest = {
    private: true,
    description: 'Native engine of tl, written by `tl setup`',
    dependencies: { [bindingPackage(kind)]: BINDING_VERSION, 'node-api-headers': NODE_API_HEADERS_VERSION },
  };
  await writeFile(join(privateDir, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  const flags = [
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-package-lock',
    '--prefer-offline',
    '--loglevel=error',
  ];
  const place = ['--prefix', privateDir, '--global=false', '--workspaces=false'];
  const { failure } = await runCommand(npm.file, [...npm.args, 'install', ...flags, ...place], {
    cwd: privateDir,
    timeoutMs: NPM_TIMEOUT_MS,
  });
  if (failure) throw installError(failure);
  await removeSourceMaps(join(privateDir, 'node_modules', '@tensorflow'));
  return packageDirIn(privateDir, kind);
}

/** Source maps are two thirds of these packages (198 of 302 MB) and nothing at run time reads them. */
async function removeSourceMaps(dir: string): Promise<void> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (entry.isFile() && entry.name.endsWith('.map')) await rm(join(entry.parentPath ?? entry.path, entry.name));
  }
}

function installError(reason: string): EngineError {
  return new EngineError({
    code: 'ENGINE_INSTALL_FAILED',
    message: `npm install of the engine's binding ${BINDING_VERSION} failed: ${reason}`,
    hint: 'check that the npm registry can be reached (npm ping), then run `tl setup` again',
  });
}
