/** How a program runs a layers model of TensorFlow.js, and goes on training it. */
import type { ExportRecord } from '../record.js';

export function tfjsLayersUsage({ classes, channels, inputSize, input }: ExportRecord): string {
  const { height, width } = inputSize;
  const numbers = input === 'pixels' ? ', pixels 0..255' : ', preprocessed';
  return `\`\`\`js
import * as tf from '@tensorflow/tfjs'; // 4.22 or later

const model = await tf.loadLayersModel('model.json'); // the address of this folder's model.json
const probabilities = model.predict(x); // x: float32 [N, ${height}, ${width}, ${channels}]${numbers} -> [N, ${classes.length}], in the order of labels.txt
\`\`\`

It goes on training:

\`\`\`js
model.compile({ optimizer: tf.train.adam(1e-3), loss: 'categoricalCrossentropy', metrics: ['accuracy'] });
await model.fit(x, tf.oneHot(labels, ${classes.length}), { epochs: 5, batchSize: 16 });
\`\`\`

Only the head learns: the layers before it have \`trainable: false\`; set a layer's \`trainable\` to true before \`compile\` to train it
as well. Batch norms are part of the kernels before them, as they are once a network is trained: those of TensorFlow.js would
change a frozen network in \`fit\`.
`;
}
