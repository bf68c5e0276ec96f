/** How a download reports: a bar on a terminal, else a line now and then; both on stderr. */
import type { DownloadProgress, DownloadStart, Listeners } from '../weights/fetch/growing.js';
import type { Output } from './output.js';
import { type Bar, openBar } from './progress.js';
import { bytes, duration } from './table.js';

/** Between two lines, where no bar can be drawn. */
const LINE_EVERY_MS = 10_000;

const MEGABYTE = 1e6; // as publishers state sizes

/** Listeners that must be closed, so that no bar is left standing. */
export interface DownloadReporter extends Required<Listeners> {
  close(): void;
}

/** @param name of what is downloaded: `resnet50 from keras` */
export function downloadReporter(out: Output, name: string): DownloadReporter {
  let bar: Bar = openBar(out.terminal, name);
  let began: { readonly at: number; readonly done: number } | undefined;
  let toldAt = 0;
  const say = (line: string): void => {
    bar.close();
    out.info(line);
    bar = openBar(out.terminal, name);
  };
  return {
    onStart: ({ bytes: total, already }: DownloadStart) => {
      const size = total === undefined ? 'of a size that the server does not say' : bytes(total);
      say(`downloading ${name}: ${size}${already > 0 ? `, of which ${bytes(already)} are there` : ''}`);
      began = { at: performance.now(), done: already };
      toldAt = performance.now();
    },
    onProgress: ({ done, total }: DownloadProgress) => {
      const now = performance.now();
      began ??= { at: now, done };
      const perSecond = (done - began.done) / Math.max(0.001, (now - began.at) / 1000);
      const left = total === undefined || perSecond <= 0 ? '' : `, ${duration((total - done) / perSecond)} left`;
      const speed = `${bytes(Math.max(0, Math.round(perSecond)))}/s${left}`;
      if (out.terminal !== undefined && total !== undefined) {
        bar.update(Math.round(done / MEGABYTE), Math.max(1, Math.round(total / MEGABYTE)), `MB, ${speed}`);
      } else if (now - toldAt >= LINE_EVERY_MS) {
        toldAt = now;
        say(`${bytes(done)}${total === undefined ? '' : ` of ${bytes(total)}`}, ${speed}`);
      }
      if (done === total) bar.close();
    },
    onNotice: say,
    close: () => bar.close(),
  };
}
