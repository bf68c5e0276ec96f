/** The class names as a file in a zip archive, which lies behind the model's bytes as TensorFlow Lite's metadata wants it. */
import { buffer } from 'node:stream/consumers';
import yazl from 'yazl';
import { labelLines } from '../companions.js';

/** The archive's end, and an entry of its directory. @see APPNOTE.TXT of PKWARE's zip format, 4.3.12 and 4.3.16 */
const END_BYTES = 22;
const [END_COUNT, END_OFFSET] = [10, 16] as const;
const ENTRY_BYTES = 46;
const [ENTRY_NAME, ENTRY_EXTRA, ENTRY_COMMENT, ENTRY_OFFSET] = [28, 30, 32, 42] as const;

/**
 * A zip archive of one text file, not compressed; the same text gives the same bytes.
 * @param start how many bytes lie before it: the places in an archive count from the start of the file that it ends
 */
export async function labelsArchive(name: string, classes: readonly string[], start: number): Promise<Uint8Array> {
  const zip = new yazl.ZipFile();
  // The earliest time that zip can say, in its local time.
  const options = { compress: false, mtime: new Date(1980, 0, 1), forceDosTimestamp: true };
  zip.addBuffer(Buffer.from(labelLines(classes)), name, options);
  zip.end();
  const archive = await buffer(zip.outputStream as NodeJS.ReadableStream);
  const end = archive.length - END_BYTES;
  let entry = archive.readUInt32LE(end + END_OFFSET);
  const move = (at: number): unknown => archive.writeUInt32LE(archive.readUInt32LE(at) + start, at);
  for (let left = archive.readUInt16LE(end + END_COUNT); left > 0; left--) {
    move(entry + ENTRY_OFFSET);
    const lengths = [ENTRY_NAME, ENTRY_EXTRA, ENTRY_COMMENT].map((at) => archive.readUInt16LE(entry + at));
    entry += ENTRY_BYTES + lengths.reduce((a, b) => a + b);
  }
  move(end + END_OFFSET);
  return archive;
}
