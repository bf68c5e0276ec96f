/** File name endings of pictures, lower case, of the formats that `decodeImage` reads. */
export const imageExtensions: readonly string[] = [
  '.jpg',
  '.jpeg',
  '.jpe',
  '.jfif',
  '.png',
  '.webp',
  '.gif',
  '.tif',
  '.tiff',
  '.avif',
];
