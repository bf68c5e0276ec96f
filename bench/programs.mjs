/** Whole programs, from their start to their end, as users run them: ours on the command line, the peers' scripts. */
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { importFrom, pythonOf, runJson, toolkitHome } from './environment.mjs';
import { pictureFolder } from './pictures.mjs';
import { generatedWeights } from './sides/weights.mjs';

const file = (name) => fileURLToPath(new URL(`sides/${name}`, import.meta.url));
const environments = { keras3: 'keras3', keras2: 'tf' };
const keras = (side) => environments[side.split('-')[0]];

/** Removed when the bench ends. */
let scratch;
export function scratchFolder() {
  if (scratch !== undefined) return scratch;
  scratch = mkdtempSync(join(tmpdir(), 'tl-bench-'));
  process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
  return scratch;
}

/**
 * Runs a program from its start to its end.
 * @param {{ program: string, args: readonly string[], env: Record<string, string> }} task
 * @returns {Promise<{ ms: number, peakBytes: number, stdout: string, stderr: string }>}
 */
export const runTimed = (task) => runJson(pythonOf('tf'), [file('timed.py')], task);

/** A home of the toolkit that has the engine, and nothing else: no features of an earlier run. */
export function freshHome(weights) {
  const home = mkdtempSync(join(scratchFolder(), 'home-'));
  symlinkSync(join(toolkitHome, 'engine'), join(home, 'engine'));
  if (weights !== undefined) symlinkSync(join(weights, 'weights'), join(home, 'weights'));
  return home;
}

/** Pixels reach ResNet-50 in units of 1, not of 128 (`caffe`): its first norm takes that away, as trained ones do. */
const forPixels = (rows) => ({
  ...rows,
  body: rows.body.map(([name, shape, ...distribution]) => [
    name,
    shape,
    ...distribution.map((value) => (name === 'conv1_bn/moving_variance' ? value * 1e4 : value)),
  ]),
});

/** What the programs of a case read, made before anything is timed. */
export async function prepareProgram(of, given, sides) {
  const rows = forPixels(given.rows);
  const folder = mkdtempSync(join(scratchFolder(), 'case-'));
  const task = { ...given, case: of, rows };
  const files = { folder, weights: join(folder, `${of.network.reference}.h5`) };
  const write = (environment, what) => runJson(pythonOf(environment), [file('keras_files.py')], { ...task, ...what });
  await write('tf', { weights: files.weights });
  if (of.pictures !== undefined) files.data = await pictureFolder(of.pictures);
  if (of.work === 'finetune') {
    files.home = freshHome();
    const words = ['import', files.weights, '--backbone', of.network.backbone, '--source', of.network.source, '--json'];
    await runJson(process.execPath, [join(given.dist, 'cli', 'main.js'), ...words], {}, { TL_HOME: files.home });
  }
  if (of.work === 'predict') {
    files.picture = join(files.data, 'train', 'class-0000', '00000.jpg');
    files.model = join(folder, 'model');
    await saveModel(of, task, files.model);
    for (const side of sides.filter((each) => each.startsWith('keras'))) {
      files[side] = join(folder, `${side}.keras`);
      await write(keras(side), { model: files[side] });
    }
  }
  return files;
}

/** A model folder of ours with the generated weights. */
async function saveModel({ network, side, classes }, { dist, rows }, folder) {
  const { saveModelFolder } = await importFrom(dist, 'weights/model-folder.js');
  const { findBackbone, findPublished } = await importFrom(dist, 'backbones/index.js');
  const record = {
    formatVersion: 1,
    backbone: network.backbone,
    source: network.source,
    inputSize: { height: side, width: side },
    head: { hidden: [], dropout: 0 },
    classes: Array.from({ length: classes }, (_, i) => `class ${i}`),
    preprocessing: findPublished(findBackbone(network.backbone), network.source).preprocessing,
    weights: { origin: 'generated', license: 'none' },
    data: { fingerprint: '', valSplit: 0, seed: 0 },
    toolkit: 'bench',
  };
  await saveModelFolder(folder, record, await generatedWeights(dist, network, rows));
}

/**
 * Runs one side of a whole program once.
 * @returns a record as the sides in one process tell it; a single time
 */
export async function runProgram(name, side, { case: of, threads, dist, files }) {
  const command = commands[of.work];
  const ours = name.startsWith('ours');
  const home = ours ? freshHome(of.work === 'finetune' ? files.home : undefined) : undefined;
  const out = join(mkdtempSync(join(files.folder, 'out-')), ours ? 'run' : 'model.keras');
  const words = ours ? command.ours({ of, files, out, side }) : command.peer({ of, files, out, side, name });
  const task = ours
    ? { program: process.execPath, args: [join(dist, 'cli', 'main.js'), ...words], env: { TL_HOME: home } }
    : { program: pythonOf(keras(name)), args: words, env: threadsOfTensorFlow(threads) };
  if (ours && command.takesThreads) task.args.push('--threads', String(threads));
  const { ms, peakBytes, stdout } = await runTimed(task);
  const told = await (ours ? command.readOurs({ stdout, out, home, dist, of }) : command.readPeer({ stdout, of }));
  rmSync(out, { recursive: true, force: true });
  const runs = ours ? 'tl' : `Keras in ${name}`;
  return { outputs: told.outputs, timesMs: told.timesMs ?? [ms], peakBytes, runs };
}

const threadsOfTensorFlow = (threads) => ({
  TF_NUM_INTRAOP_THREADS: String(threads),
  TF_NUM_INTEROP_THREADS: String(threads),
});

const lastLine = (text) => JSON.parse(text.trim().split('\n').at(-1));

/** Training options of a case, as our command line has them. */
const finetuneWords = (of, { freeze = of.freeze, cache = 'auto' }) => [
  ...['--backbone', of.network.backbone, '--source', of.network.source, '--freeze', freeze],
  ...['--epochs', String(of.epochs), '--batch-size', String(of.batch), '--augment', of.augment, '--lr', String(of.lr)],
  ...['--schedule', 'constant', '--cache', cache, '--val-split', '0', '--quiet'],
];

/** How each work is written on our side and on the peers', and where its numbers are. */
const commands = {
  predict: {
    takesThreads: true,
    ours: ({ files, of }) => ['predict', '--model', files.model, files.picture, '--json', '--top', String(of.classes)],
    readOurs: ({ stdout, of }) => {
      const byClass = new Map(lastLine(stdout).top.map((each) => [each.class, each.probability]));
      return { outputs: [Array.from({ length: of.classes }, (_, i) => byClass.get(`class ${i}`))] };
    },
    peer: ({ files, name }) => [file('program_predict.py'), files[name], files.picture],
    readPeer: ({ stdout }) => ({ outputs: [lastLine(stdout)] }),
  },
  import: {
    takesThreads: false,
    ours: ({ files, of }) => ['import', files.weights, '--backbone', of.network.backbone, '--json'],
    readOurs: async ({ stdout, dist }) => {
      const { folder, rows } = JSON.parse(stdout);
      const { openSafetensors } = await importFrom(dist, 'weights/safetensors.js');
      const stored = await openSafetensors(join(folder, 'weights.safetensors'));
      const first = await stored.read(rows.find(({ parameter }) => parameter?.endsWith('kernel')).parameter);
      await stored.close();
      return { outputs: [[first.reduce((sum, value) => sum + Math.abs(value), 0)]] };
    },
    peer: ({ files, of }) => [file('program_load.py'), of.network.reference, files.weights],
    readPeer: ({ stdout }) => ({ outputs: [lastLine(stdout)] }),
  },
  finetune: {
    takesThreads: true,
    ours: ({ of, files, out, side }) => ['finetune', '--data', files.data, '--out', out, ...finetuneWords(of, side)],
    readOurs: async ({ out, of }) => {
      const [head, ...lines] = (await readFile(join(out, 'history.csv'), 'utf8')).trim().split('\n');
      const column = (name) => lines.map((line) => Number(line.split(',')[head.split(',').indexOf(name)]));
      return { outputs: [[column('train_loss').at(-1)]], ...epochsOf(of, column('seconds')) };
    },
    peer: ({ of, files, out, side }) => [
      file(side.script),
      ...['--application', of.network.reference, '--module', of.module, '--weights', files.weights],
      ...['--data', files.data, '--out', out, '--augment', of.augment, '--epochs', String(of.peerEpochs ?? of.epochs)],
      ...['--batch', String(of.batch), '--lr', String(of.lr), ...(of.trainFrom ? ['--train-from', of.trainFrom] : [])],
    ],
    readPeer: ({ stdout, of }) => {
      const { loss, seconds } = lastLine(stdout);
      return { outputs: [[loss]], ...epochsOf(of, seconds) };
    },
  },
};

/** Where an epoch is what is timed: from the second on, since the first one compiles, and fills caches. */
const epochsOf = (of, seconds) =>
  of.timed === 'epoch' ? { timesMs: seconds.slice(1).map((value) => 1000 * value) } : {};
