/** From the network's numbers back to pictures, and the channel orders on the way. */
import { describe, expect, test } from 'vitest';
import { type Channels, channelCounts, type Picture } from '../../src/augment/image.js';
import { denormalise, normaliseInto, plainView } from '../../src/augment/pipeline.js';
import { type Preprocessing, presets, withChannels } from '../../src/augment/preprocessing.js';

const size = { height: 16, width: 48 };

/** Every value a byte has, in every channel. */
function everyByte(channels: Channels): Picture {
  const data = Uint8Array.from({ length: 16 * 48 * channels }, (_, i) => (i * 7 + Math.floor(i / 256)) % 256);
  return { data, ...size };
}

function normalised(picture: Picture, record: Preprocessing): Float32Array {
  const out = new Float32Array(picture.data.length);
  normaliseInto(picture, record, out, plainView);
  return out;
}

describe('denormalise', () => {
  const cases = Object.entries(presets).flatMap(([name, record]) =>
    channelCounts.map((channels) => ({ name, channels, record: withChannels(record, channels) })),
  );
  test.each(cases)('gives the picture back: $name, $channels channels', ({ channels, record }) => {
    const picture = everyByte(channels);
    expect(denormalise(normalised(picture, record), record, size)).toEqual(picture);
  });

  test('rounds what lies between two values, and cuts what lies outside', () => {
    const record = { ...presets.unit, mean: [0.5], std: [0.25] };
    const values = Float32Array.of(-3, 3, (100.4 / 255 - 0.5) * 4, (100.6 / 255 - 0.5) * 4);
    expect([...denormalise(values, record, { height: 1, width: 4 }).data]).toEqual([0, 255, 100, 101]);
  });
});

test('a grey record may say bgr, which orders nothing', () => {
  const record = { ...withChannels(presets.caffe, 1), channelOrder: 'bgr' } as const;
  const picture = { data: Uint8Array.of(0, 10, 20, 255), width: 2, height: 2 };
  const expected = [...picture.data].map((value) => Math.fround(value - record.mean[0]!));
  expect([...normalised(picture, record)]).toEqual(expected);
  expect([...normalised({ ...picture, data: Float32Array.from(picture.data) }, record)]).toEqual(expected);
  expect(denormalise(Float32Array.from(expected), record, { height: 2, width: 2 })).toEqual(picture);
});
