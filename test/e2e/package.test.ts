/** What `npm pack` makes of the clone works in an empty folder: the command, and the types under `strict`. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { backbones } from '../../src/backbones/index.js';
import { toolkitHome } from '../../src/engine/setup/home.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const require = createRequire(import.meta.url);
const env = { ...process.env, TL_HOME: toolkitHome() };
const shell = process.platform === 'win32';
const { name, version } = require(join(root, 'package.json')) as { name: string; version: string };

const folder = mkdtempSync(join(tmpdir(), 'tl-package-'));
const user = join(folder, 'user');
let tarball: string;
beforeAll(() => {
  // dist/ is built before the tests, and scripts would build it again beneath those that run meanwhile
  const packing = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder];
  execFileSync('npm', packing, { cwd: root, env, shell, stdio: 'pipe' });
  tarball = join(folder, readdirSync(folder).find((file) => file.endsWith('.tgz'))!);
  mkdirSync(user);
  writeFileSync(join(user, 'package.json'), JSON.stringify({ name: 'user', private: true, type: 'module' }));
  const quick = ['--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
  execFileSync('npm', ['install', tarball, ...quick], { cwd: user, env, shell, stdio: 'pipe' });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs what was installed, as typed in the user's folder. */
const tl = (...argv: string[]) =>
  spawnSync('npx', ['--no-install', 'tl', ...argv], { cwd: user, env, shell, encoding: 'utf8' });

test('is below 1 MB, and holds what is compiled and nothing else', () => {
  expect(statSync(tarball).size).toBeLessThan(1_000_000);
  const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  for (const file of ['README.md', 'CHANGELOG.md', 'LICENSE', 'package.json', 'dist/cli/main.js', 'dist/index.d.ts'])
    expect(files).toContain(`package/${file}`);
  const rest = files.filter(
    (file) => !/^package\/(dist\/[\w/-]+(\.d\.ts|\.js)(\.map)?|[A-Z]+(\.md)?|package\.json)$/.test(file),
  );
  expect(rest).toEqual([]);
  expect(files.filter((file) => /(^|\/)(test|tests|tools|bench|src|golden)\/|\.test\./.test(file))).toEqual([]);
});

test('installs without an engine of its own: nothing is downloaded behind the back of npm', () => {
  const installed = readdirSync(join(user, 'node_modules', '@tensorflow'));
  expect(installed).not.toContain('tfjs-node');
  expect(installed).not.toContain('tfjs-node-gpu');
});

test('tl runs there', () => {
  expect(tl('--version')).toMatchObject({ status: 0, stdout: `${version}\n` });

  const listed = tl('backbones', '--json');
  expect(listed).toMatchObject({ status: 0, stderr: '' });
  const { backbones } = JSON.parse(listed.stdout) as { backbones: { name: string }[] };
  expect(backbones.map((each) => each.name)).toEqual(expect.arrayContaining(['resnet50', 'mobilenet_v2_1.0']));

  const doctor = tl('doctor', '--json');
  expect(doctor.status, doctor.stderr).toBe(0);
  expect(JSON.parse(doctor.stdout)).toMatchObject({ ok: true, engine: { name: 'tensorflow', trains: 'everything' } });
});

const program = `
import {
  analyse, backbones, buildBackbone, DataError, evaluate, exportModel, findBackbone, findPublished, finetune, loadModel,
  importWeights, loadEngine, openModelFolder, predict, ToolkitError, version,
  type Engine, type Evaluation, type ExportReport, type FinetuneOptions, type FinetuneResult, type Graph,
  type HistoryRow, type ImportReport, type Prediction, type Reporter,
} from '${name}';

const options: FinetuneOptions = { data: 'data', backbone: 'resnet50', freeze: 'last:1' };
const rows: HistoryRow[] = [];
const reporter: Reporter = { info() {}, warn() {}, epochStart() {}, step() {}, epoch: (row) => void rows.push(row) };

export async function everything(): Promise<number> {
  const engine: Engine = await loadEngine({ engine: 'auto' });
  const imported: ImportReport = await importWeights('x.h5', { backbone: 'resnet50' });
  const result: FinetuneResult = await finetune(options, reporter);
  const again = await loadModel(result.runFolder);
  for await (const each of predict(again, ['x.jpg'])) if ('guesses' in each) console.log(each.guesses[0]);
  await again.close();
  const model = await openModelFolder(result.runFolder);
  const said: Prediction[] = [];
  for await (const each of predict(model, ['x.jpg'], engine, { top: 3 })) said.push(each);
  const judged: Evaluation = await evaluate(model, engine, { data: 'data' });
  const report: ExportReport = await exportModel(model, { format: 'tfjs', quantize: 'uint8', out: 'o', overwrite: true }, engine);
  await model.close();
  return judged.top1 + report.bytes + imported.parameters;
}

const graph: Graph = buildBackbone(findPublished(findBackbone('resnet50'), 'torch'), { size: { height: 224, width: 224 }, classes: 10 });
const failure: ToolkitError = new DataError({ code: 'X', message: 'x', hint: 'y' });
console.log(JSON.stringify({ version, backbones: backbones.length, macs: analyse(graph).totals.macs, code: failure.code }));

// @ts-expect-error: there is no such quantisation
export const wrong: Parameters<typeof exportModel>[1] = { format: 'tfjs', quantize: 'int3', out: 'o' };
`;

test('its types compile under strict, declarations checked too, and say what runs', () => {
  writeFileSync(join(user, 'program.ts'), program);
  const strict = ['--strict', '--exactOptionalPropertyTypes', '--noUncheckedIndexedAccess', '--skipLibCheck', 'false'];
  const modules = ['--module', 'nodenext', '--target', 'es2023'];
  const tsc = [require.resolve('typescript/bin/tsc'), ...strict, ...modules, 'program.ts'];
  const compiled = spawnSync(process.execPath, tsc, { cwd: user, encoding: 'utf8' });
  expect(compiled.stdout).toBe('');
  expect(compiled.status).toBe(0);
  const ran = spawnSync(process.execPath, ['program.js'], { cwd: user, env, encoding: 'utf8' });
  expect(ran.stderr).toBe('');
  // 4.09 GMACs are torchvision's own figure for its ResNet-50, 1000 classes; the classifier for 10 saves 2 million
  expect(JSON.parse(ran.stdout)).toMatchObject({ version, backbones: backbones.length, code: 'X' });
  expect((JSON.parse(ran.stdout) as { macs: number }).macs / 1e9).toBeCloseTo(4.09, 1);
  expect(readFileSync(join(user, 'program.js'), 'utf8')).toContain('everything');
});
