/** What an ONNX file says of itself, so that a program with nothing else can name classes and prepare pictures. */
import { version } from '../../version.js';
import type { ExportableModel, WriteOptions } from '../format.js';
import type { ModelInformation } from './model-file.js';

/** Values are JSON, but for texts. */
export function modelInformation(
  { backbone, source, classes, inputSize, preprocessing, weights }: ExportableModel['record'],
  { quantize, withPreprocessing, calibration }: Pick<WriteOptions, 'quantize' | 'withPreprocessing' | 'calibration'>,
): ModelInformation {
  return {
    name: backbone.replaceAll(/[^A-Za-z0-9_]/g, '_').replace(/^(?=\d)/, '_'),
    description: `${backbone} (${source}) with ${classes.length} classes`,
    metadata: {
      labels: JSON.stringify(classes),
      preprocessing: JSON.stringify(preprocessing),
      input: withPreprocessing ? 'pixels' : 'normalised',
      input_size: JSON.stringify(inputSize),
      backbone,
      source,
      weights_origin: weights.origin,
      weights_license: weights.license,
      quantize,
      calibrated: String(calibration !== undefined),
      toolkit: version,
    },
  };
}
