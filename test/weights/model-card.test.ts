/** What the README of a model says, for people. */
import { describe, expect, test } from 'vitest';
import { torchPreprocessing } from '../../src/augment/preprocessing.js';
import { modelCard } from '../../src/weights/model-card.js';
import type { ModelRecord } from '../../src/weights/model-folder.js';

const record: ModelRecord = {
  formatVersion: 1,
  backbone: 'resnet50',
  source: 'torch',
  inputSize: { height: 224, width: 224 },
  head: { hidden: [], dropout: 0.2 },
  classes: ['a_b', '猫', 'dog | cat'],
  preprocessing: torchPreprocessing,
  weights: { origin: 'torchvision', license: 'BSD-3-Clause' },
  data: { fingerprint: 'x', valSplit: 0.2, seed: 0 },
  training: {
    trainPictures: 80,
    valPictures: 20,
    recipe: { freeze: 'backbone', epochs: 5 },
    reached: { epoch: 4, trainLoss: 0.5, trainAccuracy: 0.75, valLoss: 0.25, valAccuracy: 0.9 },
  },
  toolkit: '0.1.0',
};

describe('a model card', () => {
  test('says what it was trained on, how, how good it is, and whose its weights are', () => {
    const card = modelCard(record);
    expect(card).toMatch(/^# resnet50, 3 classes$/m);
    expect(card).toContain('Trained on 80 pictures, chosen by the loss on 20 others.');
    expect(card).toContain('- freeze: backbone\n- epochs: 5\n');
    expect(card).toContain('After epoch 4:');
    expect(card).toContain('| validation | 0.2500 | 90.0 % |\n| training (augmented) | 0.5000 | 75.0 % |\n');
    expect(card).toContain('from torchvision (BSD-3-Clause)');
  });

  test('names classes as they are, whatever Markdown would make of them', () => {
    expect(modelCard(record)).toContain('3 classes: a\\_b, 猫, dog \\| cat.');
    const many = { ...record, classes: Array.from({ length: 1000 }, (_, i) => `c${i}`) };
    expect(modelCard(many)).toContain('c18, c19 and 980 more.');
  });

  test('leaves out what nobody knows', () => {
    const { training, ...untrained } = record;
    expect(modelCard(untrained)).not.toMatch(/Recipe|Metrics|Trained on/);
    const { reached, ...before } = training!;
    expect(modelCard({ ...record, training: before })).not.toContain('Metrics');
    const alone = { ...training!, valPictures: 0, reached: { ...reached!, valLoss: null, valAccuracy: null } };
    expect(modelCard({ ...record, training: alone })).not.toContain('| validation');
  });
});
