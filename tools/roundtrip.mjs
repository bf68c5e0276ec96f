/**
 * Writes weights back for the code of their publishers, and runs that code: `node tools/roundtrip.mjs [FILTER...]
 * [--keep] [--dist DIR]`.
 *
 * For each network Python (tools/golden) writes a weights file and what the reference computes with it; `tl export
 * --format weights` reads that file and writes it again; the lines of Python that it gives to users load what it wrote,
 * in every environment that has the network. Then `tl finetune` trains heads of five classes, whose models go the same
 * way and are compared with `tl forward`. Exit code 1 above 1e-5 of the largest absolute logit.
 */
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commandLine, makeHome, python, readArguments, say } from './references.mjs';

const TOLERANCE = 1e-5;

/** Script that writes a network's file -> environment, and those that load what is exported. */
const PUBLISHERS = {
  keras: {
    writer: ['tf', 'parity_keras.py'],
    loaders: [
      ['tf', 'roundtrip_keras.py'],
      ['keras3', 'roundtrip_keras.py'],
    ],
  },
  slim: { writer: ['tf', 'parity_slim.py'], loaders: [['tf', 'roundtrip_slim.py']] },
  torch: { writer: ['torch', 'parity_torch.py'], loaders: [['torch', 'roundtrip_torch.py']] },
  flax: { writer: ['flax', 'parity_flax.py'], loaders: [['flax', 'roundtrip_flax.py']] },
};

/** Names of tools/golden's networks, by publisher. Keras 3 has no ResNeXt and no network of 2016. */
const NETWORKS = {
  keras: [
    ...[
      'resnet50',
      'mobilenet_v1_0.25',
      'mobilenet_v2_0.35',
      'mobilenet_v3_small_1.0',
      'mobilenet_v3_small_minimalistic',
    ],
    ...['vgg16', 'resnext50_32x4d', 'efficientnet_b0', 'convnext_tiny', 'densenet121'],
  ].map((name) => `${name}.keras`),
  slim: [
    ...['resnet50', 'vgg16', 'googlenet', 'mobilenet_v1_0.25', 'mobilenet_v2_0.35', 'mobilenet_v2_1.0'],
    ...['mobilenet_v3_small_1.0', 'mobilenet_v3_large_0.75'],
  ].map((name) => `${name}.slim`),
  torch: [
    ...[
      'alexnet',
      'resnet18',
      'resnet50',
      'resnext50_32x4d',
      'mobilenet_v1_1.0',
      'mobilenet_v2_1.0',
      'mobilenet_v3_small_1.0',
    ],
    ...['googlenet', 'vgg11', 'vgg11_bn', 'vit_b16', 'efficientnet_b0', 'convnext_tiny', 'densenet121', 'r50_vit_b16'],
    ...['resnext101_32x4d', 'vit_ti16'],
  ]
    .map((name) => `${name}.torch`)
    .concat(
      'vit_b16.timm',
      'mobilenet_v2_1.4.timm',
      'mobilenet_v3_small_0.75.timm',
      'mobilenet_v3_small_1.0.timm_native',
      'efficientnet_b0.timm',
    ),
  flax: ['vit_b16.flax', 'vit_ti16.flax', 'r50_vit_b16.flax', 'vit_b16.flax_21k'],
};
const ONLY_KERAS_2 = new Set(['resnext50_32x4d.keras']);

/** Networks that another publisher's code computes too: that code loads them in its own dialect. */
const CROSSED = [
  ['keras', 'mobilenet_v3_small_1.0.keras', 'torch-safetensors', 'torch'],
  ['keras', 'mobilenet_v3_small_1.0.keras', 'slim-ckpt', 'slim'],
  ['keras', 'efficientnet_b0.keras', 'torch-safetensors', 'torch'],
  ['slim', 'mobilenet_v2_0.35.slim', 'keras-h5', 'keras'],
  ['torch', 'mobilenet_v3_small_0.75.timm', 'keras-h5', 'keras'],
];

/** Networks that are fine-tuned, and the heads that they get. */
const TRAINED = [
  ['keras', 'mobilenet_v2_0.35.keras', 'linear'],
  ['keras', 'mobilenet_v3_small_1.0.keras', 'linear'],
  ['keras', 'resnet50.keras', 'mlp:32,16'],
  ['keras', 'mobilenet_v3_small_minimalistic.keras_notop', 'linear'],
  ['keras', 'mobilenet_v3_small_1.0.keras', 'mlp:16'],
  ['slim', 'mobilenet_v2_0.35.slim', 'linear'],
  ['slim', 'resnet50.slim', 'mlp:32'],
  ['torch', 'resnet18.torch', 'linear'],
  ['torch', 'mobilenet_v2_1.0.torch', 'mlp:32'],
  ['torch', 'vit_ti16.torch', 'linear'],
  ['flax', 'vit_ti16.flax', 'linear'],
  ['flax', 'vit_ti16.flax', 'mlp:32'],
];

const { filters, keep, dist } = readArguments('roundtrip.mjs', process.argv.slice(2));

/** Largest difference of the logits, as a share of the largest absolute one. */
async function difference(expected, actual) {
  const { stdout } = await python('tf', 'compare.py', expected, actual);
  const { worst, fault } = JSON.parse(stdout).taps.logits;
  if (fault !== undefined) say(fault);
  return worst ?? Number.POSITIVE_INFINITY;
}

/** What the reference makes of a network: its weights file, an input, and its logits. */
async function makeCase(publisher, name, folder) {
  const [environment, script] = PUBLISHERS[publisher].writer;
  await mkdir(folder);
  await python(environment, script, name, folder);
  const record = JSON.parse(await readFile(join(folder, 'case.json'), 'utf8'));
  const [input] = record.inputs;
  return {
    file: join(folder, record.file),
    which: ['--backbone', record.backbone, '--source', record.source],
    input: join(folder, `input-${input}.npy`),
    expected: join(folder, `expected-${input}.npz`),
  };
}

/** A row for each environment that loads an exported folder. */
async function load(publisher, name, what, exported, { input, expected, folder }) {
  const rows = [];
  for (const [environment, script] of PUBLISHERS[publisher].loaders) {
    if (environment === 'keras3' && ONLY_KERAS_2.has(name)) continue;
    const output = join(folder, `loaded-${environment}.npz`);
    const { stderr } = await python(environment, script, name, exported.out, input, output);
    const worst = await difference(expected, output);
    const named = /by name: (\w+)/.exec(stderr)?.[1] ?? '';
    say(`${name} ${what}: ${environment} ${worst.toExponential(1)}`);
    rows.push([name, what, exported.dialect, environment, worst, named]);
  }
  return rows;
}

async function published(publisher, name, work, tl, dialect, target = publisher) {
  const folder = join(work, name);
  say(`${name}: reference`);
  const made = await makeCase(publisher, name, folder);
  say(`${name}: tl export`);
  const out = join(folder, 'exported');
  const options = ['--weights', made.file, '--out', out, ...(dialect === undefined ? [] : ['--dialect', dialect])];
  const exported = await tl('export', '--format', 'weights', ...made.which, ...options);
  return await load(target, name, 'published', exported, { ...made, folder });
}

/** Pictures of five colours, as .png by sharp, which the toolkit has anyway. */
async function colours(folder) {
  const { default: sharp } = await import('sharp');
  for (const [k, name] of ['blue', 'green', 'grey', 'red', 'white'].entries()) {
    await mkdir(join(folder, name), { recursive: true });
    for (let i = 0; i < 6; i++) {
      const background = { r: 40 * k + 7 * i, g: 50 * ((k * 2) % 5) + 5 * i, b: 60 * ((k * 3) % 4) + 9 * i };
      const picture = sharp({ create: { width: 48, height: 48, channels: 3, background } });
      await picture.png().toFile(join(folder, name, `${i}.png`));
    }
  }
}

async function trained(publisher, name, head, work, tl) {
  const folder = join(work, `${name}-${head.replace(':', '-')}`);
  say(`${name} ${head}: reference`);
  const made = await makeCase(publisher, name, folder);
  const data = join(folder, 'data');
  await colours(data);
  say(`${name} ${head}: tl finetune`);
  const run_ = join(folder, 'run');
  const options = ['--data', data, '--out', run_, '--head', head, '--epochs', '2', '--batch-size', '8', '--quiet'];
  await tl('finetune', ...made.which, '--weights', made.file, ...options);
  const expected = join(folder, 'expected.npz');
  await tl('forward', '--model', run_, '--input', made.input, '--output', expected);
  const out = join(folder, 'exported');
  const exported = await tl('export', '--format', 'weights', '--model', run_, '--out', out);
  return await load(publisher, name, head, exported, { input: made.input, expected, folder });
}

async function main() {
  const chosen = (name) => filters.length === 0 || filters.some((filter) => name.includes(filter));
  const work = await mkdtemp(join(tmpdir(), 'tl-roundtrip-'));
  const tl = commandLine(dist, await makeHome(work));
  const rows = [];
  const broken = [];
  const attempt = async (name, make) => {
    if (!chosen(name)) return;
    try {
      rows.push(...(await make()));
    } catch (error) {
      broken.push(name);
      say(`${name}: ${error.stderr?.trim().split('\n').slice(-6).join('\n') || error.stack}`);
    }
    if (keep) return;
    for (const left of await readdir(work)) if (left !== 'home') await rm(join(work, left), { recursive: true });
  };
  try {
    for (const [publisher, names] of Object.entries(NETWORKS)) {
      for (const name of names) await attempt(name, () => published(publisher, name, work, tl));
    }
    for (const [publisher, name, dialect, target] of CROSSED) {
      await attempt(`${name} as ${dialect}`, () => published(publisher, name, work, tl, dialect, target));
    }
    for (const [publisher, name, head] of TRAINED) {
      await attempt(`${name} ${head}`, () => trained(publisher, name, head, work, tl));
    }
  } finally {
    if (keep) say(`kept ${work}`);
    else await rm(work, { recursive: true, force: true });
  }
  const head = ['network', 'head', 'dialect', 'loaded by', 'logits differ by', 'by name'];
  const cells = [
    head,
    ...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toExponential(1) : cell))),
  ];
  const widths = head.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
  for (const row of cells)
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    );
  const failed = rows.filter((row) => !(row[4] <= TOLERANCE));
  if (broken.length > 0) console.log(`\nnot compared: ${broken.join(', ')}`);
  if (failed.length > 0)
    console.log(`\nabove ${TOLERANCE}: ${failed.map(([name, what]) => `${name} ${what}`).join(', ')}`);
  return broken.length + failed.length > 0 ? 1 : 0;
}

process.exitCode = await main().catch((error) => {
  say(error.stderr?.trim() || error.stack);
  return 1;
});
