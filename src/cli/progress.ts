/** How a run reports: a bar on a terminal, else a line an epoch; both on stderr. */
import { SingleBar } from 'cli-progress';
import type { HistoryRow, Reporter, Waiting } from '../train/options.js';
import type { Output, TextStream } from './output.js';
import { duration, percent } from './table.js';

/** A {@link Reporter} that must be closed, so that no bar is left standing. */
export interface TerminalReporter extends Reporter {
  close(): void;
}

/** A bar that appears with its first number. */
export interface Bar {
  update(done: number, total: number, words?: string): void;
  /** Takes the bar away. */
  close(): void;
}

/** A bar on a terminal; nothing without one. */
export function openBar(stream: TextStream | undefined, title: string): Bar {
  let bar: SingleBar | undefined;
  return {
    update: (done, total, words = '') => {
      if (stream === undefined) return;
      if (bar === undefined) {
        bar = newBar(stream, title);
        bar.start(total, done, { words });
      }
      bar.update(done, { words });
    },
    close: () => {
      bar?.stop();
      bar = undefined;
    },
  };
}

function newBar(stream: TextStream, title: string): SingleBar {
  return new SingleBar({
    format: `${title} [{bar}] {value}/{total} {words}`,
    stream,
    barsize: 24,
    barCompleteChar: '=',
    barIncompleteChar: ' ',
    hideCursor: true,
    clearOnComplete: true,
    fps: 5,
    gracefulExit: false, // signals are handled by the program
  });
}

/** The reporter of `tl finetune`. */
export function terminalReporter(out: Output): TerminalReporter {
  let bar = openBar(out.terminal, 'frozen part');
  let epochs = 0;
  return {
    info: (line) => {
      bar.close();
      out.info(line);
    },
    warn: (line) => {
      bar.close();
      out.warn(line);
    },
    featureProgress: ({ done, total, imagesPerSecond }) => {
      bar.update(done, total, `${Math.round(imagesPerSecond)} images/s`);
    },
    rateTest: ({ step, steps, lr, loss, secondsLeft }) => {
      if (step === 1) {
        bar.close();
        bar = openBar(out.terminal, 'range test');
      }
      bar.update(step, steps, `rate ${lr.toExponential(1)}, loss ${loss.toFixed(4)}, ${duration(secondsLeft)} left`);
    },
    epochStart: ({ epoch, epochs: all, steps }) => {
      bar.close();
      epochs = all;
      bar = openBar(out.terminal, `epoch ${epoch}/${all}`);
      bar.update(0, steps);
    },
    step: ({ step, steps, loss, accuracy, imagesPerSecond, secondsLeft }) => {
      const speed = `${Math.round(imagesPerSecond)} images/s`;
      const left = `${duration(secondsLeft)} left`;
      bar.update(step, steps, `loss ${loss.toFixed(4)}, accuracy ${percent(accuracy)}, ${speed}, ${left}`);
    },
    epoch: (row, waiting) => {
      bar.close();
      out.info(epochLine(row, epochs, waiting));
    },
    close: () => bar.close(),
  };
}

/**
 * `epoch 3/20: loss 0.5123, accuracy 81.2 %, validation loss 0.6110, accuracy 79.0 %, 340 images/s, 12 s,
 * 0.4 % waiting for pictures, best`, on one line.
 */
export function epochLine(row: HistoryRow, epochs: number, { share }: Waiting): string {
  const validated = Number.isNaN(row.valLoss)
    ? []
    : [`validation loss ${row.valLoss.toFixed(4)}`, `accuracy ${percent(row.valAccuracy)}`];
  return `epoch ${row.epoch}/${epochs}: ${[
    `loss ${row.trainLoss.toFixed(4)}`,
    `accuracy ${percent(row.trainAccuracy)}`,
    ...validated,
    `${Math.round(row.imagesPerSecond)} images/s`,
    duration(row.seconds),
    `${percent(share)} waiting for pictures`,
    ...(row.best ? ['best'] : []),
  ].join(', ')}`;
}
