/** Keeps the page in the browser, so that it opens without a network. The export writes `shell` before this text. */
import { cachePrefix } from './description.js';

/** The page's files as they were exported. */
export interface Shell {
  readonly version: string;
  /** Addresses below the page. */
  readonly files: readonly string[];
}

interface ServiceWorkerScope {
  readonly shell: Shell;
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(
    type: 'install' | 'activate',
    listener: (event: { waitUntil(work: Promise<unknown>): void }) => void,
  ): void;
  addEventListener(
    type: 'fetch',
    listener: (event: { readonly request: Request; respondWith(response: Promise<Response>): void }) => void,
  ): void;
}

const worker = globalThis as unknown as ServiceWorkerScope;
const { scope } = worker.registration;
const prefix = cachePrefix(scope);
const name = prefix + worker.shell.version;

worker.addEventListener('install', (event) => {
  event.waitUntil(keepAll().then(() => worker.skipWaiting()));
});

worker.addEventListener('activate', (event) => {
  event.waitUntil(forgetOthers().then(() => worker.clients.claim()));
});

worker.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method === 'GET' && request.url.startsWith(scope)) event.respondWith(answer(request));
});

/** All or none: one that is missing stops the installation. The page has put the model there already. */
async function keepAll(): Promise<void> {
  const cache = await caches.open(name);
  for (const file of worker.shell.files) {
    const address = new URL(file, scope).href;
    if (await cache.match(address)) continue;
    await cache.add(new Request(address, { cache: 'no-cache' }));
  }
}

async function forgetOthers(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(
    names.filter((each) => each.startsWith(prefix) && each !== name).map((each) => caches.delete(each)),
  );
}

async function answer(request: Request): Promise<Response> {
  const cache = await caches.open(name);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}
