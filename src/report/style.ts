/** How a report looks: light or dark as the reader has it, black on white on paper. */
export const style = `
:root { color-scheme: light dark; --ink: #1f2933; --faint: #5c6975; --line: #dfe3e8; --card: #ffffff; --page: #f5f7f9;
  --right: #00724f; --wrong: #b34700; --warm: #fff4ec; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaee; --faint: #a3aeb9; --line: #333d47; --card: #1b2229; --page: #12171c;
    --right: #4cc9a0; --wrong: #ff9a57; --warm: #33241a; --accent: #5cb8ec; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header, main { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
header p { margin: 6px 0 0; color: var(--faint); overflow-wrap: anywhere; }
section { margin: 24px 0; padding: 20px 24px 24px; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
h2 { margin: 0 0 12px; font-size: 1.2rem; }
h3 { margin: 20px 0 8px; font-size: 1rem; }
section > p { margin: 0 0 12px; color: var(--faint); max-width: 78ch; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0; }
.figures div { padding: 12px 14px; border: 1px solid var(--line); border-radius: 8px; }
.figures dt { color: var(--faint); font-size: 0.85rem; }
.figures dd { margin: 0; font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.note { margin: 12px 0 0; padding: 10px 14px; color: var(--ink); background: var(--warm); border-left: 4px solid var(--wrong); border-radius: 4px; max-width: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.full { width: 100%; }
caption { text-align: left; color: var(--faint); padding-bottom: 6px; }
th, td { padding: 5px 12px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
thead th { font-size: 0.85rem; color: var(--faint); }
tbody th { font-weight: 500; }
.list th { white-space: nowrap; width: 1%; padding-right: 28px; }
.list td { overflow-wrap: anywhere; }
tfoot th, tfoot td { border-bottom: 0; font-weight: 650; }
.number { text-align: right; white-space: nowrap; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 8px 40px; align-items: start; }
.chart { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #ffffff; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 16px; margin: 0; padding: 0; list-style: none; }
figure { margin: 0; }
.tiles img { display: block; width: 100%; aspect-ratio: 1; border-radius: 6px; border: 3px solid transparent; }
.tiles .right img { border-color: var(--right); }
.tiles .wrong img { border-color: var(--wrong); }
figcaption { margin-top: 6px; font-size: 0.85rem; line-height: 1.35; overflow-wrap: anywhere; }
figcaption strong { display: block; }
.right strong { color: var(--right); }
.wrong strong { color: var(--wrong); }
figcaption span { display: block; }
.gone { display: grid; place-items: center; aspect-ratio: 1; border-radius: 6px; background: var(--page); color: var(--faint); font-size: 0.85rem; }
@media (max-width: 600px) {
  header, main { padding: 0 12px; }
  header { padding-top: 20px; }
  section { padding: 16px; margin: 14px 0; }
  .figures, .tiles { grid-template-columns: repeat(2, 1fr); gap: 10px; }
  .figures dd { font-size: 1.2rem; }
  th, td { padding-right: 8px; font-size: 0.9rem; }
}
@media print {
  :root { color-scheme: light; --ink: #000000; --faint: #444444; --line: #bbbbbb; --card: #ffffff; --page: #ffffff;
    --right: #00724f; --wrong: #b34700; --warm: #ffffff; }
  body { font-size: 10pt; }
  header, main { max-width: none; padding: 0; }
  section { border: 0; padding: 0; margin: 18pt 0; }
  h2, h3, caption { break-after: avoid; }
  tr, figure, .figures div, .chart { break-inside: avoid; }
  .tiles { grid-template-columns: repeat(6, 1fr); }
  .wide { overflow: visible; }
}
`;
