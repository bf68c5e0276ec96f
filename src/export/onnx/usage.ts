import type { ExportRecord } from '../record.js';
export function onnxUsage(_record: ExportRecord): string {
  return '';
}
