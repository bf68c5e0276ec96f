/**
 * Runs on disks that are too small: each run has to end with an error that says so, and go on with --resume once there is
 * space, to what it is on a large disk:
 *
 *   node tools/full-disk.mjs [--case NAME] [--sizes 12] [--dist DIR]
 *
 * The disk is a tmpfs of a few sizes between nothing and more than the run takes, mounted in a namespace of its own
 * (unshare and mount of util-linux, on Linux), so that every write meets the end of the disk at some size. It holds the
 * run, and TL_HOME with the frozen part's output.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { cases, common, differences, isUnfinished, writePictures } from './kill-resume.mjs';

const { values } = parseArgs({
  options: {
    case: { type: 'string' },
    sizes: { type: 'string', default: '12' },
    dist: { type: 'string', default: fileURLToPath(new URL('../dist', import.meta.url)) },
    inside: { type: 'boolean', default: false },
  },
});
const dist = resolve(values.dist);
const say = (line) => process.stderr.write(`${line}\n`);

/** Rounded up to whole pages, in which a tmpfs counts. */
const PAGE = 4096;

if (!values.inside) {
  const self = [fileURLToPath(import.meta.url), ...process.argv.slice(2), '--inside'];
  const { status, error } = spawnSync('unshare', ['--map-root-user', '--mount', process.execPath, ...self], {
    stdio: 'inherit',
  });
  if (error !== undefined) throw error;
  process.exit(status ?? 1);
}

const { rng } = await import(pathToFileURL(join(dist, 'rng.js')).href);
const { toolkitHome } = await import(pathToFileURL(join(dist, 'engine/setup/home.js')).href);
const engine = realpathSync(join(toolkitHome(), 'engine'));
const folder = mkdtempSync(join(tmpdir(), 'tl-full-'));
const disk = join(folder, 'disk');
const faults = [];
try {
  const data = join(folder, 'data');
  await writePictures(data, 12, rng(1).split('pictures'));
  for (const name of values.case === undefined ? Object.keys(cases) : [values.case]) await onDisks(name, data);
} finally {
  spawnSync('umount', [disk]);
  rmSync(folder, { recursive: true, force: true });
}
say(faults.length === 0 ? 'every run ended as it should' : `${faults.length} faults:\n${faults.join('\n')}`);
process.exit(faults.length === 0 ? 0 : 1);

async function onDisks(name, data) {
  const whole = join(folder, `${name}-whole`);
  const begin = (run) => ['finetune', '--data', data, '--out', run, ...common, ...cases[name]];
  const home = join(folder, `home-${name}`);
  makeHome(home);
  const first = tl(home, begin(whole));
  if (first.status !== 0) throw new Error(`${name}: on a large disk it ended with ${first.status}:\n${first.stderr}`);
  const needed = bytesIn(whole) + bytesIn(join(home, 'features'));
  const count = Number(values.sizes);
  for (let i = 0; i < count; i++) {
    const bytes = PAGE * (4 + Math.ceil((1.3 * needed * i) / (count - 1) / PAGE));
    mount(bytes);
    const [run, own] = [join(disk, 'run'), join(disk, 'home')];
    makeHome(own);
    const { status, stderr } = tl(own, begin(run));
    const full =
      (status === 1 && /error\[FILE_NOT_WRITTEN\].*(the disk is full|No space left)/s.test(stderr)) ||
      /error\[CACHE_TOO_LARGE\]/.test(stderr); // before anything is written
    const fits = status === 0;
    const left = existsSync(run) ? readdirSync(run).filter(isUnfinished) : [];
    const where = `${name} on ${(bytes / 1e6).toFixed(2)} MB of ${(needed / 1e6).toFixed(2)}`;
    say(`${where}: ${fits ? 'fits' : (stderr.match(/error\[.*/) ?? [stderr])[0]}`);
    if (!full && !fits) faults.push(`${where}: ended with ${status}:\n${stderr}`);
    if (left.length > 0) faults.push(`${where}: ${left.join(', ')} left behind`);
    mount(1e9, 'remount,');
    const again = tl(own, existsSync(join(run, 'args.json')) ? ['finetune', '--resume', run] : begin(run));
    if (again.status !== 0) faults.push(`${where}: with space it ended with ${again.status}:\n${again.stderr}`);
    else faults.push(...(await differences(dist, whole, run)).map((each) => `${where}: ${each}`));
    spawnSync('umount', [disk]);
  }
}

function makeHome(home) {
  mkdirSync(home, { recursive: true });
  symlinkSync(engine, join(home, 'engine'));
}

function mount(bytes, how = '') {
  mkdirSync(disk, { recursive: true });
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', `${how}size=${bytes}`, 'none', disk]);
  if (status !== 0) throw new Error(`mount: ${stderr}`);
}

function tl(home, argv) {
  const env = { ...process.env, TL_HOME: home };
  return spawnSync(process.execPath, [join(dist, 'cli/main.js'), ...argv, '--quiet'], { encoding: 'utf8', env });
}

function bytesIn(path) {
  if (!existsSync(path)) return 0;
  return readdirSync(path, { recursive: true })
    .map((name) => statSync(join(path, name)))
    .reduce((sum, file) => sum + (file.isFile() ? Math.ceil(file.size / PAGE) * PAGE : 0), 0);
}
