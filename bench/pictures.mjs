/** Folders of real photographs as JPEGs of one size, made once and kept below the toolkit's downloads. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { asset } from '../tools/assets.mjs';
import { toolkitHome } from './environment.mjs';

/** Different photographs among them; further ones are the same pixels in a file of its own. */
const DISTINCT = 1000;

/**
 * `DIR/<split>/<class>/<n>.jpg`, quality 90: parts of photographs of food.
 * @param {{ width?: number, height?: number, classes?: number, splits: Record<string, number> }} of pictures of each split
 * @returns {Promise<string>} DIR
 */
export async function pictureFolder({ width = 500, height = 400, classes = 10, splits }) {
  const name = `${Object.entries(splits)
    .map(([split, count]) => `${split}${count}`)
    .join('-')}-of-${classes}-${width}x${height}`;
  const folder = join(toolkitHome, 'bench', name);
  if (existsSync(folder)) return folder;
  const partial = `${folder}.partial-${process.pid}`;
  await rm(partial, { recursive: true, force: true });
  const source = await asset('food-pictures');
  const files = (await readdir(source)).sort();
  const kept = [];
  let index = 0;
  for (const [split, count] of Object.entries(splits)) {
    for (let i = 0; i < classes; i++) await mkdir(join(partial, split, classFolder(i)), { recursive: true });
    for (let i = 0; i < count; i++, index++) {
      if (index < DISTINCT)
        kept.push(await photograph(join(source, files[index % files.length]), { width, height, index }));
      const path = join(partial, split, classFolder(i % classes), `${String(i).padStart(5, '0')}.jpg`);
      await writeFile(path, withComment(kept[index % DISTINCT], index));
    }
  }
  await rename(partial, folder);
  return folder;
}

const classFolder = (index) => `class-${String(index).padStart(4, '0')}`;

/** A part of a photograph: another one of the same file for every `index`. */
async function photograph(file, { width, height, index }) {
  const image = sharp(await readFile(file))
    .toColourspace('srgb')
    .removeAlpha();
  const { width: w, height: h } = await image.metadata();
  const share = 0.7 + 0.3 * ((index * 0.618) % 1);
  const [cut, from] = [{ width: Math.floor(w * share), height: Math.floor(h * share) }, (index * 0.414) % 1];
  const left = Math.floor((w - cut.width) * from);
  const top = Math.floor((h - cut.height) * from);
  return image
    .extract({ left, top, ...cut })
    .resize(width, height, { fit: 'fill' })
    .jpeg({ quality: 90 })
    .toBuffer();
}

/** The file with a number in a comment behind its first marker (ITU T.81, B.2.4.5), so that no two files are the same. */
function withComment(jpeg, number) {
  const comment = Buffer.from([0xff, 0xfe, 0, 6, 0, 0, 0, 0]);
  comment.writeUInt32BE(number, 4);
  return Buffer.concat([jpeg.subarray(0, 2), comment, jpeg.subarray(2)]);
}
