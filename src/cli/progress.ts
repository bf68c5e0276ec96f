/** How a run reports: a bar on a terminal, else a line an epoch; both on stderr. */
import { SingleBar } from 'cli-progress';
import type { HistoryRow, Reporter } from '../train/options.js';
import type { Output, TextStream } from './output.js';
import { duration, percent } from './table.js';

/** A {@link Reporter} that must be closed, so that no bar is left standing. */
export interface TerminalReporter extends Reporter {
  close(): void;
}

interface Bar {
  update(done: number, words: string): void;
  close(): void;
}

function openBar(stream: TextStream, title: string, total: number): Bar {
  const bar = new SingleBar({
    format: `${title} [{bar}] {value}/{total} {words}`,
    stream,
    barsize: 24,
    barCompleteChar: '=',
    barIncompleteChar: ' ',
    hideCursor: true,
    clearOnComplete: true,
    stopOnComplete: false,
    fps: 5,
    gracefulExit: false, // signals are handled by the program
  });
  bar.start(total, 0, { words: '' });
  return {
    update: (done, words) => bar.update(done, { words }),
    close: () => bar.stop(),
  };
}

/** The reporter of `tl finetune`. */
export function terminalReporter(out: Output): TerminalReporter {
  let bar: Bar | undefined;
  let epochs = 0;
  const close = (): void => {
    bar?.close();
    bar = undefined;
  };
  const open = (title: string, total: number): void => {
    close();
    if (out.terminal !== undefined) bar = openBar(out.terminal, title, total);
  };
  let preparing = false;
  return {
    info: (line) => {
      close();
      out.info(line);
    },
    warn: (line) => {
      close();
      out.warn(line);
    },
    featureProgress: ({ done, total, imagesPerSecond }) => {
      if (!preparing) open('frozen part', total);
      preparing = true;
      bar?.update(done, `${Math.round(imagesPerSecond)} images/s`);
    },
    epochStart: ({ epoch, epochs: all, steps }) => {
      epochs = all;
      open(`epoch ${epoch}/${all}`, steps);
    },
    step: ({ step, loss, accuracy, imagesPerSecond, secondsLeft }) => {
      const speed = `${Math.round(imagesPerSecond)} images/s`;
      const left = `${duration(secondsLeft)} left`;
      bar?.update(step, `loss ${loss.toFixed(4)}, accuracy ${percent(accuracy)}, ${speed}, ${left}`);
    },
    epoch: (row) => {
      close();
      out.info(epochLine(row, epochs));
    },
    close,
  };
}

/** `epoch 3/20: loss 0.5123, accuracy 81.2 %, validation loss 0.6110, accuracy 79.0 %, 340 images/s, 12 s, best`. */
export function epochLine(row: HistoryRow, epochs: number): string {
  const validated = Number.isNaN(row.valLoss)
    ? []
    : [`validation loss ${row.valLoss.toFixed(4)}`, `accuracy ${percent(row.valAccuracy)}`];
  return `epoch ${row.epoch}/${epochs}: ${[
    `loss ${row.trainLoss.toFixed(4)}`,
    `accuracy ${percent(row.trainAccuracy)}`,
    ...validated,
    `${Math.round(row.imagesPerSecond)} images/s`,
    duration(row.seconds),
    ...(row.best ? ['best'] : []),
  ].join(', ')}`;
}
