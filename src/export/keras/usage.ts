/** How a program runs a Keras model. */
import type { ExportRecord } from '../record.js';

export function kerasUsage({ classes, channels, inputSize, input }: ExportRecord): string {
  const { height, width } = inputSize;
  const numbers = input === 'pixels' ? ', 0..255' : '';
  return `\`\`\`python
import keras, numpy as np

model = keras.models.load_model('model.h5', compile=False)  # Keras 2.13 or later, and Keras 3
x = np.load('pictures.npy').astype('float32')  # [N, ${height}, ${width}, ${channels}]${numbers}
probabilities = model.predict(x)  # [N, ${classes.length}], in the order of labels.txt
\`\`\`

The layers before the head have \`trainable=False\`, as transfer learning begins; \`model.trainable = True\` undoes that. Then
\`model.compile(...)\` and \`model.fit(...)\` go on training. The file also says its classes and its preprocessing, as JSON in
the attributes \`class_names\` and \`preprocessing\`.
`;
}
