/** Rendered emoji with the groups of Unicode as labels, out of packages that npm ships. */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { asset } from '../tools/assets.mjs';

/** Emojibase's number of `component`: skins and hair, parts of other emoji. */
const COMPONENTS = 2;
/** Joins code points to one picture: most of those are variants of another, by sex, skin or hair. */
const JOINER = '200d';

/**
 * Lays the emoji out as `<targetDir>/<group>/<code points>.png`, on white, 256x256: those of one picture each, so that no
 * variant of a training picture validates.
 * @param {string} targetDir made if absent
 */
export async function emojiPictures(targetDir) {
  const json = async (name) => JSON.parse(await readFile(await asset(name), 'utf8'));
  const [folder, emoji, messages] = [
    await asset('emoji-pictures'),
    await json('emoji.json'),
    await json('emoji-messages.json'),
  ];
  const groups = new Map(messages.groups.map(({ order, key }) => [order, key]));
  for (const { hexcode, group } of emoji) {
    const code = hexcode.toLowerCase();
    if (group === undefined || group === COMPONENTS || code.includes(JOINER)) continue;
    // some files are named without the selector that asks for a coloured picture
    const name = [code, code.replaceAll('-fe0f', '')].find((each) => existsSync(join(folder, `${each}.webp`)));
    if (name === undefined) continue; // newer than the package
    const target = join(targetDir, groups.get(group));
    await mkdir(target, { recursive: true });
    await sharp(join(folder, `${name}.webp`))
      .flatten({ background: '#ffffff' })
      .png()
      .toFile(join(target, `${name}.png`));
  }
}
