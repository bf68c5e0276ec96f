/** How weights may be stored; a format has some of these. */
export const quantizations = ['none', 'float16', 'uint8', 'int8'] as const;
export type Quantization = (typeof quantizations)[number];
