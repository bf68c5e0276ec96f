/**
 * The proof that strategies train as they should: `npm run bench:strategies [-- --seeds N] [--draws N] [--threads N]
 * [--out DIR] [--dist DIR] [--only ours|keras] [--fresh]`.
 *
 * Google's MobileNet v1 with its ImageNet weights on photographs of food: a new head alone, the last two blocks too, and
 * everything, each by `tl finetune` and by the same recipe in Keras, from the same file, split, size, optimiser,
 * schedule, epochs and batch size; then two stages of ours against a head alone of ours. A seed is a split in halves,
 * one for training and one for validation. A draw is a run on that split with its own starting numbers of the head, order
 * of pictures and mirrored pictures. One draw moves the accuracy by two points or so: Keras is given ours, so that what is
 * left is a difference of the programs. A head alone, which is cheap, is trained by Keras' own draws as well. Runs that
 * are done are kept in `<out>/strategies.tmp`, and a program that was stopped goes on. Exit code 1 where a bound is not
 * kept.
 */
import { createHash } from 'node:crypto';
import { appendFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asset, foodPictures } from '../tools/assets.mjs';
import { emojiPictures } from './emoji.mjs';
import {
  assertBuilt,
  importFrom,
  machine,
  pythonOf,
  revision,
  root,
  runJson,
  say,
  setUpReferences,
  toolkitHome,
} from './environment.mjs';
import { deviation, mean, table, writeReport } from './report.mjs';

const NETWORK = { backbone: 'mobilenet_v1_1.0', source: 'keras' };
const GRAPH = 'mobilenet_v1_1.0_224.pb';
/** Howard 2017, section 3.4: 128 is one of the sizes that this network was published at. */
const INPUT_SIZE = 128;
/** Of its pre_logits: Howard 2017, table 1. */
const UNITS = 1024;
const BATCH_SIZE = 16;
const VAL_SPLIT = 0.5;

const DATA = {
  food: { lay: foodPictures, what: 'photographs of food' },
  emoji: { lay: emojiPictures, what: 'rendered emoji, on white' },
};

/**
 * Settings of each strategy, under `tl finetune`'s names. `cut` is what the frozen part ends with in Keras; `sides` are
 * the reference by our draws (`keras`) and by its own; `against` is what of ours a strategy is compared with, on as many
 * epochs and at as high a rate for the head.
 */
const STRATEGIES = {
  'head only': {
    settings: { freeze: 'backbone', epochs: 20, lr: 3e-3 },
    ...{ data: 'food', cut: 'pre_logits', sides: ['keras', 'keras, own draws'], draws: 2 },
  },
  'last two blocks': {
    settings: { freeze: 'last:2', epochs: 10, lr: 3e-4 },
    ...{ data: 'food', cut: 'conv_pw_11_relu', sides: ['keras'], draws: 2 },
  },
  everything: {
    settings: { freeze: 'none', bn: 'eval', epochs: 6, lr: 1e-4 },
    ...{ data: 'food', cut: null, sides: ['keras'], draws: 1 },
  },
  'head only, emoji': {
    settings: { freeze: 'backbone', epochs: 12, lr: 3e-3 },
    ...{ data: 'emoji', cut: 'pre_logits', sides: ['keras'], draws: 1 },
  },
  'head only, 12 epochs': {
    settings: { freeze: 'backbone', epochs: 12, lr: 3e-3 },
    ...{ data: 'food', sides: [], draws: 1 },
  },
  'two-stage': {
    settings: {
      ...{ freeze: 'none', 'two-stage': 3, epochs: 12, lr: 3e-3, 'unfreeze-lr': 2e-4, 'layer-decay': 0.9, bn: 'eval' },
    },
    ...{ data: 'food', sides: [], draws: 1, against: 'head only, 12 epochs' },
  },
  'two-stage, emoji': {
    settings: { freeze: 'last:6', 'two-stage': 3, epochs: 12, lr: 3e-3, 'unfreeze-lr': 1e-4, bn: 'eval' },
    ...{ data: 'emoji', sides: [], draws: 1, against: 'head only, emoji' },
  },
};
const names = Object.keys(STRATEGIES);

/** Largest difference of the mean accuracies, in points. */
const WITHIN_POINTS = 1;
/** Worst difference of our pre_logits from Keras', relative to the largest, before anything is trained. */
const WITHIN_FEATURES = 1e-3;
/** On so many pictures of each data set at the most, plain and mirrored. */
const COMPARED = 64;

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const python = (task) => runJson(pythonOf('keras3'), [file('strategies_keras.py')], task);

function readOptions() {
  const text = (value) => ({ type: 'string', default: value });
  const { values } = parseArgs({
    options: {
      seeds: text('3'),
      draws: text('1'),
      threads: text(String(availableParallelism())),
      out: text(join(root, 'bench', 'results')),
      dist: text(join(root, 'dist')),
      only: { type: 'string' },
      fresh: { type: 'boolean', default: false },
    },
  });
  const whole = (name) => {
    const value = Number(values[name]);
    if (!(Number.isInteger(value) && value > 0))
      throw new Error(`--${name}: a whole number from 1, not ${values[name]}`);
    return value;
  };
  const { only, fresh } = values;
  if (only !== undefined && only !== 'ours' && only !== 'keras') throw new Error(`--only: ours or keras, not ${only}`);
  const [seeds, draws, threads] = ['seeds', 'draws', 'threads'].map(whole);
  return { seeds, draws, threads, only, fresh, dist: resolve(values.dist), out: resolve(values.out) };
}

/** The runs that are wanted: cheap ones and dear ones by turns, so that a program that is stopped has some of each. */
function wanted({ seeds, draws }, splits) {
  const most = draws * Math.max(...Object.values(STRATEGIES).map((each) => each.draws));
  const runs = [];
  for (let draw = 0; draw < most; draw++) {
    for (let seed = 0; seed < seeds; seed++) {
      for (const [strategy, { settings, data, sides, draws: few }] of Object.entries(STRATEGIES)) {
        if (draw >= few * draws) continue;
        for (const side of ['ours', ...sides]) {
          const recipe = { ...NETWORK, INPUT_SIZE, BATCH_SIZE, settings, split: splits[data][seed].fingerprint };
          const hash = createHash('sha256').update(JSON.stringify(recipe)).digest('hex').slice(0, 8);
          runs.push({
            key: `${side}, ${strategy}, ${hash}, seed ${seed}, draw ${draw}`,
            strategy,
            data,
            side,
            seed,
            draw,
          });
        }
      }
    }
  }
  return runs;
}

async function done(path) {
  const text = await readFile(path, 'utf8').catch((error) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return new Map(text.split('\n').flatMap((line) => (line === '' ? [] : [[JSON.parse(line).key, JSON.parse(line)]])));
}

/** Lays a data set out, and writes the split of each seed as a manifest that both sides read. */
async function writeSplits(name, { seeds, dist }, work) {
  const data = join(work, name);
  await DATA[name].lay(data);
  const { listPictures } = await importFrom(dist, 'train/pictures.js');
  const splits = [];
  for (let seed = 0; seed < seeds; seed++) {
    const { classes, train, val, fingerprint } = listPictures({ data, valSplit: VAL_SPLIT, seed });
    const manifest = join(work, `${name}-${seed}.csv`);
    const rows = [...train, ...val].map(({ path, label, split }) => `"${path}","${classes[label]}",${split}`);
    await writeFile(manifest, ['path,label,split', ...rows, ''].join('\n'));
    const pictures = [...train, ...val].map(({ path }) => path).sort();
    splits.push({ manifest, classes, pictures, fingerprint, train: train.length, val: val.length });
  }
  return splits;
}

/** Both networks see the same in the same pictures, or nothing is trained. */
async function compareStarts(results, { name, work, weights, pictures: all, threads, dist }) {
  const key = `start, ${name}`;
  const before = (await done(results)).get(key);
  if (before !== undefined) return before;
  const pictures = all.filter((_, i) => i % Math.ceil(all.length / COMPARED) === 0);
  const features = join(work, 'features.f32');
  const keras = await python({ weights, pictures, inputSize: INPUT_SIZE, threads, features });
  const ours = await runJson(process.execPath, [file('accuracy_ours.mjs')], {
    ...{ ...NETWORK, weights, pictures, inputSize: INPUT_SIZE, reference: features, dist, threads },
  });
  const share = ours.worst / ours.largest;
  say(`${name}: pre_logits before training differ by ${share.toExponential(1)} of the largest at worst`);
  if (!(share <= WITHIN_FEATURES))
    throw new Error(`the starting networks differ: ${share}, allowed ${WITHIN_FEATURES}`);
  const start = { key, pictures: pictures.length, worst: share, ours: ours.runs, reference: keras.version };
  await appendFile(results, `${JSON.stringify(start)}\n`);
  return start;
}

/** What a run of ours draws, so that Keras can do the same. */
async function drawsOf(run, { manifest, classes, fingerprint }, dist) {
  const { orderOf } = await importFrom(dist, 'train/sampling.js');
  const { flipView } = await importFrom(dist, 'augment/augment.js');
  const { recipes } = await importFrom(dist, 'augment/recipe.js');
  const { initialize } = await importFrom(dist, 'engine/initializers.js');
  const { rng } = await importFrom(dist, 'rng.js');
  const { listPictures } = await importFrom(dist, 'train/pictures.js');
  const seed = seedOf(run);
  const { train, fingerprint: found } = listPictures({ data: '', manifest, valSplit: VAL_SPLIT, seed });
  if (found !== fingerprint)
    throw new Error(`${manifest}: the pictures come in another order than they were written in`);
  const epochs = Array.from({ length: settingsOf(run.strategy).epochs }, (_, i) => i + 1);
  const orders = epochs.map((epoch) => orderOf(train, { seed }, epoch));
  const random = rng(seed).split('initial values').split('head.logits.kernel');
  return {
    kernel: [...initialize({ kind: 'glorot_uniform' }, [UNITS, classes.length], random)],
    order: orders,
    mirrored: orders.map((order, i) =>
      order.map((position) => Number(flipView(seed, epochs[i], train[position].path, recipes.flip).flip)),
    ),
  };
}

/** `tl ... --json` with a store of its own, beside the engine that is set up. */
async function commandLine(home, dist) {
  await mkdir(home);
  await symlink(join(toolkitHome, 'engine'), join(home, 'engine'));
  const main = join(dist, 'cli', 'main.js');
  return (...args) => runJson(process.execPath, [main, ...args, '--json'], null, { TL_HOME: home });
}

const settingsOf = (strategy) => STRATEGIES[strategy].settings;
const options = (settings) => Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
/** Of everything random in a run. */
const seedOf = ({ seed, draw }) => 1000 * seed + draw;

async function trainOurs(tl, run, { work, manifest, threads }) {
  const out = join(work, 'run');
  const began = performance.now();
  await tl(
    ...['finetune', '--manifest', manifest, '--backbone', NETWORK.backbone, '--source', NETWORK.source],
    ...options(settingsOf(run.strategy)),
    ...options({ 'input-size': INPUT_SIZE, 'batch-size': BATCH_SIZE, seed: seedOf(run), threads, out }),
    ...[
      '--optimizer',
      'adam',
      '--schedule',
      'cosine',
      '--augment',
      'flip',
      '--engine',
      'tensorflow',
      '--device',
      'cpu',
    ],
  );
  const seconds = (performance.now() - began) / 1000;
  const metrics = JSON.parse(await readFile(join(out, 'metrics.json'), 'utf8'));
  const [head, ...rows] = (await readFile(join(out, 'history.csv'), 'utf8')).trim().split('\n');
  const last = Object.fromEntries(head.split(',').map((name, i) => [name, Number(rows.at(-1).split(',')[i])]));
  if (!(last.val_accuracy >= 0 && last.val_loss >= 0)) throw new Error(`no validation accuracy under ${head}`);
  await rm(out, { recursive: true });
  return {
    ...{ key: run.key, accuracy: last.val_accuracy, loss: last.val_loss, trainLoss: last.train_loss },
    ...{ best: metrics.valAccuracy, trained: metrics.trainableParameters, seconds },
  };
}

async function measure(given, work) {
  const { threads, dist, only } = given;
  const results = join(given.out, 'strategies.tmp');
  await mkdir(given.out, { recursive: true });
  if (given.fresh) await rm(results, { force: true });
  const splits = {};
  for (const name of Object.keys(DATA)) splits[name] = await writeSplits(name, given, work);
  const runs = wanted(given, splits);
  const splitOf = ({ data, seed }) => splits[data][seed];
  const before = await done(results);
  const left = runs.filter(({ key }) => !before.has(key));

  const weights = join(work, 'mobilenet_v1.weights.h5');
  if (left.length > 0) {
    await runJson(pythonOf('keras3'), [file('strategies_weights.py')], { graph: await asset(GRAPH), out: weights });
  }
  const starts = {};
  for (const name of Object.keys(DATA)) {
    const { pictures } = splits[name][0];
    starts[name] = await compareStarts(results, { name, work, weights, pictures, threads, dist });
  }
  const ours = only === 'keras' ? [] : left.filter(({ side }) => side === 'ours');
  const theirs = only === 'ours' ? [] : left.filter(({ side }) => side !== 'ours');
  const tl = await commandLine(join(work, 'home'), dist);
  if (ours.length > 0) await tl('import', weights, '--backbone', NETWORK.backbone, '--source', NETWORK.source);
  for (const run of ours) {
    const result = await trainOurs(tl, run, { work, threads, manifest: splitOf(run).manifest });
    await appendFile(results, `${JSON.stringify(result)}\n`);
    say(`${run.key}: ${result.accuracy.toFixed(3)}, ${result.seconds.toFixed(0)} s`);
  }
  for (const name of Object.keys(DATA)) {
    const tasks = theirs.filter(({ data }) => data === name).map((run) => kerasTask(run, splitOf(run), dist));
    if (tasks.length === 0) continue;
    const { pictures } = splits[name][0];
    await python({ weights, pictures, inputSize: INPUT_SIZE, threads, results, runs: await Promise.all(tasks) });
  }
  const found = await done(results);
  const about = ([name, [{ classes, pictures, train, val }]]) => {
    return [name, { classes: classes.length, pictures: pictures.length, train, val, start: starts[name] }];
  };
  return {
    data: Object.fromEntries(Object.entries(splits).map(about)),
    missing: runs.filter((run) => !found.has(run.key)).length,
    runs: runs.filter((run) => found.has(run.key)).map((run) => ({ ...run, ...found.get(run.key) })),
  };
}

async function kerasTask(run, split, dist) {
  const { epochs, lr, bn } = settingsOf(run.strategy);
  return {
    ...{ key: run.key, manifest: split.manifest, cut: STRATEGIES[run.strategy].cut, training: bn !== 'eval' },
    ...{ epochs, lr, batchSize: BATCH_SIZE, seed: seedOf(run) },
    ...(run.side === 'keras' ? { draws: await drawsOf(run, split, dist) } : {}),
  };
}

/** A side's runs: means over splits of the means over draws. */
function meansOf(runs) {
  const seeds = [...new Set(runs.map(({ seed }) => seed))].sort((a, b) => a - b);
  const bySeed = seeds.map((seed) => runs.filter((run) => run.seed === seed));
  const of = (pick) => bySeed.map((each) => mean(each.map(pick)));
  const accuracies = of(({ accuracy }) => accuracy);
  return {
    ...{ seeds: accuracies, mean: mean(accuracies), loss: mean(of(({ loss }) => loss)) },
    ...{ trained: runs[0].trained, draws: runs.length / seeds.length },
    /** Of draws on one split. */
    deviation: Math.sqrt(mean(bySeed.map((each) => deviation(each.map(({ accuracy }) => accuracy)) ** 2))),
  };
}

/** Ours less the reference, in points, run by run where they have the same split and draw. */
function differenceOf(ours, reference, paired) {
  if (!paired) {
    const [a, b] = [meansOf(ours), meansOf(reference)];
    return {
      points: 100 * (a.mean - b.mean),
      error: 100 * Math.hypot(a.deviation / Math.sqrt(ours.length), b.deviation / Math.sqrt(reference.length)),
    };
  }
  const points = ours.map(({ seed, draw, accuracy }) => {
    return 100 * (accuracy - reference.find((run) => run.seed === seed && run.draw === draw).accuracy);
  });
  return {
    points: mean(points),
    error: deviation(points) / Math.sqrt(points.length),
    largest: Math.max(...points.map(Math.abs)),
  };
}

function summaryOf({ runs }) {
  const of = (strategy, side) => runs.filter((run) => run.strategy === strategy && run.side === side);
  const row = (name, ours, reference, paired) => ({
    ...{ name, ours: meansOf(ours), reference: meansOf(reference), ...differenceOf(ours, reference, paired) },
  });
  const strategies = names.flatMap((name) =>
    STRATEGIES[name].sides.map((side) => ({ side, ...row(name, of(name, 'ours'), of(name, side), side === 'keras') })),
  );
  const stages = names.flatMap((name) => {
    const { against, draws } = STRATEGIES[name];
    return against === undefined
      ? []
      : [
          row(
            name,
            of(name, 'ours'),
            of(against, 'ours').filter(({ draw }) => draw < draws),
            true,
          ),
        ];
  });
  const faults = [
    ...strategies.flatMap(({ name, side, points, ours, reference }) => [
      ...(Math.abs(points) <= WITHIN_POINTS
        ? []
        : [`${name}, ${side}: the accuracies differ by ${points.toFixed(1)} points, allowed ${WITHIN_POINTS}`]),
      ...(ours.trained === reference.trained
        ? []
        : [`${name}: ${ours.trained} parameters are trained, in Keras ${reference.trained}`]),
    ]),
    ...stages.flatMap(({ name, points }) =>
      points > 0 ? [] : [`${name}: ${(-points).toFixed(1)} points worse than a head alone`],
    ),
  ];
  return { strategies, stages, faults };
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const signed = (points) => `${points < 0 ? '' : '+'}${points.toFixed(1)}`;
const commandOf = (name) => `\`${options(settingsOf(name)).join(' ')}\``;

function rowOf({ ours, reference, points, error }) {
  const seeds = ({ seeds: each }) => each.map((share) => (100 * share).toFixed(1)).join(', ');
  return [
    ...[percent(reference.mean), percent(ours.mean), signed(points), error.toFixed(1)],
    ...[seeds(reference), seeds(ours), `${ours.draws}`],
    ...[reference.loss.toFixed(4), ours.loss.toFixed(4)],
  ];
}

function markdownOf(record) {
  const { date, summary: s, data, machine: of } = record;
  const head = (one, other) => [
    one,
    other,
    'points',
    'error',
    `${one}, splits`,
    `${other}, splits`,
    'draws',
    'loss',
    'loss',
  ];
  const compared = s.strategies.map((each) => [
    `${each.name}${each.side === 'keras' ? '' : ', own draws'}`,
    ...rowOf(each),
  ]);
  return `# Strategies against Keras, ${date}

Validation accuracy after the last epoch: means over ${s.strategies[0].ours.seeds.length} splits, each the mean of some draws.

${table(['strategy', ...head('Keras', 'ours')], compared)}

Two stages against a head alone, both ours, as many epochs:

${table(
  ['recipe', ...head('head only', 'two-stage')],
  s.stages.map((each) => [each.name, ...rowOf(each)]),
)}

A draw is the head's starting numbers, the order of the pictures and which are mirrored. Keras was given ours, so that
differences are those of the programs, and in the rows \`own draws\` it had its own. \`error\` is the standard error of the
points. Draws on one split deviate by ${(100 * s.strategies[0].ours.deviation).toFixed(1)} points (ours, ${s.strategies[0].name}).

${Object.entries(data)
  .map(
    ([
      name,
      d,
    ]) => `- ${name}: ${d.pictures} ${DATA[name].what} in ${d.classes} classes, ${d.train} to train on and ${d.val} to
  validate with, split anew by each seed; one validation picture is ${(100 / d.val).toFixed(2)} points. Before training, our pre_logits of
  ${d.start.pictures} of them, plain and mirrored, differ from Keras' by ${d.start.worst.toExponential(1)} of the largest at worst, decoding and resizing included.`,
  )
  .join('\n')}
- both: Google's MobileNet v1 with ImageNet's weights, written by Keras as \`.weights.h5\`, at ${INPUT_SIZE}x${INPUT_SIZE};
  Adam, cosine to 0 without a warm-up, batches of ${BATCH_SIZE}, cross-entropy, no dropout, pictures mirrored in half of
  the cases. As many parameters are trained: ${[...new Set(s.strategies.map(({ name, ours }) => `${ours.trained} (${name})`))].join(', ')}.
- ours: \`tl finetune\`, ${names.map((name) => `${name}: ${commandOf(name)}`).join('; ')}.
- Keras: keras.applications.MobileNet with a Dense layer, tf.io.decode_jpeg by the accurate DCT, which Pillow has too,
  tf.image.resize, preprocess_input; \`--bn eval\` is \`training=False\`. Its moving variances take the biased variance of a
  batch, ours the unbiased one, as Keras 2 and slim; the momentum is 0.99 on both sides.
- ours: ${data.food.start.ours}, revision ${record.revision}; ${data.food.start.reference}
- ${of.cpu}, ${of.cores} cores, ${of.system}, Node ${of.node}
`;
}

async function main() {
  const given = readOptions();
  assertBuilt(given.dist);
  setUpReferences();
  const work = await mkdtemp(join(tmpdir(), 'tl-strategies-'));
  try {
    const measured = await measure(given, work);
    if (measured.missing > 0) {
      say(`${measured.missing} runs are still to be done, so there is no report yet`);
      return;
    }
    const record = {
      date: new Date().toISOString().slice(0, 10),
      ...{ summary: summaryOf(measured), ...measured, machine: machine(), revision: revision() },
    };
    const markdown = markdownOf(record);
    await writeReport(join(given.out, 'strategies'), markdown, record);
    process.stdout.write(markdown);
    for (const fault of record.summary.faults) say(`FAULT ${fault}`);
    if (record.summary.faults.length > 0) process.exitCode = 1;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

await main();
