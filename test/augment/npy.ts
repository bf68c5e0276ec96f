import { readFileSync } from 'node:fs';

/** A C-ordered `.npy` of bytes or float32. */
export function readNpy(path: string): { shape: number[]; data: Uint8Array | Float32Array } {
  const file = readFileSync(path);
  const headerEnd = 10 + file.readUInt16LE(8);
  const header = file.toString('latin1', 10, headerEnd);
  const shape = /'shape': \(([^)]*)\)/
    .exec(header)![1]!
    .split(',')
    .filter((part) => part.trim() !== '')
    .map(Number);
  const bytes = new Uint8Array(file.subarray(headerEnd));
  return { shape, data: header.includes("'<f4'") ? new Float32Array(bytes.buffer) : bytes };
}
