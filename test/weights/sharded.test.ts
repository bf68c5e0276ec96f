import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { openWeights } from '../../src/weights/source.js';
import { fixturesFolder } from '../support/golden.js';
import { expectFailure, temporary, withSource } from './support/temporary.js';

const folder = temporary('sharded');
const index = join(folder, 'model.safetensors.index.json');
const written = JSON.parse(
  readFileSync(join(fixturesFolder, 'files/sharded/model.safetensors.index.json'), 'utf8'),
) as { weight_map: Record<string, string> };

beforeEach(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  cpSync(join(fixturesFolder, 'files/sharded'), folder, { recursive: true });
});

const change = (map: Record<string, string>) =>
  writeFileSync(index, JSON.stringify({ ...written, weight_map: { ...written.weight_map, ...map } }));
const open = () => openWeights(index);

describe('weights in several files', () => {
  it('are one source, which says of how many files', async () => {
    await withSource(index, (source) => {
      expect({ format: source.format, path: source.path, metadata: source.metadata }).toEqual({
        format: 'safetensors',
        path: index,
        metadata: { format: 'pt', shards: '3' },
      });
      expect(source.tensors.map(({ name }) => name).sort()).toEqual(Object.keys(written.weight_map).sort());
    });
  });

  it('may hold more than the index tells, which is set aside', async () => {
    const { 'fc.bias': shard, ...others } = written.weight_map;
    writeFileSync(index, JSON.stringify({ weight_map: others }));
    await withSource(index, (source) => {
      expect(source.setAside).toEqual([{ name: 'fc.bias', reason: `in ${shard}, and not in the index` }]);
      expect(source.tensors).toHaveLength(Object.keys(others).length);
    });
  });

  it('lie beside their index, and nowhere else', async () => {
    for (const name of ['../model.safetensors', '/etc/passwd', 'a/b', '..', '.', '', 'a\\b', 'a\u0000b']) {
      change({ 'fc.bias': name });
      await expectFailure(open, 'SHARD_PATH', /expected the names of files beside it/);
    }
  });

  it('are all there, and hold what the index places in them', async () => {
    change({ 'fc.weight': 'model-00001-of-00003.safetensors' });
    await expectFailure(open, 'SHARD_TENSORS', /"fc\.weight": expected in model-00001/);
    change({ other: 'model-00001-of-00003.safetensors' });
    await expectFailure(open, 'SHARD_TENSORS', /"other": expected in/);
    rmSync(join(folder, 'model-00002-of-00003.safetensors'));
    await expectFailure(open, 'SHARD_ABSENT', /1 of its 3 shards are not beside it\n.*model-00002/);
  });

  it('are refused when they are too many', async () => {
    change(Object.fromEntries(Array.from({ length: 501 }, (_, i) => [`tensor${i}`, `${i}.safetensors`])));
    await expectFailure(open, 'LIMIT_EXCEEDED', /504 shards; expected at most 500/);
  });

  it('say which of them is damaged', async () => {
    writeFileSync(join(folder, 'model-00003-of-00003.safetensors'), 'version https://git-lfs.github.com/spec/v1\n');
    await expectFailure(open, 'FILE_IS_LFS_POINTER', /model-00003-of-00003\.safetensors/);
  });
});
