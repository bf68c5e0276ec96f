/**
 * `npm run parity -- export [FILTER...] [--rows FILE]`: every exported format and quantisation of every family of
 * networks, run by its own independent runtime on 20 real photographs, against `tl predict` of the model that it was
 * made from. FILTER is part of `NETWORK/FORMAT/QUANTIZE`. Prints a table as Markdown, and each run on stderr; exit code
 * 1 where a bound is broken. With --rows, what has been measured is kept in FILE, a line of JSON each: it comes into the
 * table again, and is not measured again.
 *
 * MobileNet v1 and v2 have ImageNet's weights below a head that is trained on three groups of foods; the others are
 * trained from random weights on these as a whole, or their answers would say as little of one picture as of another.
 * What Python can run runs in Python (tools/golden/export_*.py), the formats of TensorFlow.js in stock TensorFlow.js on
 * WebAssembly.
 */
import { existsSync } from 'node:fs';
import { appendFile, copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { asset, foodPictures } from './assets.mjs';
import { commandLine, golden, goldenHome, makeHome, python, readArguments, run, say, writeNpy } from './references.mjs';

/**
 * Backbone, source, `real`: the package that its published weights are in, else `train`: what trains all of it. Sources
 * are those whose batch norm's statistics follow so few steps.
 */
const NETWORKS = [
  { backbone: 'mobilenet_v1_1.0', source: 'slim', real: 'mobilenet_v1_1.0_224.pb', ignore: 'final_training_ops/*' },
  { backbone: 'mobilenet_v2_1.0', source: 'torch', real: 'mobilenet_v2-b0353104.pth' },
  { backbone: 'mobilenet_v3_small_1.0', source: 'torch', train: { lr: 2e-3, epochs: 40, 'batch-size': 8 } },
  { backbone: 'resnet50', source: 'torch', train: { lr: 1e-3, epochs: 10 } },
  { backbone: 'vgg11', source: 'torch', train: { lr: 1e-4, epochs: 8 } },
  { backbone: 'googlenet', source: 'torch', train: { lr: 1e-3, epochs: 12 } },
  { backbone: 'vit_ti16', source: 'flax', train: { lr: 3e-4, epochs: 15 } },
  { backbone: 'r50_vit_b16', source: 'flax', train: { lr: 1e-4, epochs: 10, 'input-size': 64 } },
];

/** Groups of foods that look apart, and how many pictures of each. */
const GROUPS = 3;
const PICTURES = 34;
const PHOTOGRAPHS = 20;

/** Who runs a format: scripts of tools/golden in an environment; nobody for those of TensorFlow.js. */
const RUNTIMES = {
  tfjs: [],
  'tfjs-layers': [],
  web: [],
  'teachable-machine': [],
  keras: [
    ['tf', 'export_keras.py', 'Keras 2.15'],
    ['keras3', 'export_keras.py', 'Keras 3.8'],
  ],
  'saved-model': [
    ['tf', 'export_saved_model.py', 'TensorFlow 2.15'],
    ['keras3', 'export_saved_model.py', 'TensorFlow 2.18'],
  ],
  onnx: [['onnx', 'export_onnx.py', 'onnxruntime']],
  tflite: [['litert', 'export_tflite.py', 'LiteRT']],
};

const MOST_DIFFERENCE = { none: 1e-4, float16: 1e-2 };
const LEAST_AGREEMENT = 0.95;
/** A network that says nothing of a picture cannot be agreed with: its first two probabilities are closer than this. */
const DECIDED = 0.01;

const { filters: given, keep, dist, rows: rowsFile } = readArguments('parity.mjs', process.argv.slice(2));
const filters = given.filter((word) => word !== 'export');
const from = (path) => import(pathToFileURL(join(dist, path)).href);

/** Three groups of the food pictures, the same number of each. */
async function dataSet(folder) {
  const { dir, classes } = await foodPictures(join(folder, 'all'));
  const largest = Object.entries(classes)
    .sort((a, b) => b[1] - a[1])
    .slice(0, GROUPS);
  for (const [group] of largest) {
    await mkdir(join(folder, 'data', group), { recursive: true });
    for (const name of (await readdir(join(dir, group))).sort().slice(0, PICTURES))
      await copyFile(join(dir, group, name), join(folder, 'data', group, name));
  }
  return join(folder, 'data');
}

async function readNpy(path) {
  const file = await readFile(path);
  const start = 10 + file.readUInt16LE(8);
  return new Float32Array(file.buffer.slice(file.byteOffset + start, file.byteOffset + file.length));
}

/** Trains a model and gives its folder, the photographs as its input, and what `tl predict` says of them. */
async function prepare(network, work, data, tl) {
  const { backbone, source, real, ignore, train } = network;
  const [out, folder] = [join(work, 'run'), join(work, 'model')];
  const settings = { ...(real === undefined ? { weights: 'none', freeze: 'none' } : { epochs: 20 }), ...train };
  if (real !== undefined) {
    const left = ignore === undefined ? [] : ['--ignore', ignore];
    await tl('import', await asset(real), '--backbone', backbone, '--source', source, ...left);
  }
  await tl(
    ...['finetune', '--data', data, '--backbone', backbone, '--source', source, '--out', out],
    ...[
      '--augment',
      'none',
      '--quiet',
      ...Object.entries(settings).flatMap(([key, value]) => [`--${key}`, `${value}`]),
    ],
  );
  // Away from its run, by which `tl export` finds pictures: its own check would do the same once more.
  await rm(folder, { recursive: true, force: true });
  await rename(join(out, 'best'), folder);
  await rm(out, { recursive: true });
  const { openModelFolder } = await from('weights/model-folder.js');
  const { labelledSamples, labelledPictures } = await from('train/labelled.js');
  const { closeLoader } = await from('data/index.js');
  const model = await openModelFolder(folder);
  const { record } = model;
  const samples = labelledSamples(record, { data, split: 'val' }).samples.slice(0, PHOTOGRAPHS);
  const { height, width } = record.inputSize;
  const pixels = new Float32Array(samples.length * height * width * 3);
  let offset = 0;
  for await (const batch of labelledPictures(record, samples)()) {
    const part = batch.pixels.subarray(0, batch.count * height * width * 3);
    pixels.set(part, offset);
    offset += part.length;
  }
  await closeLoader();
  await model.close();
  const expected = new Float32Array(samples.length * record.classes.length);
  const said = await predictions(tl, folder, samples, record);
  expected.set(said);
  return { folder, record, samples, input: { data: pixels, shape: [samples.length, height, width, 3] }, expected };
}

/** Probabilities of `tl predict`, `[N, classes]`. */
async function predictions(tl, model, samples, record) {
  const lines = await tl.lines(
    ...['predict', '--model', model, '--top', String(record.classes.length), '--quiet'],
    ...samples.map(({ path }) => path),
  );
  return lines.flatMap(({ top }) =>
    record.classes.map((name) => top.find((guess) => guess.class === name)?.probability ?? Number.NaN),
  );
}

function compared(expected, received, classes) {
  let [worst, same, decided] = [received.length === expected.length ? 0 : Infinity, 0, 0];
  for (let start = 0; start < expected.length; start += classes) {
    const rows = [expected, received].map((each) => Array.from(each.subarray(start, start + classes)));
    rows[0].forEach((value, i) => {
      const difference = Math.abs(value - rows[1][i]);
      if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
    });
    const [a, b] = rows.map((row) => row.indexOf(Math.max(...row)));
    const [first, second] = rows[0].toSorted((x, y) => y - x);
    if (first - second < DECIDED) continue;
    decided++;
    if (a === b) same++;
  }
  return { worst, decided, same };
}

/** One export, by each of its runtimes. */
async function exported(model, backbone, format, quantize, work, data, tl) {
  const out = join(work, 'export');
  await rm(out, { recursive: true, force: true });
  const calibrated = quantize === 'int8+' ? ['--calibrate', '--data', data] : [];
  const report = await tl(
    ...['export', '--model', model.folder, '--format', format, '--quantize', quantize.replace('+', ''), '--out', out],
    ...['--allow-difference', '--quiet', ...calibrated],
  );
  const { openExport } = await from('export/exported.js');
  const { loadEngine } = await from('engine/tensorflow.js');
  const [count] = model.input.shape;
  const runs = [];
  try {
    const loaded = await (await openExport(out)).load(await loadEngine());
    runs.push({
      runtime: loaded.runtime,
      probabilities: Float32Array.from(await loaded.probabilities(model.input.data, count)),
    });
    await loaded.dispose();
  } catch (error) {
    if (error.code !== 'EXPORT_NO_RUNTIME') throw error;
  }
  const input = join(work, 'input.npy');
  await writeNpy(input, model.input.data, model.input.shape);
  for (const [environment, script, runtime] of RUNTIMES[format]) {
    const output = join(work, 'output.npy');
    await python(environment, script, out, input, output);
    runs.push({ runtime, probabilities: await readNpy(output) });
  }
  return runs.map(({ runtime, probabilities }) => {
    const { worst, decided, same } = compared(model.expected, probabilities, model.record.classes.length);
    // A canvas gives whole pixels, and TensorFlow's resize fractions of them.
    const rounds = format === 'teachable-machine' && !model.record.preprocessing.kernel.startsWith('pil');
    const most = rounds ? MOST_DIFFERENCE.float16 : MOST_DIFFERENCE[quantize];
    const holds = most === undefined ? decided > 0 && same / decided >= LEAST_AGREEMENT : worst <= most;
    return { backbone, format, quantize, bytes: report.bytes, runtime, worst, decided, same, holds };
  });
}

async function main() {
  say('environments');
  await run('bash', [join(golden, 'run.sh'), 'setup'], { env: { ...process.env, TL_GOLDEN_HOME: goldenHome } });
  const { formatNames, loadFormat } = await from('export/formats.js');
  const work = await mkdtemp(join(tmpdir(), 'tl-export-parity-'));
  const home = await makeHome(work);
  const tl = commandLine(dist, home);
  tl.lines = async (...args) => {
    const { stdout } = await run(process.execPath, [join(dist, 'cli', 'main.js'), ...args, '--json'], {
      env: { ...process.env, TL_HOME: home },
      maxBuffer: 1 << 26,
    });
    return stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  };
  const known = rowsFile === undefined || !existsSync(rowsFile) ? '' : await readFile(rowsFile, 'utf8');
  const rows = known.trim() === '' ? [] : known.trim().split('\n').map(JSON.parse);
  /** Format -> the ways of storing weights that it has. */
  const offers = new Map();
  for (const format of formatNames) {
    const { quantizations, calibrates } = await loadFormat(format);
    offers.set(format, [...quantizations, ...(calibrates ? ['int8+'] : [])]);
  }
  const keepRows = async (found) => {
    rows.push(...found);
    if (rowsFile !== undefined) await appendFile(rowsFile, found.map((row) => `${JSON.stringify(row)}\n`).join(''));
  };
  try {
    const data = await dataSet(work);
    for (const network of NETWORKS) {
      const jobs = [];
      for (const [format, kinds] of offers) {
        for (const quantize of kinds) {
          const name = `${network.backbone}/${format}/${quantize}`;
          const measured = rows.some((row) => `${row.backbone}/${row.format}/${row.quantize}` === name);
          if (!measured && (filters.length === 0 || filters.some((filter) => name.includes(filter))))
            jobs.push({ format, quantize, name });
        }
      }
      if (jobs.length === 0) continue;
      say(`${network.backbone}: training`);
      const model = await prepare(network, work, data, tl);
      say(`${network.backbone}: ${answersOf(model)}`);
      for (const { format, quantize, name } of jobs) {
        try {
          const found = await exported(model, network.backbone, format, quantize, work, data, tl);
          for (const row of found) say(lineOf(row));
          await keepRows(found);
        } catch (error) {
          const said = /error\[(\w+)\]: ([^\n]*)/.exec(error.stderr ?? '');
          const refused = said?.[2] ?? error.stderr?.trim().split('\n').at(-1) ?? error.message;
          say(`${name}: ${refused}`);
          const holds = said?.[1] === 'EXPORT_UNSUPPORTED';
          const row = { backbone: network.backbone, format, quantize, refused, holds };
          if (holds) await keepRows([row]);
          else rows.push(row); // to be tried again
        }
      }
    }
  } finally {
    if (keep) say(`kept ${work}`);
    else await rm(work, { recursive: true, force: true });
  }
  console.log(tableOf(rows, offers));
  const refused = rows.filter((row) => row.refused !== undefined);
  if (refused.length > 0) console.log('\nnot written:');
  for (const row of refused) console.log(`- ${row.backbone}, ${row.format}, ${row.quantize}: ${row.refused}`);
  const broken = rows.filter(({ holds }) => !holds);
  console.log(broken.length === 0 ? '\neverything within its bound' : `\n${broken.length} beyond their bound`);
  return broken.length === 0 ? 0 : 1;
}

/** How many pictures are right, decided, and which classes are named how often. */
function answersOf({ samples, expected, record: { classes } }) {
  const named = classes.map(() => 0);
  let right = 0;
  samples.forEach(({ label }, i) => {
    const row = Array.from(expected.subarray(i * classes.length, (i + 1) * classes.length));
    const answer = row.indexOf(Math.max(...row));
    named[answer]++;
    if (answer === label) right++;
  });
  const { decided } = compared(expected, expected, classes.length);
  return `of ${samples.length} pictures ${right} are right, ${decided} decided; named ${named.join(', ')} times`;
}

const shareOf = ({ decided, same }) => (decided === 0 ? 'undecided' : `${same}/${decided}`);
const KINDS = { none: 'float32', float16: 'float16', uint8: 'uint8', int8: 'int8', 'int8+': 'int8, activations too' };

/**
 * A row a network and way of storing weights, a column a format: the worst of its runtimes. `-` where the format has no
 * such weights, `no` where it has no place for the network, `?` where it was not measured; the size of the folders from least to most.
 */
function tableOf(rows, offers) {
  const formatNames = [...offers.keys()];
  const lines = NETWORKS.flatMap(({ backbone }) =>
    Object.keys(KINDS).flatMap((quantize) => {
      const found = rows.filter((row) => row.backbone === backbone && row.quantize === quantize);
      const sizes = found.flatMap(({ bytes }) => (bytes === undefined ? [] : [bytes / 1e6])).sort((a, b) => a - b);
      if (sizes.length === 0) return [];
      const cells = formatNames.map((format) =>
        offers.get(format).includes(quantize) ? worstOf(found.filter((row) => row.format === format)) : '-',
      );
      const ends = [...new Set([sizes[0], sizes.at(-1)].map((size) => size.toFixed(1)))];
      return [`| ${[backbone, KINDS[quantize], ...cells, ends.join(' - ')].join(' | ')} |`];
    }),
  );
  return [
    `| ${['network', 'weights', ...formatNames, 'MB'].join(' | ')} |`,
    `| --- | --- | ${[...formatNames, 'MB'].map(() => '---:').join(' | ')} |`,
    ...lines,
  ].join('\n');
}

function worstOf(found) {
  if (found.length === 0) return '?';
  if (found.some(({ refused }) => refused !== undefined)) return found[0].holds ? 'no' : '**fails**';
  const told =
    MOST_DIFFERENCE[found[0].quantize] === undefined
      ? shareOf(found.reduce((least, row) => (row.same < least.same ? row : least)))
      : Math.max(...found.map((row) => row.worst)).toExponential(1);
  return found.every(({ holds }) => holds) ? told : `**${told}**`;
}

function lineOf(row) {
  const { backbone, format, quantize, bytes, runtime, worst, holds } = row;
  const size = `${(bytes / 1e6).toFixed(2)} MB`;
  const verdict = holds ? '' : ' **beyond**';
  const agrees = `${shareOf(row)}${verdict}`;
  return `| ${[backbone, format, KINDS[quantize], size, runtime, worst.toExponential(1), agrees].join(' | ')} |`;
}

process.exitCode = await main().catch((error) => {
  say(error.stderr ?? error.stack ?? String(error));
  return 1;
});
