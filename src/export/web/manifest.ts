/** What makes the page an application that can be installed: its manifest and its picture. */

/** @see https://www.w3.org/TR/appmanifest/ */
export function manifestJson(backbone: string): string {
  const manifest = {
    name: `What is in the picture? ${backbone}`,
    short_name: backbone,
    start_url: './',
    scope: './',
    display: 'standalone',
    background_color: '#f6f7f4',
    theme_color: '#0b6b57',
    icons: [{ src: 'icon.svg', type: 'image/svg+xml', sizes: 'any', purpose: 'any maskable' }],
  };
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** A picture with three bars below it, within the circle that platforms cut maskable icons to. */
export const iconSvg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">
<rect width="96" height="96" fill="#0b6b57"/>
<g fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round" stroke-linejoin="round">
<rect x="27" y="20" width="42" height="31" rx="5"/><circle cx="37" cy="30" r="3"/><path d="m29 47 10-9 7 6 7-6 14 11"/>
<path d="M28 61h40M28 69h24M28 77h12"/>
</g>
</svg>
`;
