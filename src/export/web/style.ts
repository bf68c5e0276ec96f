/** `style.css`: light and dark by what the reader's system prefers, one column on a phone, two on a desk. */

export const styleCss = `:root {
  color-scheme: light dark;
  --back: #f6f7f4;
  --card: #ffffff;
  --ink: #1a2023;
  --soft: #56616a;
  --line: #d5dad6;
  --accent: #0b6b57;
  --on-accent: #ffffff;
  --track: #e4e9e5;
  --fault: #a3201d;
  --fault-back: #fdeceb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14181a;
    --card: #1d2326;
    --ink: #edf1ee;
    --soft: #a5b1b3;
    --line: #39433f;
    --accent: #5fd0b0;
    --on-accent: #06251d;
    --track: #2d3639;
    --fault: #ffb4ae;
    --fault-back: #43201f;
  }
}
*, ::before, ::after { box-sizing: border-box; }
[hidden] { display: none !important; }
body {
  margin: 0 auto;
  padding: clamp(1rem, 4vw, 3rem) clamp(1rem, 4vw, 2rem);
  max-inline-size: 68rem;
  background: var(--back);
  color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere;
}
h1 { margin: 0; font-size: clamp(1.6rem, 5vw, 2.4rem); line-height: 1.2; letter-spacing: -0.02em; }
h2 { margin: 0; font-size: 1rem; color: var(--soft); font-weight: 600; }
p { margin: 0.5rem 0; }
header p, header details { margin: 0.5rem 0 0; color: var(--soft); }
summary { cursor: pointer; inline-size: fit-content; }
.classes { columns: 12rem; max-block-size: 14rem; overflow-y: auto; padding-inline-start: 1.2rem; }
main { display: grid; gap: 1.25rem; margin-block: 1.5rem; grid-template-columns: minmax(0, 1fr); }
.card { padding: 1.25rem; background: var(--card); border: 1px solid var(--line); border-radius: 1rem; }
.stage {
  display: grid;
  place-items: center;
  block-size: clamp(13rem, 34vh, 26rem);
  border: 2px dashed var(--line);
  border-radius: 0.75rem;
  overflow: hidden;
}
.over .stage { border-color: var(--accent); background: var(--track); }
.stage img, .stage video { inline-size: 100%; block-size: 100%; min-block-size: 0; object-fit: contain; }
.stage:has(img:not([hidden]), video:not([hidden])) { border-style: solid; border-width: 1px; }
#invitation { padding: 1rem; text-align: center; color: var(--soft); }
#invitation svg { fill: none; stroke: currentcolor; stroke-width: 2.5; stroke-linecap: round; stroke-linejoin: round; }
.actions { display: flex; flex-wrap: wrap; gap: 0.75rem; margin-block-start: 1rem; }
.button {
  position: relative;
  display: inline-block;
  flex: 1 1 auto;
  min-block-size: 2.75rem;
  padding: 0.6rem 0.75rem;
  border: 1px solid var(--line);
  border-radius: 0.6rem;
  background: transparent;
  color: var(--ink);
  font: inherit;
  font-weight: 600;
  text-align: center;
  cursor: pointer;
}
.actions .button { white-space: nowrap; }
.button:hover { border-color: var(--accent); }
.button.primary { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.button.stop { border-color: var(--fault); color: var(--fault); }
.button.quiet { margin-block-start: 0.75rem; padding-inline: 1.1rem; font-weight: 400; color: var(--accent); }
.button input { position: absolute; inset: 0; inline-size: 100%; opacity: 0; cursor: pointer; }
.button input::file-selector-button { cursor: pointer; }
:focus-visible, .button:has(input:focus-visible) { outline: 3px solid var(--accent); outline-offset: 3px; }
#status { margin-block: 0.25rem 0.75rem; font-size: 1.35rem; font-weight: 650; line-height: 1.3; min-block-size: 1.3em; }
#status:empty { min-block-size: 0; margin: 0; }
#alert { padding: 0.75rem 1rem; border-radius: 0.6rem; background: var(--fault-back); color: var(--fault); }
progress { inline-size: 100%; accent-color: var(--accent); }
#bars { list-style: none; margin: 0; padding: 0; max-block-size: 60vh; overflow-y: auto; }
#bars li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 0.15rem 1rem; padding-block: 0.45rem; }
#bars li:first-child { font-weight: 650; }
.name { justify-self: start; }
.value { font-variant-numeric: tabular-nums; }
.track { grid-column: 1 / -1; block-size: 0.5rem; border-radius: 0.25rem; background: var(--track); overflow: hidden; }
.track div { block-size: 100%; border-radius: inherit; background: var(--accent); transition: inline-size 0.25s; }
.small, footer { color: var(--soft); font-size: 0.875rem; }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0.1rem 0.75rem; margin: 0.75rem 0 0; }
dd { margin: 0; }
a { color: var(--accent); }
@media (min-width: 48rem) {
  main { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); align-items: start; }
  .stage { block-size: clamp(14rem, 44vh, 26rem); }
}
@media (prefers-reduced-motion: reduce) { .track div { transition: none; } }
@media (forced-colors: active) { .track { border: 1px solid; } .track div { background: Highlight; forced-color-adjust: none; } }
`;
