/** The same run gives the same numbers, to the bit, whether the frozen part's output is kept or not. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { undeterministic } from '../../src/train/resume.js';
import { expectEqual, pictureFolder, startingWeights, traces, tracesOf, train } from './support/training.js';

let data: string;
let weights: string;
beforeAll(async () => {
  // 7 a class: 21 pictures in batches of 4, so that the last batch of an epoch holds one.
  data = await pictureFolder('pictures', 7, 2);
  weights = await startingWeights('mobilenet_v1_0.25', 'keras');
});

describe('keeping the frozen part’s output changes nothing', () => {
  test.each([
    { augment: 'none', freeze: 'backbone' },
    { augment: 'flip', freeze: 'backbone' },
    { augment: 'flip', freeze: 'last:2' },
  ] as const)('$augment, --freeze $freeze', async ({ augment, freeze }) => {
    const head = { head: 'mlp:8', headDropout: 0.3 };
    const messages: string[] = [];
    const settings = { data, weights, augment, freeze, ...head, optimizer: 'adamw', labelSmoothing: 0.1 } as const;
    const reporter = { info: (line: string) => void messages.push(line) };
    const kept = await train({ ...settings, cache: 'auto' }, reporter);
    expect(messages.join('\n')).toContain('computing the frozen part');
    messages.length = 0;
    const computed = await train({ ...settings, cache: 'off' }, reporter);
    expect(messages.join('\n')).not.toContain('computing the frozen part');
    expectEqual(await traces(kept.runFolder), await traces(computed.runFolder));
  });

  test('a centre crop of an odd rest is mirrored where the pixels are', async () => {
    // The torch record crops the middle of a picture whose sides stay in proportion.
    const torch = {
      data,
      backbone: 'mobilenet_v1_1.0',
      source: 'torch',
      weights: 'none',
      augment: 'flip',
      inputSize: 33,
    } as const;
    const kept = await train({ ...torch, cache: 'auto', epochs: 2 });
    const computed = await train({ ...torch, cache: 'off', epochs: 2 });
    expectEqual(await traces(kept.runFolder), await traces(computed.runFolder));
  });
});

describe('seeds', () => {
  test.each(['backbone', 'none'])('the same seed twice is the same run (--freeze %s)', async (freeze) => {
    const settings = {
      data,
      weights,
      freeze,
      seed: 5,
      augment: 'standard',
      epochs: 2,
      head: 'linear',
      headDropout: 0.4,
    } as const;
    const [first, second] = [await tracesOf(settings), await tracesOf(settings)];
    expectEqual(first, second);
    const other = await tracesOf({ ...settings, seed: 6 });
    expect(other.history).not.toEqual(first.history);
    expect(other.last.get('head.logits.kernel')).not.toBe(first.last.get('head.logits.kernel'));
  });

  /** Kernels that threads share differ from network to network: convolutions, products of matrices, attention; by precision. */
  test.each([
    { backbone: 'mobilenet_v1_0.25', source: 'keras', precision: 'bfloat16', freeze: 'none' },
    { backbone: 'mobilenet_v1_0.25', source: 'keras', precision: 'bfloat16', freeze: 'last:2' },
    { backbone: 'vit_ti16', source: 'torch', precision: 'float32', freeze: 'none' },
    { backbone: 'vit_ti16', source: 'torch', precision: 'bfloat16', freeze: 'last:2' },
  ] as const)(
    'the same seed twice is the same run: $backbone, --precision $precision, --freeze $freeze',
    async (how) => {
      const settings = { data, ...how, inputSize: 32, epochs: 2, augment: 'standard', deterministic: true } as const;
      expectEqual(await tracesOf(settings), await tracesOf(settings));
    },
  );

  test('a data folder can be moved: only what is in it counts', async () => {
    const moved = await pictureFolder(join('elsewhere', 'deep', 'pictures'), 7, 2);
    const settings = { data, weights, augment: 'strong', epochs: 2 } as const;
    expectEqual(await tracesOf(settings), await tracesOf({ ...settings, data: moved }));
  });
});

describe('--deterministic', () => {
  test('has TensorFlow take kernels that give the same bits, before it is loaded', () => {
    const engine = new URL('../../dist/engine/tensorflow.js', import.meta.url).href;
    const told = (options: string): string => {
      const script = `
        const { loadEngine } = await import('${engine}');
        await loadEngine({ engine: 'tensorflow'${options} });
        console.log(process.env.TF_DETERMINISTIC_OPS);`;
      const { TF_DETERMINISTIC_OPS: _, ...env } = process.env;
      return execFileSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8', env });
    };
    expect(told('')).toBe('undefined\n');
    expect(told(', deterministic: true')).toBe('1\n');
  });

  test('says what it cannot vouch for', () => {
    expect(undeterministic({ device: 'cpu' })).toBeUndefined();
    expect(undeterministic({ device: 'gpu' })).toContain('on processors only');
  });
});
