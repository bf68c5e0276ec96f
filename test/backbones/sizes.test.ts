/** Input sizes: what a network cannot take is an error that names the network and the sizes that it can. */
import { describe, expect, test } from 'vitest';
import { backbones, buildBackbone, findBackbone, findPublished } from '../../src/backbones/index.js';
import { UsageError } from '../../src/errors.js';

function fault(backbone: string, source: string, height: number, width: number): UsageError {
  try {
    buildBackbone(findPublished(findBackbone(backbone), source), { size: { height, width }, classes: 10 });
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error(`${backbone} takes ${height}x${width}`);
}

const variants = backbones.flatMap((backbone) =>
  backbone.published.map((published) => ({ name: backbone.name, source: published.source, backbone, published })),
);

describe.each(variants)('$name from $source', ({ name, source, backbone, published }) => {
  test('takes its own size', () => {
    const size = { height: backbone.inputSize, width: backbone.inputSize };
    const { input } = buildBackbone(published, { size });
    expect(input.shape).toEqual([size.height, size.width, published.channels ?? 3]);
  });

  test.each([
    [1, 1],
    [17, 300],
    [193, 257],
  ])('%i x %i: is built, or the hint names a size that is', (height, width) => {
    try {
      buildBackbone(published, { size: { height, width } });
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      expect(error.message).toContain(`${name} (source ${source}) cannot take pictures of ${height}x${width}: `);
      const [least] = /\d+/.exec(error.hint!)!;
      const [, wide = least] = /a width of (\d+)/.exec(error.hint!) ?? [];
      const { input } = buildBackbone(published, { size: { height: Number(least), width: Number(wide) } });
      expect(input.shape.slice(0, 2)).toEqual([Number(least), Number(wide)]);
    }
  });
});

test('the smallest size is the smallest', () => {
  const { code, hint } = fault('densenet121', 'torch', 20, 300);
  expect(code).toBe('INPUT_TOO_SMALL');
  const least = Number(/^give a height and width of at least (\d+)$/.exec(hint!)![1]);
  expect(fault('densenet121', 'torch', least - 1, least).code).toBe('INPUT_TOO_SMALL');
});

test('dense layers on a grid name the sizes that give it', () => {
  expect(fault('vgg16', 'keras', 193, 257)).toMatchObject({
    code: 'INPUT_SIZE',
    message:
      'vgg16 (source keras) cannot take pictures of 193x257: its dense layers were trained on a grid of 7x7, ' +
      'and this input size gives 6x8',
    hint: 'give a height and width of 224 to 255',
  });
  expect(fault('vgg16', 'keras', 8, 8)).toMatchObject({
    code: 'INPUT_TOO_SMALL',
    hint: 'give a height and width of 224 to 255',
  });
});
