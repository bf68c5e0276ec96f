/** A page for any static host that classifies pictures in the browser, with the model and all that runs it inside. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { channelsFor } from '../../augment/preprocessing.js';
import { sha256File, writeFileAtomic } from '../../files.js';
import { version as toolkit } from '../../version.js';
import type { ExportableModel, ExportFormat, WriteOptions, Written } from '../format.js';
import type { Quantization } from '../quantize/quantizations.js';
import { tfjs } from '../tfjs/tfjs.js';
import { indexHtml } from './html.js';
import { iconSvg, manifestJson } from './manifest.js';
import { type PageDescription, SERVICE_WORKER_SCRIPT, WORKER_SCRIPT } from './page/description.js';
import type { Shell } from './page/service-worker.js';
import { pageScript, writeRuntime } from './runtime.js';
import { styleCss } from './style.js';

/** The folder of the graph model within the page's. */
const MODEL = 'model';

export const web: ExportFormat = {
  title: 'web page',
  quantizations: tfjs.quantizations,
  takesPixels: tfjs.takesPixels,
  calibrates: tfjs.calibrates,
  write: writeWeb,
  open: (folder, record, engine) => tfjs.open(join(folder, MODEL), record, engine),
  usage:
    () => `Put this folder on any static host (GitHub Pages, Netlify, an S3 bucket, nginx): nothing is computed there.
To see it here and now, start one of these in the folder, and open the address that it prints:

\`\`\`sh
npx serve .
python3 -m http.server --bind 127.0.0.1
\`\`\`

On https, or on localhost, the page has the camera, can be installed, and opens without a network once it has been open.
Opened from the disk, by a double click on \`index.html\`, it asks for this folder first. No picture leaves the device.
\`${MODEL}/\` is a TensorFlow.js graph model, which \`tf.loadGraphModel\` loads into pages of your own.

The page answers as \`tl predict\` does on this folder. Only AVIF, CMYK and 16-bit pictures are decoded otherwise by browsers,
which moves probabilities by some thousandths.
`,
};

const stored: Record<Quantization, string> = {
  none: 'float32',
  float16: 'float16',
  uint8: 'whole numbers of 8 bits',
  int8: 'whole numbers of 8 bits',
};

/** @throws EXPORT_UNSUPPORTED, EXPORT_OUT_OF_RANGE, WEIGHTS_NOT_FINITE, FILE_NOT_WRITTEN */
async function writeWeb(folder: string, model: ExportableModel, options: WriteOptions): Promise<Written> {
  const written = await tfjs.write(join(folder, MODEL), model, options);
  await writeRuntime(folder);
  const { backbone, source, weights, classes, inputSize, preprocessing } = model.record;
  await writeFileAtomic(join(folder, 'app.js'), await pageScript('app'));
  await writeFileAtomic(join(folder, WORKER_SCRIPT), await pageScript('worker'));
  await writeFileAtomic(join(folder, 'style.css'), styleCss);
  await writeFileAtomic(join(folder, 'icon.svg'), iconSvg);
  await writeFileAtomic(join(folder, 'manifest.webmanifest'), manifestJson(backbone));

  const description: Omit<PageDescription, 'version'> = {
    ...{ backbone, source, weights, classes, inputSize, preprocessing, toolkit },
    stored: stored[options.quantize],
    channels: channelsFor(preprocessing),
    input: options.withPreprocessing ? 'pixels' : 'normalised',
    modelFiles: await modelFiles(folder),
  };
  const files = await filesBelow(folder);
  const version = await versionOf(folder, files, indexHtml({ ...description, version: '' }));
  await writeFileAtomic(join(folder, 'index.html'), indexHtml({ ...description, version }));
  const shell: Shell = { version, files: ['./', 'index.html', ...files] };
  const worker = `self.shell = ${JSON.stringify(shell)};\n${await pageScript('service-worker')}`;
  await writeFileAtomic(join(folder, SERVICE_WORKER_SCRIPT), worker);
  return written;
}

/** In the order in which the weights stand in them. */
async function modelFiles(folder: string): Promise<PageDescription['modelFiles']> {
  const { weightsManifest } = JSON.parse(await readFile(join(folder, MODEL, 'model.json'), 'utf8')) as {
    readonly weightsManifest: readonly { readonly paths: readonly string[] }[];
  };
  const names = ['model.json', ...weightsManifest.flatMap(({ paths }) => paths)].map((name) => `${MODEL}/${name}`);
  return Promise.all(names.map(async (name) => ({ name, bytes: (await stat(join(folder, name))).size })));
}

/** Names with slashes, sorted. */
async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll('\\', '/'),
    )
    .sort();
}

/** 64 bits of a hash over everything the page consists of. */
async function versionOf(folder: string, files: readonly string[], index: string): Promise<string> {
  const hash = createHash('sha256').update(index);
  for (const name of files) hash.update(name).update(await sha256File(join(folder, name)));
  return hash.digest('hex').slice(0, 16);
}
