/** The formats by name; each is loaded when it is needed. */
import type { ExportFormat } from './format.js';

export const formatNames = ['tfjs', 'saved-model', 'onnx', 'web'] as const;
export type FormatName = (typeof formatNames)[number];

const loaders: Record<FormatName, () => Promise<ExportFormat>> = {
  tfjs: async () => (await import('./tfjs/tfjs.js')).tfjs,
  'saved-model': async () => (await import('./saved-model/saved-model.js')).savedModel,
  onnx: async () => (await import('./onnx/onnx.js')).onnx,
  web: async () => (await import('./web/web.js')).web,
};

export const loadFormat = (name: FormatName): Promise<ExportFormat> => loaders[name]();
