/** How a page runs a model with the library of Teachable Machine. */
import type { ExportRecord } from '../record.js';

export function teachableMachineUsage({ classes, inputSize, channels }: ExportRecord): string {
  const side = inputSize.height;
  const grey = channels === 1 ? ', in grey' : '';
  return `\`\`\`html
<script src="https://cdn.jsdelivr.net/npm/@tensorflow/tfjs@1.3.1/dist/tf.min.js"></script>
<script src="https://cdn.jsdelivr.net/npm/@teachablemachine/image@0.8.5/dist/teachablemachine-image.min.js"></script>
<script>
  async function classify(picture) { // an <img>, <video> or <canvas>
    const model = await tmImage.load('model.json', 'metadata.json'); // the addresses of this folder's files
    return model.predict(picture); // [{ className, probability }, ...], ${classes.length} of them
  }
</script>
\`\`\`

The library takes the middle square of a picture, at ${side}x${side}${grey}, and its pixels go to the model as they are: the model
itself does the last step of the preprocessing below. The rest of it, what is cut off and how a picture is shrunk, is the
library's and the browser's own.
`;
}
