/** Names that Keras counted through a program, and those that a checkpoint of TensorFlow 2 keeps without their layer's. */
import { expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import { placesOf, withOuterNames, withoutCounts } from '../../src/weights/plan/counted-names.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { planWeights } from '../../src/weights/plan/plan.js';
import { recognise } from '../../src/weights/plan/variants.js';
import { type GoldenRow, generatedSource, readForwardGolden } from '../support/golden.js';

test('numbers become places among those of their kind beside them', () => {
  const names = ['aux_2/dense_3/kernel', 'aux_2/dense_2/kernel', 'aux_2/dense_2/bias', 'sequential_4/dense_10/kernel'];
  expect(placesOf(names)).toEqual(['aux_2/dense_1/kernel', 'aux_2/dense/kernel', 'aux_2/dense/bias', 'dense/kernel']);
  expect(placesOf(['plain', 'conv2d_7'])).toEqual(['plain', 'conv2d_7']);
});

test('variables without a name lose their numbers where there is one in a layer', () => {
  expect(withoutCounts(['a/variable', 'b/variable_14', 'c/Variable_2', 'd/kernel'])).toEqual([
    ...['a/Variable', 'b/Variable', 'c/Variable', 'd/kernel'],
  ]);
  expect(withoutCounts(['a/variable_3', 'a/variable_4'])).toEqual(['a/variable_3', 'a/variable_4']);
});

test('a layer in a Sequential in a layer gets the name that those beside it have', () => {
  const at = 'layer_with_weights-11';
  const names = ['inception_5a/conv2d_60/kernel', 'conv2d_61/kernel', 'conv2d_1/kernel', `${at}/branch4/kernel`];
  const paths = [`${at}/branch1/kernel`, `${at}/branch2/layer_with_weights-0/kernel`, 'layer_with_weights-0/kernel'];
  expect(withOuterNames(names, [...paths, `${at}/branch4/kernel`])).toEqual([
    ...['inception_5a/conv2d_60/kernel', 'inception_5a/conv2d_61/kernel', 'conv2d_1/kernel', `${at}/branch4/kernel`],
  ]);
  const deep = `${at}/${'a/'.repeat(2000)}kernel`;
  expect(withOuterNames([names[0]!, 'x/kernel'], [paths[0]!, deep])).toEqual([names[0], 'x/kernel']);
});

test("the notes' GoogLeNet in a checkpoint of TensorFlow 2, layer by layer as in its HDF5 file", () => {
  const backbone = findBackbone('googlenet');
  const rows = readForwardGolden('googlenet', 'notes').tensors;
  const objects = [...new Set(rows.map(([name]) => name.replace(/\/.*/, '')))];
  const first = new Map<string, string>(); // the first layer in each layer
  const variables = rows.map(([name, ...rest]) => {
    const [outer, layer, leaf] = name.split('/') as [string, string, string | undefined];
    const object = `layer_with_weights-${objects.indexOf(outer)}`;
    if (leaf === undefined) return { given: name, path: `${object}/${layer}`, rest };
    if (!first.has(outer)) first.set(outer, layer);
    // the first branch is a layer of the Inception layer itself, the others are in a Sequential
    if (first.get(outer) === layer || outer.startsWith('aux'))
      return { given: name, path: `${object}/${layer}/${leaf}`, rest };
    return { given: `${layer}/${leaf}`, path: `${object}/branch/${layer}/${leaf}`, rest };
  });
  const nameOf = ({ given, path }: { given: string; path: string }): string =>
    variables.filter((each) => each.given === given).length === 1 ? given : path;
  const tensors = variables.map((each): GoldenRow => [nameOf(each), ...each.rest]);
  const file = {
    ...generatedSource(tensors, 'tf-checkpoint'),
    objectPaths: new Map(variables.map((each) => [nameOf(each), each.path])),
    givenNames: new Map(variables.map((each) => [nameOf(each), each.given])),
  };
  expect(new Set(tensors.map(([name]) => name)).size).toBe(rows.length);
  expect(tensors.some(([name]) => name.startsWith('layer_with_weights-'))).toBe(true); // layers of the stem and others share names
  const plan = planWeights(file, backbone, findPublished(backbone, 'notes'));
  expect(faultsOf(plan)).toEqual([]);
  const whole = planWeights(generatedSource(rows, 'keras-h5'), backbone, findPublished(backbone, 'notes'));
  const placeOf = (from: readonly GoldenRow[], name: string) => from.findIndex((row) => row[0] === name);
  expect(plan.rows.map(({ tensor }) => placeOf(tensors, tensor!.name))).toEqual(
    whole.rows.map(({ tensor }) => placeOf(rows, tensor!.name)),
  );
  expect(recognise(file)[0]).toMatchObject({ backbone: { name: 'googlenet' }, published: { source: 'notes' } });
});
