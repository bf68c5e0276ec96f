/** Step: compiles the binding's own source against TensorFlow's library. No make, no node-gyp, no patch. */
import { mkdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { EngineError } from '../../errors.js';
import { runCommand, which } from './command.js';
import { NODE_API_VERSION, type Wheel } from './recipe.js';

/** Measured 3.5 s. */
const COMPILER_TIMEOUT_MS = 10 * 60_000;

/** The first C++ compiler found: `$CXX`, then the usual names. */
export function findCompiler(): string | undefined {
  return which([...(process.env.CXX ? [process.env.CXX] : []), 'g++', 'clang++', 'c++']);
}

/**
 * Compiles `binding/*.cc` of the package to the place where node-pre-gyp looks for it. The run path is relative, so
 * that the finished folder can be moved.
 * @param privateDir folder that holds `node_modules` and, in `library`, what the wheel held
 * @throws EngineError ENGINE_COMPILE_FAILED with the compiler's own words
 */
export async function compileBinding(
  compiler: string,
  privateDir: string,
  packageDir: string,
  library: string,
  wheel: Wheel,
): Promise<void> {
  const output = join(packageDir, 'lib', `napi-v${NODE_API_VERSION}`);
  const libraries = join(library, 'tensorflow');
  const mac = process.platform === 'darwin';
  const args = [
    ...(mac ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared', '-fPIC']),
    '-O2',
    '-std=gnu++17', // TensorFlow's headers need C++17
    `-DNAPI_VERSION=${NODE_API_VERSION}`,
    `-I${join(privateDir, 'node_modules', 'node-api-headers', 'include')}`,
    `-I${join(libraries, 'include')}`,
    '-I..',
    'binding/tfjs_backend.cc',
    'binding/tfjs_binding.cc',
    ...wheel.libraries.map((name) => join(libraries, name)),
    `-Wl,-rpath,${mac ? '@loader_path' : '$ORIGIN'}/${relative(output, libraries)}`,
    '-o',
    join(output, 'tfjs_binding.node'),
  ];
  await mkdir(output, { recursive: true });
  const { failure } = await runCommand(compiler, args, { cwd: packageDir, timeoutMs: COMPILER_TIMEOUT_MS });
  if (!failure) return;
  throw new EngineError({
    code: 'ENGINE_COMPILE_FAILED',
    message: `compiling the engine's binding with ${compiler} failed: ${failure}`,
    hint: 'install a C++17 compiler (Debian, Ubuntu: apt-get install g++), then run `tl setup` again',
  });
}
