/** Choices of keeping the frozen part's output, apart from what it takes to do so. */

/** Where it is kept: `auto` is on disk, and where that has no room in memory, and else nowhere. */
export const cachePlaces = ['auto', 'memory', 'disk', 'off'] as const;
export type CachePlace = (typeof cachePlaces)[number];

/** Number types that it is kept in. */
export const rowPrecisions = ['float32', 'float16'] as const;
export type RowPrecision = (typeof rowPrecisions)[number];
