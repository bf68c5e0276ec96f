/** Padding by PyTorch's rule for pools that round up. */
import { describe, expect, test } from 'vitest';
import { ceilPadding, windowOutput } from '../../src/engine/operations.js';

const lengths = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

describe('ceilPadding', () => {
  // torch 2.5.1: max_pool2d(torch.zeros(1, 1, L, L), size, stride, around, ceil_mode=True).shape
  test.each([
    [3, 2, 0, [2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]],
    [2, 2, 0, [3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8]],
    [3, 1, 1, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]],
    [3, 2, 1, [3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9]],
    [2, 3, 0, [2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6]],
    [3, 3, 1, [2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6]],
  ])('a window of %i in steps of %i, %i around', (size, stride, around, outputs) => {
    lengths.forEach((length, i) => {
      for (const other of [8, 13]) {
        const tall = ceilPadding([length, other], size, stride, around);
        expect(windowOutput(length, size, stride, tall, 0), `height ${length}`).toBe(outputs[i]);
        const wide = ceilPadding([other, length], size, stride, around);
        expect(windowOutput(length, size, stride, wide, 1), `width ${length}`).toBe(outputs[i]);
        expect([tall.top, tall.left, wide.top, wide.left]).toEqual([around, around, around, around]);
      }
    });
  });

  test('the partial window lies at the bottom and the right', () => {
    expect(ceilPadding([112, 112], 3, 2)).toEqual({ top: 0, bottom: 1, left: 0, right: 1 });
    expect(ceilPadding([7, 9], 2, 2)).toEqual({ top: 0, bottom: 1, left: 0, right: 1 });
    expect(ceilPadding([8, 9], 3, 2)).toEqual({ top: 0, bottom: 1, left: 0, right: 0 });
  });

  test('a window that would begin in the padding is dropped', () => {
    // of 6 with one around, in steps of 3: windows at -1 and 2; the next would begin at 5, inside
    expect(windowOutput(6, 3, 3, ceilPadding([6, 6], 3, 3, 1), 0)).toBe(3);
    // of 5: windows at -1 and 2; the next would begin at 5, behind the last row
    expect(ceilPadding([5, 5], 3, 3, 1).bottom).toBe(0);
  });
});
