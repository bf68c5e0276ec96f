/** `index.html`: what stands on the page, with no word of style or program in it. */
import { DESCRIPTION_ID, type PageDescription } from './page/description.js';

/** Classes that are named in one line; more are behind a fold. */
const NAMED = 8;

/**
 * What the page may load and do: nothing from elsewhere. `blob:` are the picture that was chosen, and the WebAssembly
 * programs.
 * @see https://www.w3.org/TR/CSP3/
 */
const policy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "connect-src 'self' blob:",
  "img-src 'self' blob:",
  "media-src 'self' blob:",
  "style-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

export function indexHtml(description: PageDescription): string {
  const { backbone, classes } = description;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="#f6f7f4" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#14181a" media="(prefers-color-scheme: dark)">
<title>What is in the picture? ${escaped(backbone)}</title>
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="style.css">
<script type="application/json" id="${DESCRIPTION_ID}">${jsonInHtml(description)}</script>
<script src="app.js" defer></script>
</head>
<body>
<header>
<h1>What is in the picture?</h1>
${classesHtml(classes)}
</header>
<main>
<section class="card" id="area" aria-label="Picture">
<div class="stage">
<div id="invitation">
<svg viewBox="0 0 48 48" width="56" height="56" aria-hidden="true" focusable="false">
<rect x="5" y="9" width="38" height="30" rx="5"/><circle cx="16" cy="19" r="3.5"/><path d="m7 35 11-10 8 7 7-6 9 8"/>
</svg>
<p>Drop a picture here, or paste one.</p>
</div>
<img id="preview" alt="" hidden>
<video id="video" aria-label="What the camera sees" playsinline muted hidden></video>
</div>
<div class="actions">
<label class="button primary">Choose a picture<input id="file" type="file" accept="image/*"></label>
<button class="button" id="camera-start" type="button">Use the camera</button>
<button class="button" id="camera-turn" type="button" hidden>Other camera</button>
<button class="button stop" id="camera-stop" type="button" hidden>Stop the camera</button>
</div>
</section>
<section class="card" aria-labelledby="answer">
<h2 id="answer">What the model sees</h2>
<p id="status" role="status">The page is loading.</p>
<progress id="progress" aria-label="How much of the model has come" max="1" value="0" hidden></progress>
<div id="folder" hidden>
<p>This page was opened from the disk, where a browser lets no page read the files beside it.
Show it the folder it lies in (nothing leaves this device), or put the folder on a web server.</p>
<label class="button primary">Choose the folder of this page<input id="folder-files" type="file" webkitdirectory></label>
</div>
<p id="alert" role="alert" hidden></p>
<ol id="bars" aria-label="Classes, the likeliest first"></ol>
<button class="button quiet" id="more" type="button" aria-controls="bars" hidden></button>
<p class="small" id="time"></p>
<noscript><p>This page needs JavaScript: the model runs in it.</p></noscript>
</section>
</main>
<footer>
<p>Pictures stay on this device: nothing is sent anywhere. <span id="offline"></span></p>
${aboutHtml(description)}
</footer>
</body>
</html>
`;
}

function classesHtml(classes: readonly string[]): string {
  const names = classes.map((name) => `<bdi>${escaped(name)}</bdi>`);
  const count = classes.length.toLocaleString('en');
  if (names.length <= NAMED) return `<p>It tells ${count} classes apart: ${names.join(', ')}.</p>`;
  const items = names.map((name) => `<li>${name}</li>`).join('');
  return `<details><summary>It tells ${count} classes apart.</summary><ul class="classes">${items}</ul></details>`;
}

function aboutHtml({ backbone, source, weights, stored, toolkit }: PageDescription): string {
  const rows = [
    ['Model', `<strong>${escaped(backbone)}</strong> (${escaped(source)}), weights in ${stored}`],
    ['Trained from', `<bdi>${escaped(weights.origin)}</bdi>`],
    ['Licence of that', `<bdi>${escaped(weights.license)}</bdi>`],
    ['Made with', `tl-toolkit ${escaped(toolkit)}`],
    ['Runs by', 'TensorFlow.js (<a href="tfjs/LICENSE.txt">Apache License 2.0</a>)'],
  ];
  return `<dl>\n${rows.map(([term, about]) => `<dt>${term}</dt><dd>${about}</dd>\n`).join('')}</dl>`;
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const escaped = (text: string): string => text.replace(/[&<>"]/g, (sign) => entities[sign]!);

/** A text within a script element ends at `</script` only, and changes its meaning at `<!--`. */
const jsonInHtml = (value: unknown): string => JSON.stringify(value).replaceAll('<', '\\u003c');
