/** A file in pieces whose lengths are known before their bytes, so that one tensor at a time is in memory. */
import type { FileHandle } from 'node:fs/promises';

export interface LatePiece {
  /** How many {@link read} will give. */
  readonly length: number;
  read(): Promise<Uint8Array>;
}

export type Piece = Uint8Array | LatePiece;

export const lengthOf = (pieces: readonly Piece[]): number => pieces.reduce((sum, { length }) => sum + length, 0);

/** Appends the pieces in their order; small ones that follow each other are written together. */
export async function writePieces(file: FileHandle, pieces: readonly Piece[]): Promise<void> {
  let waiting: Uint8Array[] = [];
  const flush = async (): Promise<void> => {
    if (waiting.length > 0) await file.writeFile(Buffer.concat(waiting));
    waiting = [];
  };
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) {
      waiting.push(piece);
      continue;
    }
    const bytes = await piece.read();
    if (bytes.length !== piece.length) throw new Error(`expected ${piece.length} bytes, received ${bytes.length}`);
    await flush();
    await file.writeFile(bytes);
  }
  await flush();
}
