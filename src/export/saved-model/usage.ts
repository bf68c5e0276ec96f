/** How a program runs a SavedModel: in Python, and behind TensorFlow Serving. */
import type { ExportRecord } from '../record.js';

export function savedModelUsage({ classes, channels, inputSize, input }: ExportRecord): string {
  const { height, width } = inputSize;
  const type = input === 'pixels' ? 'uint8' : 'float32';
  return `\`\`\`python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load('.')  # this folder
x = tf.constant(np.load('pictures.npy'), tf.${type})  # [N, ${height}, ${width}, ${channels}]
answer = model.signatures['serving_default'](input=x)  # 'probabilities' and 'logits', in the order of labels.txt
probabilities = answer['probabilities'].numpy()  # [N, ${classes.length}]
names = model.signatures['classify'](input=x)['labels'].numpy()  # of the most probable classes, the best first
\`\`\`

TensorFlow Serving gives the same over HTTP; \`request.json\` holds \`{"instances": [...]}\`, a picture each as
\`x.numpy().tolist()\` writes them, and for the names \`"signature_name": "classify"\` as well:

\`\`\`
docker run -p 8501:8501 -v "$PWD:/models/pictures/1" -e MODEL_NAME=pictures tensorflow/serving
curl -d @request.json http://localhost:8501/v1/models/pictures:predict
\`\`\`
`;
}
