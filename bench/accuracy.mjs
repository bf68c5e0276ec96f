/**
 * The proof that weights transfer: `npm run bench:accuracy [-- --seeds N] [--threads N] [--out DIR] [--dist DIR]`.
 *
 * Torchvision's MobileNetV2, frozen, and a new linear head on photographs of food: once by `tl import` and
 * `tl finetune`, once by the reference, which is torchvision's network and preprocessing and a Keras head with the same
 * split, optimiser, schedule, epochs, batch size and flip. Then ours once more from random numbers, which has to be
 * clearly worse. A seed decides split, head and order; the reference draws its own head and order, more than once,
 * because one draw alone moves the accuracy on so few pictures by two points or so. Exit code 1 where a bound is not
 * kept.
 */
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { asset, foodPictures } from '../tools/assets.mjs';
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

const NETWORK = { backbone: 'mobilenet_v2_1.0', source: 'torch' };
const WEIGHTS = 'mobilenet_v2-b0353104.pth';
/** The defaults of `tl finetune`, written out so that they hold when the defaults change. */
const RECIPE = { epochs: 20, batchSize: 16, lr: 1e-3, valSplit: 0.2 };

/** How often the reference's head is trained on each split. */
const DRAWS = 3;

/** Largest difference of the mean accuracies, in points. */
const WITHIN_POINTS = 2;
/** Random weights have to be at least so many points worse. */
const WORSE_POINTS = 20;
/** Worst difference of our pre_logits from the reference's, relative to the largest; decoding and resizing included. */
const WITHIN_FEATURES = 0.02;

const file = (name) => fileURLToPath(new URL(name, import.meta.url));

function readOptions() {
  const text = (value) => ({ type: 'string', default: value });
  const { values } = parseArgs({
    options: {
      seeds: text('5'),
      threads: text(String(availableParallelism())),
      out: text(join(root, 'bench', 'results')),
      dist: text(join(root, 'dist')),
    },
  });
  const [seeds, threads] = [Number(values.seeds), Number(values.threads)];
  if (!(Number.isInteger(seeds) && seeds > 0)) throw new Error(`--seeds: a whole number from 1, not ${values.seeds}`);
  if (!(Number.isInteger(threads) && threads > 0)) throw new Error(`--threads: from 1, not ${values.threads}`);
  return { seeds, threads, dist: resolve(values.dist), out: resolve(values.out) };
}

/** `tl ... --json` with a store of its own, beside the engine that is set up. */
async function commandLine(home, dist) {
  await mkdir(home);
  await symlink(join(toolkitHome, 'engine'), join(home, 'engine'));
  const main = join(dist, 'cli', 'main.js');
  return (...args) => runJson(process.execPath, [main, ...args, '--json'], null, { TL_HOME: home });
}

/** One run of ours: accuracies in 0 to 1, and what it was trained on. */
async function finetune(tl, { data, out, seed, weights, threads }) {
  const { epochs, batchSize, lr, valSplit } = RECIPE;
  await tl(
    ...['finetune', '--data', data, '--backbone', NETWORK.backbone, '--source', NETWORK.source, '--weights', weights],
    ...['--freeze', 'backbone', '--head', 'linear', '--optimizer', 'adam', '--schedule', 'cosine', '--augment', 'flip'],
    ...['--epochs', epochs, '--batch-size', batchSize, '--lr', lr, '--val-split', valSplit, '--seed', seed].map(String),
    ...['--engine', 'tensorflow', '--device', 'cpu', '--threads', `${threads}`, '--out', out],
  );
  const {
    valAccuracy: accuracy,
    valLoss: loss,
    bestEpoch,
  } = JSON.parse(await readFile(join(out, 'metrics.json'), 'utf8'));
  const [head, ...rows] = (await readFile(join(out, 'history.csv'), 'utf8')).trim().split('\n');
  const last = Number(rows.at(-1).split(',')[head.split(',').findIndex((name) => /^val_?accuracy$/i.test(name))]);
  if (!(last >= 0 && last <= 1)) throw new Error(`${out}/history.csv: no validation accuracy under ${head}`);
  const { resolved } = JSON.parse(await readFile(join(out, 'args.json'), 'utf8'));
  return { best: { accuracy, loss }, bestEpoch, last: { accuracy: last }, fingerprint: resolved.dataFingerprint };
}

/** Our splits, and every picture once: a split names pictures by their position. */
async function splitsOf(data, { seeds, dist }) {
  const { listPictures } = await importFrom(dist, 'train/pictures.js');
  const listed = Array.from({ length: seeds }, (_, seed) => listPictures({ data, valSplit: RECIPE.valSplit, seed }));
  const pictures = [...listed[0].train, ...listed[0].val].map(({ path }) => path).sort();
  const position = new Map(pictures.map((path, i) => [path, i]));
  const indexed = (samples) => samples.map(({ path, label }) => [position.get(path), label]);
  const splits = listed.map(({ train, val, fingerprint }, seed) => {
    return { seed, train: indexed(train), val: indexed(val), fingerprint };
  });
  return { pictures, classes: listed[0].classes, splits };
}

/** Accuracy of always naming the most frequent class of the training pictures. */
function majority({ train, val }) {
  const counts = new Map();
  for (const [, label] of train) counts.set(label, (counts.get(label) ?? 0) + 1);
  const [most] = [...counts].sort((a, b) => b[1] - a[1])[0];
  return val.filter(([, label]) => label === most).length / val.length;
}

/** The draws of one split as one run, and how far they lie apart. */
function meanOf(draws) {
  const accuracies = draws.map(({ best }) => best.accuracy);
  return {
    best: { accuracy: mean(accuracies), loss: mean(draws.map(({ best }) => best.loss)) },
    last: { accuracy: mean(draws.map(({ last }) => last.accuracy)) },
    deviation: deviation(accuracies),
    draws,
  };
}

async function measure(options, work) {
  const { threads, dist } = options;
  const data = join(work, 'food');
  const food = await foodPictures(data);
  const weights = await asset(WEIGHTS);
  const { pictures, classes, splits } = await splitsOf(data, options);
  say(`${food.pictures} pictures in ${classes.length} classes, ${food.copies} copies left out`);

  say("the reference's pre_logits");
  const features = join(work, 'features.f32');
  const torch = await runJson(pythonOf('torch'), [file('accuracy_features.py')], {
    ...{ weights, pictures, out: features, threads },
  });
  say('our pre_logits');
  const compared = await runJson(process.execPath, [file('accuracy_ours.mjs')], {
    ...{ ...NETWORK, weights, pictures, reference: features, dist, threads },
  });
  say(
    `pre_logits differ by ${compared.worst.toExponential(1)} at worst, ${compared.mean.toExponential(1)} on average; ` +
      `the largest is ${compared.largest.toFixed(2)}`,
  );
  say("the reference's heads");
  const keras = await runJson(pythonOf('tf'), [file('accuracy_head.py')], {
    ...{ ...RECIPE, features, shape: torch.shape, classes: classes.length, threads, runs: splits, draws: DRAWS },
  });

  const tl = await commandLine(join(work, 'home'), dist);
  await tl('import', weights, '--backbone', NETWORK.backbone, '--source', NETWORK.source);
  const runs = [];
  for (const split of splits) {
    const { seed } = split;
    const found = { seed, train: split.train.length, val: split.val.length, majority: majority(split) };
    found.reference = meanOf(keras.runs[seed]);
    for (const [name, from] of Object.entries({ ours: 'auto', random: 'none' })) {
      found[name] = await finetune(tl, { data, out: join(work, `${name}-${seed}`), seed, weights: from, threads });
      if (found[name].fingerprint !== split.fingerprint) throw new Error(`seed ${seed}: not the split of the run`);
    }
    runs.push(found);
    say(
      `seed ${seed}: reference ${percent(found.reference.best.accuracy)}, ` +
        `ours ${percent(found.ours.best.accuracy)}, from random weights ${percent(found.random.best.accuracy)}`,
    );
  }
  const tools = { ours: compared.runs, reference: `${torch.runs}; head: ${keras.version}` };
  const paths = { worstPicture: join(basename(dirname(compared.worstPicture)), basename(compared.worstPicture)) };
  return { classes, pictures: pictures.length, preLogits: { ...compared, ...paths }, runs, tools };
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function summaryOf({ runs, preLogits }) {
  const of = (pick) => mean(runs.map(pick));
  const points = runs.map(({ ours, reference }) => 100 * (ours.best.accuracy - reference.best.accuracy));
  const summary = {
    reference: of(({ reference }) => reference.best.accuracy),
    ours: of(({ ours }) => ours.best.accuracy),
    random: of(({ random }) => random.best.accuracy),
    majority: of((run) => run.majority),
    referenceLast: of(({ reference }) => reference.last.accuracy),
    oursLast: of(({ ours }) => ours.last.accuracy),
    randomLast: of(({ random }) => random.last.accuracy),
    referenceLoss: of(({ reference }) => reference.best.loss),
    oursLoss: of(({ ours }) => ours.best.loss),
    randomLoss: of(({ random }) => random.best.loss),
    drawDeviation: Math.sqrt(of(({ reference }) => reference.deviation ** 2)),
    differencePoints: mean(points),
    differenceError: deviation(points) / Math.sqrt(points.length),
    randomPoints: 100 * of(({ ours, random }) => ours.best.accuracy - random.best.accuracy),
    preLogitsWorst: preLogits.worst / preLogits.largest,
  };
  const faults = [
    ...(Math.abs(summary.differencePoints) <= WITHIN_POINTS
      ? []
      : [`the accuracies differ by ${summary.differencePoints.toFixed(1)} points, allowed ${WITHIN_POINTS}`]),
    ...(summary.randomPoints >= WORSE_POINTS
      ? []
      : [`random weights are only ${summary.randomPoints.toFixed(1)} points worse, expected ${WORSE_POINTS}`]),
    ...(summary.preLogitsWorst <= WITHIN_FEATURES
      ? []
      : [`pre_logits differ by ${summary.preLogitsWorst.toFixed(3)} of the largest, allowed ${WITHIN_FEATURES}`]),
  ];
  return { ...summary, faults };
}

const signed = (points) => `${points < 0 ? '' : '+'}${points.toFixed(1)}`;

function tableOf({ runs }, s) {
  const rows = runs.map(({ seed, reference, ours, random, majority: most }) => [
    `seed ${seed}`,
    ...[reference.best.accuracy, ours.best.accuracy].map(percent),
    signed(100 * (ours.best.accuracy - reference.best.accuracy)),
    ...[random.best.accuracy, most].map(percent),
  ]);
  rows.push([
    'mean',
    ...[s.reference, s.ours].map(percent),
    signed(s.differencePoints),
    ...[s.random, s.majority].map(percent),
  ]);
  const last = [s.referenceLast, s.oursLast].map(percent);
  rows.push(['mean, last epoch', ...last, signed(100 * (s.oursLast - s.referenceLast)), percent(s.randomLast), '']);
  rows.push([
    'mean loss',
    ...[s.referenceLoss, s.oursLoss].map((loss) => loss.toFixed(3)),
    '',
    s.randomLoss.toFixed(3),
    '',
  ]);
  return table(['', 'reference', 'ours', 'points', 'random weights', 'majority class'], rows);
}

function markdownOf(record) {
  const { date, summary: s, preLogits: p, runs, tools, machine: of, classes, pictures } = record;
  return `# Transfer to photographs of food, ${date}

Validation accuracy of the epoch with the lowest validation loss.

${tableOf(record, s)}

${pictures} photographs in ${classes.length} classes, ${runs[0].train} to train on and ${runs[0].val} to validate with,
split anew by each seed. One validation picture is ${(100 / runs[0].val).toFixed(1)} points. The mean difference has a
standard error of ${s.differenceError.toFixed(1)} points; training the reference's head on the same split again, with
another draw of starting numbers and order, moves its accuracy by ${(100 * s.drawDeviation).toFixed(1)} points (standard deviation).

- **ours**: \`tl import ${WEIGHTS}\`, then \`tl finetune --backbone ${NETWORK.backbone} --freeze backbone --head linear
  --optimizer adam --schedule cosine --augment flip --epochs ${RECIPE.epochs} --batch-size ${RECIPE.batchSize} --lr ${RECIPE.lr}\`.
- **reference**: the same file in torchvision, torchvision's own preprocessing on PIL, plain and mirrored; on what comes
  out of it a Keras Dense layer with the same split, optimiser, schedule, epochs, batch size and flip, but with its own
  starting numbers and order of pictures; the mean of ${DRAWS} draws.
- **random weights**: ours with \`--weights none\`; the frozen network then has random numbers.
- **majority class**: always the most frequent class of the training pictures.

Before the head, our pre_logits against torchvision's on all ${p.pictures} pictures, plain and mirrored, decoding and
resizing included: worst difference ${p.worst.toPrecision(2)} (${(100 * s.preLogitsWorst).toPrecision(2)} % of the
largest value, ${p.largest.toFixed(1)}), mean difference ${p.mean.toExponential(1)} (mean value ${p.meanMagnitude.toFixed(2)}).

- ours: ${tools.ours}, revision ${record.revision}
- reference: ${tools.reference}
- ${of.cpu}, ${of.cores} cores, ${of.system}, Node ${of.node}
${s.faults.map((fault) => `- **not as promised**: ${fault}\n`).join('')}`;
}

async function main() {
  const options = readOptions();
  assertBuilt(options.dist);
  setUpReferences();
  const work = await mkdtemp(join(tmpdir(), 'tl-accuracy-'));
  let found;
  try {
    found = await measure(options, work);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  const date = new Date().toISOString().slice(0, 10);
  const summary = summaryOf(found);
  const record = {
    date,
    machine: machine(),
    revision: revision(),
    recipe: { ...NETWORK, ...RECIPE },
    summary,
    ...found,
  };
  const path = join(options.out, 'accuracy');
  await writeReport(path, markdownOf(record), record);
  console.log(tableOf(found, summary));
  say(`written: ${path}.md and .json`);
  for (const fault of summary.faults) say(fault);
  return summary.faults.length === 0 ? 0 : 1;
}

process.exitCode = await main().catch((error) => {
  say(error.message);
  return 1;
});
