/**
 * Compares this toolkit with the reference implementations at real size, through real weights files and the command
 * line: `npm run parity [-- FILTER...] [--keep] [--dist DIR]`.
 *
 * Python (tools/golden) writes a weights file by Keras, slim or PyTorch, an input at 224 and at 193, and what the
 * reference computes. Then `tl import` takes the file in, and `tl forward` runs both inputs: one with the imported
 * weights, one with the file itself. Every tap, pre_logits and logits are compared by numpy. The last rows are real
 * ImageNet weights on photographs. `npm run parity -- export` is about exported models: export-parity.mjs. Exit code 1 above 1e-4 of the reference's largest absolute value.
 */
import { mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { asset } from './assets.mjs';
import { commandLine, golden, goldenHome, makeHome, python, readArguments, run, say, writeNpy } from './references.mjs';

const TOLERANCE = 1e-4;

/** Photograph -> the class of ImageNet that it shows: Egyptian cat, espresso, moped. */
const PHOTOGRAPHS = { 'chelsea.png': 285, 'coffee.png': 967, 'motorcycle_left.png': 665 };

/** Real weights -> who runs them in Python. `background`: class 0 of these logits is none of ImageNet's. */
const REAL = [
  {
    name: 'real.mobilenet_v2_1.0.torch',
    environment: 'torch',
    script: 'parity_torch.py',
    weights: ['mobilenet_v2-b0353104.pth'],
    background: 0,
  },
  { name: 'real.mobilenet_v1_1.0.slim', environment: 'tf', script: 'parity_slim.py', weights: [], background: 1 },
];

/** Environment of tools/golden and the script that lists its networks and writes them. */
const WRITERS = [
  ['tf', 'parity_keras.py'],
  ['keras3', 'parity_keras3.py'],
  ['tf', 'parity_slim.py'],
  ['torch', 'parity_torch.py'],
  ['flax', 'parity_flax.py'],
];

const { filters, keep, dist } = readArguments('parity.mjs', process.argv.slice(2));

/** Every network that a reference can be had of, with the script that writes it. */
async function listVariants() {
  const lists = await Promise.all(WRITERS.map(([environment, script]) => python(environment, script, '--list')));
  return lists.flatMap(({ stdout }, i) => {
    const [environment, script] = WRITERS[i];
    return stdout
      .split('\n')
      .flatMap((name) => (name.trim() === '' ? [] : [{ name: name.trim(), environment, script }]));
  });
}

/** One row of the table: a variant's differences over all its inputs. */
async function compareVariant({ name, environment, script }, folder, tl, writerArguments = []) {
  await mkdir(folder);
  say(`${name}: reference`);
  await python(environment, script, name.startsWith('real.') ? 'real' : name, folder, ...writerArguments);
  const record = JSON.parse(await readFile(join(folder, 'case.json'), 'utf8'));
  const file = join(folder, record.file);
  const which = ['--backbone', record.backbone, '--source', record.source];
  say(`${name}: tl import`);
  await tl('import', file, ...which);
  const found = [];
  for (const [k, input] of record.inputs.entries()) {
    say(`${name}: tl forward ${input}`);
    const output = join(folder, `actual-${input}.npz`);
    await tl(
      'forward',
      ...which,
      ...['--weights', k % 2 === 0 ? 'auto' : file],
      ...['--input', join(folder, `input-${input}.npy`), '--output', output],
      ...['--tap', record.taps.join(',')],
    );
    const { stdout } = await python('tf', 'compare.py', join(folder, `expected-${input}.npz`), output);
    found.push({ input, ...JSON.parse(stdout) });
  }
  const { size } = await stat(file);
  const { value, at } = worstOf({ found });
  say(`${name}: worst difference ${value.toExponential(1)}, ${at}`);
  return { name, record, size, found };
}

/** Worst difference over inputs and taps; a fault counts as infinite. */
function worstOf({ found }, only = () => true) {
  let worst = { value: 0, at: '' };
  for (const { input, taps } of found) {
    for (const [tap, { worst: difference, fault }] of Object.entries(taps)) {
      if (!only(tap)) continue;
      const value = difference ?? Number.POSITIVE_INFINITY;
      if (value >= worst.value) worst = { value, at: `${tap} at ${input}${fault ? `: ${fault}` : ''}` };
    }
  }
  return worst;
}

const isOutput = (tap) => tap === 'pre_logits' || tap === 'logits';

function rowOf(result) {
  const outputs = worstOf(result, isOutput);
  const all = worstOf(result);
  const compared = Object.keys(result.found[0].taps).length;
  return [
    result.name,
    result.record.reference,
    result.record.parameters.toLocaleString('en'),
    `${(result.size / 1e6).toFixed(1)} MB`,
    result.record.inputs.join(', '),
    `${compared}`,
    outputs.value.toExponential(1),
    all.value.toExponential(1),
    all.at,
  ];
}

function printTable(head, rows) {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i].length)));
  const line = (cells) =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd();
  console.log([line(head), line(widths.map((n) => '-'.repeat(n))), ...rows.map(line)].join('\n'));
}

/** The photographs once more, now with this toolkit's own decoding and preprocessing. */
async function comparePhotographs(result, photographs, tl, background) {
  const from = (path) => import(pathToFileURL(join(dist, path)).href);
  const { loadOne, closeLoader } = await from('data/index.js');
  const { findBackbone, findPublished } = await from('backbones/index.js');
  const { backbone, source } = result.record;
  const published = findPublished(findBackbone(backbone), source);
  const folder = resolve(result.folder);
  const rows = [];
  for (const [name, path] of Object.entries(photographs)) {
    const stem = name.replace(/\.\w+$/, '');
    const input = join(folder, `own-${stem}.npy`);
    const output = join(folder, `own-${stem}.npz`);
    await writeNpy(input, await loadOne(path, published.preprocessing, { height: 224, width: 224 }), [1, 224, 224, 3]);
    await tl('forward', '--backbone', backbone, '--source', source, '--input', input, '--output', output);
    const { top, taps } = JSON.parse(
      (await python('tf', 'compare.py', join(folder, `expected-${stem}.npz`), output)).stdout,
    );
    const wanted = PHOTOGRAPHS[name] + background;
    const spoken = (of) =>
      of
        .slice(0, 3)
        .map(([index, p]) => `${index - background} (${p.toFixed(3)})`)
        .join(', ');
    const inTop5 = top.actual.some(([index]) => index === wanted);
    rows.push([
      result.name,
      name,
      `${PHOTOGRAPHS[name]}`,
      spoken(top.expected),
      spoken(top.actual),
      taps.logits.worst?.toExponential(1) ?? taps.logits.fault,
      inTop5 ? 'yes' : 'NO',
    ]);
  }
  await closeLoader();
  return rows;
}

/** Exported models are another table, of another program. */
async function exports() {
  await import('./export-parity.mjs');
  return process.exitCode;
}

async function main() {
  const chosen = ({ name }) => filters.length === 0 || filters.some((filter) => name.includes(filter));
  say('environments');
  await run('bash', [join(golden, 'run.sh'), 'setup'], { env: { ...process.env, TL_GOLDEN_HOME: goldenHome } });
  const all = await listVariants();
  const variants = all.filter(chosen);
  const real = REAL.filter(chosen);
  if (variants.length + real.length === 0) {
    say(`nothing matches; there are: ${[...all, ...REAL].map(({ name }) => name).join(', ')}`);
    return 2;
  }
  const work = await mkdtemp(join(tmpdir(), 'tl-parity-'));
  const home = await makeHome(work);
  const tl = commandLine(dist, home);
  const results = [];
  const broken = [];
  const photographRows = [];
  try {
    for (const variant of variants) {
      const folder = join(work, variant.name);
      try {
        results.push(await compareVariant(variant, folder, tl));
      } catch (error) {
        broken.push(variant.name);
        say(`${variant.name}: ${error.stderr?.trim().split('\n').at(-1) || error.message}`);
      }
      if (keep) continue;
      await rm(folder, { recursive: true, force: true });
      await rm(join(home, 'weights'), { recursive: true, force: true });
    }
    for (const variant of real) {
      const { name, weights, background } = variant;
      const folder = join(work, name);
      const photographs = {};
      for (const photograph of Object.keys(PHOTOGRAPHS)) photographs[photograph] = await asset(photograph);
      const files = [];
      for (const file of weights) files.push(await asset(file));
      const result = await compareVariant(variant, folder, tl, [...files, ...Object.values(photographs)]);
      results.push(result);
      photographRows.push(...(await comparePhotographs({ ...result, folder }, photographs, tl, background)));
    }
  } finally {
    if (keep) say(`kept ${work}`);
    else await rm(work, { recursive: true, force: true });
  }
  printTable(
    ['variant', 'reference', 'parameters', 'file', 'inputs', 'taps', 'outputs', 'worst', 'where'],
    results.map(rowOf),
  );
  if (photographRows.length > 0) {
    console.log('\nReal weights on photographs, decoded and preprocessed here; probability in brackets:');
    printTable(['variant', 'photograph', 'class', 'reference', 'tl', 'logits differ by', 'in top 5'], photographRows);
  }
  const failed = results.filter((result) => !(worstOf(result).value <= TOLERANCE)).map(({ name }) => name);
  const missed = photographRows
    .filter((row) => row.at(-1) === 'NO')
    .map(([name, photograph]) => `${name} ${photograph}`);
  if (broken.length > 0) console.log(`\nnot compared: ${broken.join(', ')}`);
  if (failed.length > 0) console.log(`\nabove ${TOLERANCE}: ${failed.join(', ')}`);
  if (missed.length > 0) console.log(`\nclass not in the top 5: ${missed.join(', ')}`);
  const faults = failed.length + missed.length + broken.length;
  if (faults === 0) console.log(`\neverything within ${TOLERANCE}`);
  return faults === 0 ? 0 : 1;
}

process.exitCode = await (filters[0] === 'export' ? exports() : main()).catch((error) => {
  say(error.stderr?.trim() || error.stack);
  return 1;
});
