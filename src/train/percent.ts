/** 0.8271 -> 82.7 %. */
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
