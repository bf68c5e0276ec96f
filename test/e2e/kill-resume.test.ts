/**
 * Runs that are killed with SIGKILL and go on end as one that was not killed, to the byte; tools/kill-resume.mjs does it
 * twenty times, of several kinds of runs.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { differences, killAndResume } from '../../tools/kill-resume.mjs';

const folder = mkdtempSync(join(tmpdir(), 'tl-kill-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const dist = fileURLToPath(new URL('../../dist', import.meta.url));

/** 22,000 units have so large a state with Adam's moments, 69 MB, that it is written at the end of every epoch. */
const large = [
  ...['--backbone', 'mobilenet_v1_0.25', '--optimizer', 'adam', '--head', 'mlp:22000', '--head-dropout', '0.5'],
  ...['--augment', 'flip', '--epochs', '3', '--tensorboard'],
];

// With this seed they are of one run, unless it ends before one of them: in time, while a file is written, and in time again.
test('three processes killed at random moments', { timeout: 300_000 }, async () => {
  const { rows, faults } = await killAndResume({ kills: 3, seed: 40, of: { large }, folder, pictures: 4 });
  expect(faults).toEqual([]);
  expect(rows).toHaveLength(3);
  expect(rows.some(({ left }) => left !== 'nothing yet')).toBe(true);
});

test('what differs would be noticed', async () => {
  const whole = join(folder, 'large-whole');
  const changed = join(folder, 'changed');
  const differ = async (change: (path: string) => void): Promise<string[]> => {
    cpSync(whole, changed, { recursive: true });
    change(changed);
    const found = await differences(dist, whole, changed);
    rmSync(changed, { recursive: true });
    return found;
  };
  /** Turns one bit round. */
  const flip = (path: string, from: number): void => {
    const bytes = readFileSync(path);
    bytes[from]! ^= 1;
    writeFileSync(path, bytes);
  };
  const replace = (path: string, from: RegExp, to: string): void => {
    const text = readFileSync(path, 'utf8');
    expect(text).toMatch(from);
    writeFileSync(path, text.replace(from, to));
  };
  expect(await differ(() => {})).toEqual([]);
  for (const name of ['best/weights.safetensors', 'last/optimizer.safetensors']) {
    expect(await differ((path) => flip(join(path, name), 50_000))).toEqual([`${name} is another`]);
  }
  expect(await differ((path) => replace(join(path, 'history.csv'), /\n2,\d/, '\n2,9'))).toEqual([
    'history.csv is another',
  ]);
  expect(await differ((path) => replace(join(path, 'metrics.json'), /"seconds": \d+/, '"seconds": 9'))).toEqual([]);
  expect(await differ((path) => replace(join(path, 'metrics.json'), /"bestEpoch": \d/, '"bestEpoch": 9'))).toEqual([
    'metrics.json is another',
  ]);
  expect(await differ((path) => rmSync(join(path, 'class_indices.json')))).toEqual(['class_indices.json is not there']);
  const [events] = readdirSync(join(whole, 'tensorboard', 'train'));
  const found = await differ((path) => flip(join(path, 'tensorboard', 'train', events!), 160));
  expect(found.join()).toContain('tensorboard/');
});
