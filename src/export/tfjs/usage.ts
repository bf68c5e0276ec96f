/** How a program in a browser, or in Node, runs a TensorFlow.js model: from a picture to its probabilities. */
import type { Channels } from '../../augment/image.js';
import { channelsFor, meanColour, type Preprocessing, shortSideOf } from '../../augment/preprocessing.js';
import type { ExportRecord } from '../record.js';

export function tfjsUsage(record: ExportRecord): string {
  const { classes, inputSize, preprocessing, input } = record;
  const lines = snippet(preprocessing, inputSize, input);
  return `\`\`\`js
import * as tf from '@tensorflow/tfjs';

const model = await tf.loadGraphModel('model.json'); // the address of this folder's model.json

function preprocess(picture) { // an <img>, <video>, <canvas> or ImageData
  return tf.tidy(() => {
${lines.map((line) => `    ${line}\n`).join('')}    return x;
  });
}

const probabilities = model.predict(preprocess(picture)); // [1, ${classes.length}], in the order of labels.txt
const logits = model.execute(preprocess(picture), 'logits'); // the same before the softmax
\`\`\`

${exactness(preprocessing)}`;
}

/** How `tf.image.resizeBilinear` differs from what the network was trained on. */
function exactness({ kernel, mean }: Preprocessing): string {
  if (kernel !== 'pil_bilinear' && kernel !== 'pil_bicubic') return 'The code above does exactly that.\n';
  const alpha = channelsFor({ mean }) === 4 ? ' Nor does it weigh colours by their alpha when it resizes.' : '';
  return `The code above comes close: TensorFlow.js has no filter that averages when it shrinks a picture, so shrink large\nones on a canvas first.${alpha}\n`;
}

/** Python's `round`, which torchvision and Pillow use. */
const ROUNDED =
  'const even = (v) => (v % 1 === 0.5 ? 2 * Math.round(v / 2) : Math.round(v)); // halves to even numbers';

function snippet(
  p: Preprocessing,
  { height, width }: { height: number; width: number },
  input: ExportRecord['input'],
): string[] {
  const corners = p.kernel === 'tf1_bilinear_corners';
  const halfPixel = p.kernel !== 'tf1_bilinear' && !corners;
  const resize = (h: string | number, w: string | number): string =>
    `x = tf.image.resizeBilinear(x, [${h}, ${w}], ${corners}, ${halfPixel});`;
  const channels = channelsFor(p);
  const lines = pixels(channels);
  if (p.resize.rule === 'short_side') {
    // slim rounds the sides and cuts off the crop's offset, torchvision the other way round.
    const slim = p.kernel === 'tf1_bilinear';
    const rounding = slim
      ? { side: 'Math.round', guard: '', crop: 'Math.trunc' }
      : { side: 'Math.trunc', guard: ' + 1e-6', crop: 'even' };
    if (!slim) lines.push(ROUNDED);
    lines.push(
      `const ratio = ${shortSideOf(p.resize.ratio, { height, width })} / Math.min(x.shape[0], x.shape[1]);`,
      `const [rows, columns] = [${rounding.side}(x.shape[0] * ratio${rounding.guard}), ${rounding.side}(x.shape[1] * ratio${rounding.guard})];`,
      resize('rows', 'columns'),
      `const [top, left] = [${rounding.crop}((rows - ${height}) / 2), ${rounding.crop}((columns - ${width}) / 2)];`,
      `x = tf.slice(x, [top, left, 0], [${height}, ${width}, ${channels}]);`,
    );
  } else if (p.resize.rule === 'pad') {
    const colour = `[${meanColour(p).join(', ')}]`;
    lines.push(
      ROUNDED,
      'const wide = x.shape[1] / x.shape[0];',
      `const rows = wide > ${width} / ${height} ? Math.max(1, even((x.shape[0] / x.shape[1]) * ${width})) : ${height};`,
      `const columns = wide < ${width} / ${height} ? Math.max(1, even(wide * ${height})) : ${width};`,
      resize('rows', 'columns'),
      `const [top, left] = [even((${height} - rows) / 2), even((${width} - columns) / 2)];`,
      `const around = [[top, ${height} - rows - top], [left, ${width} - columns - left], [0, 0]];`,
      `x = tf.add(tf.pad(tf.sub(x, ${colour}), around), ${colour}); // the mean colour around it`,
    );
  } else {
    if (p.resize.rule === 'central_fraction') {
      const rest = 1 - p.resize.fraction;
      lines.push(
        `const [top, left] = [Math.trunc(x.shape[0] * ${rest} / 2), Math.trunc(x.shape[1] * ${rest} / 2)];`,
        `x = tf.slice(x, [top, left, 0], [x.shape[0] - 2 * top, x.shape[1] - 2 * left, ${channels}]);`,
      );
    }
    lines.push(resize(height, width));
  }
  if (input === 'pixels') {
    lines.push("x = tf.expandDims(tf.cast(tf.round(x), 'int32'), 0); // the model normalises by itself");
    return lines;
  }
  if (p.channelOrder === 'bgr' && channels > 1) {
    const alpha = channels === 4 ? { index: ', 3', name: ', alpha' } : { index: '', name: '' };
    lines.push(`x = tf.gather(x, [2, 1, 0${alpha.index}], 2); // blue, green, red${alpha.name}`);
  }
  lines.push(
    `x = tf.div(tf.sub(tf.mul(x, ${p.scale}), [${p.mean.join(', ')}]), [${p.std.join(', ')}]);`,
    'x = tf.expandDims(x, 0);',
  );
  return lines;
}

/** A picture as float32 `[height, width, channels]`, 0..255. */
function pixels(channels: Channels): string[] {
  if (channels !== 1) {
    const alpha = channels === 4 ? ', 4' : '';
    return [`let x = tf.cast(tf.browser.fromPixels(picture${alpha}), 'float32');`];
  }
  return [
    '// Grey as Pillow rounds it; red, green and blue times these are whole numbers that float32 holds exactly.',
    "let x = tf.mul(tf.cast(tf.browser.fromPixels(picture), 'float32'), [19595, 38470, 7471]);",
    'x = tf.floor(tf.div(tf.add(tf.sum(x, 2, true), 32768), 65536));',
  ];
}
