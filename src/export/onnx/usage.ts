/** How a program runs an ONNX model: in Python, in Node and in a browser. */
import type { ExportRecord } from '../record.js';

export function onnxUsage({ classes, channels, inputSize, input }: ExportRecord): string {
  const { height, width } = inputSize;
  const pixels = input === 'pixels';
  const type = pixels ? 'uint8' : 'float32';
  const array = pixels ? 'Uint8Array' : 'Float32Array';
  const shape = `[N, ${height}, ${width}, ${channels}]`;
  return `\`\`\`python
import json, numpy as np, onnxruntime
session = onnxruntime.InferenceSession('model.onnx')
labels = json.loads(session.get_modelmeta().custom_metadata_map['labels'])
x = np.load('pictures.npy').astype(np.${type})  # ${shape}
probabilities, logits = session.run(['probabilities', 'logits'], {'input': x})  # [N, ${classes.length}] each
print([labels[i] for i in probabilities.argmax(1)])
\`\`\`

\`\`\`js
import { InferenceSession, Tensor } from 'onnxruntime-web'; // or 'onnxruntime-node': the same names

const session = await InferenceSession.create('model.onnx'); // a path; in a browser, its address
const x = new ${array}(${height} * ${width} * ${channels}); // fill in one picture, row by row
const { probabilities } = await session.run({ input: new Tensor('${type}', x, [1, ${height}, ${width}, ${channels}]) });
console.log(probabilities.data); // ${classes.length} numbers, in the order of labels.txt
\`\`\`
`;
}
