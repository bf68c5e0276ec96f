/**
 * What a JPEG says of itself, and whether it is one of those that every decoder reads alike.
 *
 * The compiled decoder is asked for nothing else: whatever is damaged, cut off, odd or rare goes to sharp, whose verdict
 * and words are the same as ever. So a file must be whole from its first marker to its last.
 *
 * @see https://www.w3.org/Graphics/JPEG/itu-t81.pdf (ITU T.81, annex B)
 * @see https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf (EXIF 2.3, 4.5 and 4.6.4)
 */

/** Of a JPEG that is 8 bits, sequential or progressive, grey or of three colours, and whole. */
export interface PlainJpeg {
  /** As stored, in pixels. */
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  /** EXIF's, 1 to 8; 1 where the file has none. */
  readonly orientation: number;
}

/** Names of T.81, table B.1. */
const [SOF0, SOF1, SOF2, DHT, RST0, RST7, SOI, EOI, SOS, DQT, DRI, APP0, APP1, APP14, APP15, COM] = [
  0xc0, 0xc1, 0xc2, 0xc4, 0xd0, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdd, 0xe0, 0xe1, 0xee, 0xef, 0xfe,
];

/** sharp's guard against decompression bombs, which refuses more. */
const MOST_PIXELS = 0x3fff ** 2;
/** libvips refuses more, which are made to keep a decoder busy (jpeg2vips.c, MAX_SCANS). */
const MOST_SCANS = 100;

/** A file whose segments are not as {@link PlainJpeg} wants them. */
class OddJpeg extends Error {}

/** The header of a JPEG, or undefined where the file is another kind of JPEG, a damaged one, or none. */
export function plainJpeg(file: Uint8Array): PlainJpeg | undefined {
  if (file.length < 4 || file[0] !== 0xff || file[1] !== SOI) return undefined;
  try {
    return walk(file);
  } catch (thrown) {
    if (thrown instanceof OddJpeg || thrown instanceof RangeError) return undefined; // RangeError: past the end of the file
    throw thrown;
  }
}

function walk(file: Uint8Array): PlainJpeg {
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  let frame: Frame | undefined;
  let orientation: number | undefined;
  let restarts = 0; // units between two of them, 0 for none
  let scans = 0;
  for (let at = 2; ; ) {
    const marker = view.getUint16(at) - 0xff00;
    if (marker === EOI) break;
    const length = view.getUint16(at + 2);
    expect(length >= 2 && at + 2 + length <= file.length);
    const segment = new DataView(file.buffer, file.byteOffset + at + 4, length - 2);
    at += 2 + length;
    if (marker === SOF0 || marker === SOF1 || marker === SOF2) {
      expect(frame === undefined);
      frame = frameOf(segment, marker === SOF2);
    } else if (marker === SOS) {
      expect(frame !== undefined && ++scans <= MOST_SCANS);
      const units = unitsOf(segment, frame!);
      at = endOfScan(file, at, restarts === 0 ? 0 : Math.ceil(units / restarts) - 1);
    } else if (marker === DRI) {
      restarts = segment.getUint16(0);
    } else if (marker === APP0) {
      expect(!startsWith(segment, 'JFIF\0') || segment.getUint8(5) === 1); // version 1.x
    } else if (marker === APP1 && startsWith(segment, 'Exif\0\0')) {
      expect(orientation === undefined);
      orientation = orientationOf(new DataView(segment.buffer, segment.byteOffset + 6, segment.byteLength - 6));
    } else if (marker === APP14) {
      expect(!startsWith(segment, 'Adobe') || segment.getUint8(11) <= 1); // no transform, or YCbCr
    } else {
      expect(marker === DHT || marker === DQT || marker === COM || (marker >= APP0! && marker <= APP15!));
    }
  }
  expect(scans > 0);
  const { width, height, components } = frame!;
  return { width, height, channels: components.length === 1 ? 1 : 3, orientation: orientation ?? 1 };
}

interface Frame {
  readonly width: number;
  readonly height: number;
  readonly progressive: boolean;
  readonly components: readonly Component[];
}

/** How many samples there are of it, in relation to the other components. */
interface Component {
  readonly id: number;
  readonly across: number;
  readonly down: number;
}

/** Samples on each side of a block. */
const BLOCK = 8;

/** T.81, B.2.2. */
function frameOf(segment: DataView, progressive: boolean): Frame {
  const [precision, height, width] = [segment.getUint8(0), segment.getUint16(1), segment.getUint16(3)];
  const count = segment.getUint8(5);
  expect(precision === 8 && height > 0 && width > 0 && height * width <= MOST_PIXELS);
  expect((count === 1 || count === 3) && segment.byteLength === 6 + 3 * count);
  const components = Array.from({ length: count }, (_, i): Component => {
    const sampling = segment.getUint8(7 + 3 * i);
    return { id: segment.getUint8(6 + 3 * i), across: sampling >> 4, down: sampling & 15 };
  });
  return { width, height, components, progressive };
}

/** Coded units of a scan (T.81, A.2 and B.2.3), which for a sequential frame is of the whole band with all its bits. */
function unitsOf(segment: DataView, { width, height, components, progressive }: Frame): number {
  const count = segment.getUint8(0);
  expect(count >= 1 && count <= components.length && segment.byteLength === 4 + 2 * count);
  const [from, to, bits] = [1, 2, 3].map((i) => segment.getUint8(2 * count + i));
  expect(progressive || (from === 0 && to === 63 && bits === 0));
  const first = components.find(({ id }) => id === segment.getUint8(1));
  expect(first !== undefined);
  const [across, down] = [Math.max(...components.map((c) => c.across)), Math.max(...components.map((c) => c.down))];
  // Of one component, a unit is a block of its own samples; of several, what belongs to one block of the coarsest.
  const unit = count === 1 ? first! : { across: 1, down: 1 };
  const along = (pixels: number, samples: number, most: number): number =>
    Math.ceil(Math.ceil((pixels * samples) / most) / BLOCK);
  return along(width, unit.across, across) * along(height, unit.down, down);
}

/**
 * Where the next marker stands. Entropy-coded bytes have a 0 behind each 0xFF, but for restarts, of which there must be as
 * many as the scan has room for: decoders differ in how long they look for one that is missing.
 */
function endOfScan(file: Uint8Array, start: number, restarts: number): number {
  let met = 0;
  for (let at = start; ; ) {
    at = file.indexOf(0xff, at);
    expect(at >= 0 && at + 1 < file.length);
    const code = file[at + 1]!;
    if (code === 0) at += 2;
    else if (code >= RST0! && code <= RST7!) {
      expect(code === RST0! + (met++ % 8));
      at += 2;
    } else {
      expect(met === restarts);
      return at;
    }
  }
}

/** TIFF's type of 16-bit numbers, and EXIF's tag. */
const [SHORT, ORIENTATION] = [3, 0x0112];
/** Bytes of an entry of a directory. */
const ENTRY = 12;

/** From the first directory; 1 where it has no such tag. */
function orientationOf(tiff: DataView): number {
  const order = tiff.getUint16(0);
  expect(order === 0x4949 || order === 0x4d4d); // "II", "MM"
  const little = order === 0x4949;
  expect(tiff.getUint16(2, little) === 42);
  const directory = tiff.getUint32(4, little);
  const entries = tiff.getUint16(directory, little);
  let found: number | undefined;
  for (let i = 0; i < entries; i++) {
    const at = directory + 2 + i * ENTRY;
    const [tag, type] = [tiff.getUint16(at, little), tiff.getUint16(at + 2, little)];
    tiff.getUint32(at + 8, little); // the entry is whole
    if (tag !== ORIENTATION) continue;
    expect(found === undefined && type === SHORT && tiff.getUint32(at + 4, little) === 1);
    found = tiff.getUint16(at + 8, little);
    expect(found >= 1 && found <= 8);
  }
  return found ?? 1;
}

function startsWith(segment: DataView, text: string): boolean {
  if (segment.byteLength < text.length) return false;
  return [...text].every((letter, i) => segment.getUint8(i) === letter.charCodeAt(0));
}

function expect(holds: boolean): void {
  if (!holds) throw new OddJpeg();
}
