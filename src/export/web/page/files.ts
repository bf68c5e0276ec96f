/** Where the page's own files come from: the host it lies on, the browser's copy of them, or a folder that was chosen. */
import { cachePrefix } from './description.js';

/** A file of the page by its address below it. */
export type ReadFile = (name: string, onBytes?: (bytes: number) => void) => Promise<Blob>;

/** What the page lies on answered otherwise than with the file. */
export class FileMissing extends Error {}

/**
 * From the host, and kept for use without a network where the browser lets the page keep anything.
 * @param version names the copy: a file of another version is never taken for one of this
 */
export function filesOfHost(base: string, version: string): ReadFile {
  return async (name, onBytes = () => {}) => {
    const address = new URL(name, base).href;
    // Absent on http, but for localhost; refused in some private windows.
    const kept = await globalThis.caches?.open(cachePrefix(base) + version).catch(() => undefined);
    const copy = await kept?.match(address);
    if (copy) {
      const blob = await copy.blob();
      onBytes(blob.size);
      return blob;
    }
    const response = await fetch(address, { cache: 'no-cache' }); // asks the host whether its copy is still the same
    if (!response.ok) throw new FileMissing(`${address}: the host answers ${response.status} ${response.statusText}`);
    const blob = await read(response, onBytes);
    await kept?.put(address, new Response(blob)).catch(() => undefined); // no room: the page works all the same
    return blob;
  };
}

/** All of a response, telling how much has come. */
async function read(response: Response, onBytes: (bytes: number) => void): Promise<Blob> {
  if (!response.body) return response.blob();
  const reader = response.body.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(parts);
    parts.push(value as Uint8Array<ArrayBuffer>);
    onBytes(value.length);
  }
}

/** From the page's own folder, which somebody chose: a page that is opened from the disk may not read beside itself. */
export function filesOfFolder(chosen: Iterable<File>): ReadFile {
  const files = new Map([...chosen].map((file) => [file.webkitRelativePath.replace(/^[^/]*\//, ''), file]));
  return async (name, onBytes = () => {}) => {
    const file = files.get(name);
    if (file === undefined)
      throw new FileMissing(`${name} is not in this folder: choose the one that holds index.html`);
    onBytes(file.size);
    return file;
  };
}
