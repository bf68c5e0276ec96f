/** The thread that runs the model, so that the page stays alive meanwhile. */
import { type Answer, type Classifier, openClassifier } from './classifier.js';
import type { PageDescription } from './description.js';
import { filesOfHost } from './files.js';

/** The first message starts the model; each after that is a picture, answered in the same order. */
export type ToWorker = { readonly description: PageDescription } | { readonly bitmap: ImageBitmap };

export type FromWorker =
  | { readonly progress: number }
  | { readonly backend: string }
  | { readonly answer: Answer }
  | { readonly failure: string };

interface WorkerScope {
  importScripts(address: string): void;
  postMessage(message: FromWorker): void;
  onmessage: (event: MessageEvent<ToWorker>) => void;
  readonly location: Location;
}

const scope = globalThis as unknown as WorkerScope;
const base = new URL('.', scope.location.href).href;
let opened: Promise<Classifier> | undefined;

scope.onmessage = async ({ data }) => {
  try {
    if ('description' in data) {
      opened = openClassifier(data.description, {
        read: filesOfHost(base, data.description.version),
        run: async (script) => scope.importScripts(new URL(script, base).href),
        onProgress: (progress) => scope.postMessage({ progress }),
      });
      scope.postMessage({ backend: (await opened).backend });
    } else {
      const classifier = await opened!;
      scope.postMessage({ answer: await classifier.classify(data.bitmap) });
    }
  } catch (error) {
    scope.postMessage({ failure: error instanceof Error ? error.message : String(error) });
  }
};
