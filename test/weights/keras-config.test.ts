/** The configuration of a model, in the forms that versions 1 to 3 of Keras give it. */
import { describe, expect, test } from 'vitest';
import { activationOf, parseKerasConfig } from '../../src/weights/keras/keras-config.js';
import { expectFailure } from './support/temporary.js';

const parse = (value: unknown) => parseKerasConfig('model.h5', JSON.stringify(value));

describe('a configuration', () => {
  test('of Keras 2 and 3 nests models', () => {
    const dense = { class_name: 'Dense', config: { name: 'dense', units: 3 }, module: 'keras.layers' };
    const body = { class_name: 'Functional', name: 'body', config: { layers: [dense] }, shared_object_id: 7 };
    expect(parse({ class_name: 'Sequential', config: { name: 'whole', layers: [body] } })).toMatchObject({
      name: 'whole',
      className: 'Sequential',
      layers: [
        {
          name: 'body',
          sharedId: 7,
          layers: [{ name: 'dense', module: 'keras.layers', config: { units: 3 }, layers: undefined }],
        },
      ],
    });
  });

  test('of a Sequential of Keras 1 is a list of layers', () => {
    const { name, layers } = parse({ class_name: 'Sequential', config: [{ class_name: 'Flatten', config: {} }] });
    expect([name, layers?.map((layer) => layer.name)]).toEqual(['Sequential', ['Flatten']]);
  });

  test('of a class of the user may call anything layers', () => {
    expect(parse({ class_name: 'Mine', config: { layers: [64, 128] } }).layers).toBeUndefined();
  });

  test.each([
    ['{', /no JSON/],
    ['"text"', /names no class/],
    ['{"config": {}}', /names no class/],
  ])('that is %s is refused', async (text, message) => {
    await expectFailure(() => parseKerasConfig('model.h5', text), 'KERAS_CONFIG', message);
  });
});

test.each([
  ['Dense', 'relu', 'relu'],
  ['Dense', { class_name: 'function', config: 'relu', module: 'builtins' }, 'relu'], // Keras 2.13 and later
  ['Dense', { class_name: 'ReLU', config: { name: 're_lu' } }, 're_lu'],
  ['Dense', null, undefined],
  ['Dense', undefined, undefined],
  ['ReLU', undefined, 'relu'],
  ['Softmax', undefined, 'softmax'],
])('the activation of a %s with %o is %s', (className, activation, expected) => {
  expect(activationOf(parse({ class_name: className, config: { name: 'x', activation } }))).toBe(expected);
});
