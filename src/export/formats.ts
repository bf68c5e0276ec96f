/** The formats by name; each is loaded when it is needed. */
import type { ExportFormat } from './format.js';

export const formatNames = [
  'tfjs',
  'tfjs-layers',
  'keras',
  'saved-model',
  'onnx',
  'tflite',
  'teachable-machine',
  'web',
] as const;
export type FormatName = (typeof formatNames)[number];

const loaders: Record<FormatName, () => Promise<ExportFormat>> = {
  tfjs: async () => (await import('./tfjs/tfjs.js')).tfjs,
  'tfjs-layers': async () => (await import('./tfjs-layers/tfjs-layers.js')).tfjsLayers,
  keras: async () => (await import('./keras/keras.js')).keras,
  'saved-model': async () => (await import('./saved-model/saved-model.js')).savedModel,
  onnx: async () => (await import('./onnx/onnx.js')).onnx,
  tflite: async () => (await import('./tflite/tflite.js')).tflite,
  'teachable-machine': async () => (await import('./teachable-machine/teachable-machine.js')).teachableMachine,
  web: async () => (await import('./web/web.js')).web,
};

export const loadFormat = (name: FormatName): Promise<ExportFormat> => loaders[name]();
