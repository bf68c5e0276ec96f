/** Step: the binding's own install script, which downloads a prebuilt binary where its publisher can be reached. */
import { rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { runCommand } from './command.js';
import type { EngineKind } from './recipe.js';

/** Its 100 to 400 MB come in this time on any line on which the wheel would not be tried sooner. */
const SCRIPT_TIMEOUT_MS = 120_000;

/** A publisher that does not answer a request for one header in this time is taken for unreachable. */
const REACH_TIMEOUT_MS = 10_000;

/**
 * Runs the package's install script. It empties `deps/` first, so nothing of ours may lie there.
 * @returns why it did not work, or undefined
 */
export async function runInstallScript(packageDir: string, kind: EngineKind): Promise<string | undefined> {
  const unreachable = await whyUnreachable();
  if (unreachable) return unreachable;
  const bin = join(packageDir, '..', '..', '.bin');
  const { failure } = await runCommand(
    process.execPath,
    ['scripts/install.js', ...(kind === 'gpu' ? ['gpu', 'download'] : [])],
    {
      cwd: packageDir,
      env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ''}` },
      timeoutMs: SCRIPT_TIMEOUT_MS,
    },
  );
  if (failure) await removeLeftovers(packageDir);
  return failure && `its install script failed: ${failure}`;
}

/** Half a download would otherwise be loaded in place of what is built later. */
export async function removeLeftovers(packageDir: string): Promise<void> {
  for (const name of ['deps', 'lib', 'build']) await rm(join(packageDir, name), { recursive: true, force: true });
}

/** The script itself waits without limit for a host that never answers, so one short request goes first. */
async function whyUnreachable(): Promise<string | undefined> {
  const { env } = process;
  const proxied = env.HTTPS_PROXY ?? env.https_proxy ?? env.ALL_PROXY; // Node's fetch does not go through it
  const host = env.TFJS_NODE_CDN_STORAGE ?? env.CDN_STORAGE ?? 'https://storage.googleapis.com/';
  if (proxied) return undefined;
  try {
    await fetch(host, { method: 'HEAD', signal: AbortSignal.timeout(REACH_TIMEOUT_MS) });
    return undefined;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    return `its download cannot be reached: ${host}: ${cause}`;
  }
}
