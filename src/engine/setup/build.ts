/** Step: compiles the binding's own source against TensorFlow's library. No make, no node-gyp, no patch. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { EngineError } from '../../errors.js';
import { runCommand, which } from './command.js';
import { PICTURES_SOURCE } from './pictures-source.js';
import { NODE_API_VERSION, type Wheel } from './recipe.js';

/** Where node-pre-gyp looks for the binding of a package, and our addons lie beside it. */
const outputIn = (packageDir: string): string => join(packageDir, 'lib', `napi-v${NODE_API_VERSION}`);

/** The addon of {@link QUIET_SOURCE}. */
export const quietFileOf = (packageDir: string): string => join(outputIn(packageDir), 'quiet.node');

/** Its name changes with its source: an engine may have been built by another release, whose addon has other functions. */
const PICTURES_FILE = `pictures-${createHash('sha256').update(PICTURES_SOURCE).digest('hex').slice(0, 8)}.node`;

/** The addon of {@link PICTURES_SOURCE}. */
export const picturesFileOf = (packageDir: string): string => join(outputIn(packageDir), PICTURES_FILE);

/** The addons that an engine has; of those that this release builds, it may lack some. */
export const addonsOf = (packageDir: string): readonly string[] =>
  [quietFileOf(packageDir), picturesFileOf(packageDir)].filter((file) => existsSync(file));

/** Whether an engine has all that this release builds. */
export const hasAddons = (packageDir: string): boolean => addonsOf(packageDir).length === 2;

/**
 * An addon with one function, `quietly(work)`: calls `work` while the process' standard error goes nowhere. TensorFlow
 * 2.18 greets the first graph of a process with two lines that no setting of its own keeps back: they are logged
 * through a copy of Abseil that its library hides.
 * @see https://github.com/tensorflow/tensorflow/blob/v2.18.1/tensorflow/core/common_runtime/mlir_graph_optimization_pass.cc
 */
const QUIET_SOURCE = `
#include <fcntl.h>
#include <node_api.h>
#include <unistd.h>

static napi_value Quietly(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value work, global, result = nullptr;
  napi_get_cb_info(env, info, &count, &work, nullptr, nullptr);
  napi_get_global(env, &global);
  const int kept = dup(STDERR_FILENO);
  const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (kept >= 0 && nowhere >= 0) dup2(nowhere, STDERR_FILENO);
  napi_call_function(env, global, work, 0, nullptr, &result);
  if (kept >= 0) dup2(kept, STDERR_FILENO);
  if (kept >= 0) close(kept);
  if (nowhere >= 0) close(nowhere);
  return result;
}

NAPI_MODULE_INIT() {
  napi_value quietly;
  napi_create_function(env, "quietly", NAPI_AUTO_LENGTH, Quietly, nullptr, &quietly);
  napi_set_named_property(env, exports, "quietly", quietly);
  return exports;
}
`;

/** Measured 3.5 s. */
const COMPILER_TIMEOUT_MS = 10 * 60_000;

/** The first C++ compiler found: `$CXX`, then the usual names. */
export function findCompiler(): string | undefined {
  return which([...(process.env.CXX ? [process.env.CXX] : []), 'g++', 'clang++', 'c++']);
}

/**
 * Compiles `binding/*.cc` of the package to the place where node-pre-gyp looks for it, and the addons beside it.
 * The run path is relative, so that the finished folder can be moved.
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
  const output = outputIn(packageDir);
  const libraries = join(library, 'tensorflow');
  const mac = process.platform === 'darwin';
  const headers = join(privateDir, 'node_modules', 'node-api-headers', 'include');
  const common = [
    ...(mac ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared', '-fPIC']),
    '-O2',
    '-std=gnu++17', // TensorFlow's headers need C++17
    `-DNAPI_VERSION=${NODE_API_VERSION}`,
    `-I${headers}`,
  ];
  const withTensorflow = [
    `-I${join(libraries, 'include')}`,
    ...wheel.libraries.map((name) => join(libraries, name)),
    `-Wl,-rpath,${mac ? '@loader_path' : '$ORIGIN'}/${relative(output, libraries)}`,
  ];
  const compile = (sources: readonly string[], options: readonly string[], to: string): Promise<void> =>
    compileFiles(compiler, packageDir, [...common, ...sources, ...options, '-o', to]);
  await mkdir(output, { recursive: true });
  const [quiet, pictures] = [join(output, 'quiet.cc'), join(output, 'pictures.cc')];
  await writeFile(quiet, QUIET_SOURCE);
  await writeFile(pictures, PICTURES_SOURCE);
  const binding = ['binding/tfjs_backend.cc', 'binding/tfjs_binding.cc'];
  await compile(binding, ['-I..', ...withTensorflow], join(output, 'tfjs_binding.node'));
  await compile([quiet], [], quietFileOf(packageDir));
  // No fused multiply-add, which arm64 has and compilers take unless told: sums are rounded as JavaScript rounds them.
  await compile([pictures], ['-O3', '-ffp-contract=off', ...withTensorflow], picturesFileOf(packageDir));
}

/** @throws EngineError ENGINE_COMPILE_FAILED with the compiler's own words */
async function compileFiles(compiler: string, cwd: string, args: readonly string[]): Promise<void> {
  const { failure } = await runCommand(compiler, args, { cwd, timeoutMs: COMPILER_TIMEOUT_MS });
  if (!failure) return;
  throw new EngineError({
    code: 'ENGINE_COMPILE_FAILED',
    message: `compiling the engine's binding with ${compiler} failed: ${failure}`,
    hint: 'install a C++17 compiler (Debian, Ubuntu: apt-get install g++), then run `tl setup` again',
  });
}
