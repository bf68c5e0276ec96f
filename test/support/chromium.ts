/**
 * A Chromium to test in: `$TL_CHROMIUM`, else the first of these names on the PATH. Where there is none, tests in it fail in
 * CI and are left out elsewhere, both with a word on how to get one.
 */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { delimiter, extname, join, normalize } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { describe, test } from 'vitest';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];
const HOW =
  "none of chromium, chromium-browser, google-chrome is on the PATH: 'apt-get install chromium', or name one in TL_CHROMIUM";

function findChromium(): string | undefined {
  const named = process.env.TL_CHROMIUM;
  if (named) return named;
  const folders = (process.env.PATH ?? '').split(delimiter);
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
}

const executablePath = findChromium();

/** A `describe` of tests in a browser. */
export function describeInBrowser(name: string, tests: () => void): void {
  if (executablePath !== undefined) describe(name, tests);
  else if (process.env.CI) {
    test(name, () => {
      throw new Error(HOW);
    });
  } else {
    console.warn(`left out: ${name}: ${HOW}`);
    describe.skip(name, tests);
  }
}

/** Without a window, with WebGL by the processor, and with a camera that shows a moving pattern. */
export function launchChromium(): Promise<Browser> {
  const args = [
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    '--use-fake-device-for-media-stream',
    '--use-fake-ui-for-media-stream',
  ];
  if (process.getuid?.() === 0) args.push('--no-sandbox'); // Chromium has none for root
  return chromium.launch({ executablePath: executablePath!, args });
}

export interface Served {
  /** With a slash at the end. */
  readonly address: string;
  /** Paths that were asked for, in that order. */
  readonly asked: readonly string[];
  close(): Promise<void>;
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
};

/** A static host of a folder on this machine, as plain as there are. */
export async function serveFolder(folder: string): Promise<Served> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url!, 'http://localhost').pathname);
    asked.push(path);
    const file = join(folder, normalize(path.endsWith('/') ? `${path}index.html` : path));
    if (!existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    close: () =>
      new Promise((closed) => {
        server.close(() => closed());
        server.closeAllConnections();
      }),
  };
}
