/** The model as the page uses it: on a thread of its own where the browser has them, else in the page. */
import { type Answer, type Classifier, openClassifier } from './classifier.js';
import { type PageDescription, WORKER_SCRIPT } from './description.js';
import { filesOfFolder, filesOfHost } from './files.js';
import type { FromWorker, ToWorker } from './worker.js';

/** A page opened from the disk may read nothing beside itself: its folder has to be chosen. */
export const isFromDisk = location.protocol === 'file:';

/**
 * @param chosen the page's own folder, for a page from the disk
 * @param onProgress of the model's files that have come, 0 to 1
 */
export async function startModel(
  description: PageDescription,
  chosen: Iterable<File> | undefined,
  onProgress: (share: number) => void,
): Promise<Classifier> {
  if (chosen !== undefined) return openClassifier(description, { read: filesOfFolder(chosen), run, onProgress });
  if (typeof Worker !== 'undefined' && typeof OffscreenCanvas !== 'undefined') return onThread(description, onProgress);
  const base = new URL('.', location.href).href;
  return openClassifier(description, { read: filesOfHost(base, description.version), run, onProgress });
}

/** A script of the page that has run. */
const scripts = new Map<string, Promise<void>>();

function run(script: string): Promise<void> {
  const running =
    scripts.get(script) ??
    new Promise<void>((done, fail) => {
      const element = document.createElement('script');
      element.src = script;
      element.onload = () => done();
      element.onerror = () => fail(new Error(`${script} does not load`));
      document.head.append(element);
    });
  scripts.set(script, running);
  return running;
}

/** Questions are answered in their order. */
function onThread(description: PageDescription, onProgress: (share: number) => void): Promise<Classifier> {
  const worker = new Worker(WORKER_SCRIPT);
  const waiting: { done(answer: Answer): void; fail(error: Error): void }[] = [];
  const send = (message: ToWorker, transfer: Transferable[] = []): void => worker.postMessage(message, transfer);
  const classify = (bitmap: ImageBitmap): Promise<Answer> =>
    new Promise((done, fail) => {
      waiting.push({ done, fail });
      send({ bitmap }, [bitmap]);
    });
  return new Promise((ready, failed) => {
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
      if ('progress' in data) onProgress(data.progress);
      else if ('backend' in data) ready({ backend: data.backend, classify });
      else if ('answer' in data) waiting.shift()?.done(data.answer);
      else {
        const error = new Error(data.failure);
        const asked = waiting.shift();
        if (asked) asked.fail(error);
        else failed(error);
      }
    };
    worker.onerror = (event) => failed(new Error(event.message || `${WORKER_SCRIPT} does not load`));
    send({ description });
  });
}
