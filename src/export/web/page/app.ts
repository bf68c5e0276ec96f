/** The page: takes a picture from a file, a drop, the clipboard or the camera, and shows what the model sees in it. */
import { barsIn, percent, ranked } from './bars.js';
import { type Camera, type Facing, openCamera } from './camera.js';
import type { Answer, Classifier } from './classifier.js';
import { DESCRIPTION_ID, type PageDescription, SERVICE_WORKER_SCRIPT } from './description.js';
import { isFromDisk, startModel } from './model.js';
import { asStored } from './pixels.js';

const element = <E extends HTMLElement>(id: string): E => document.getElementById(id) as E;
const description = JSON.parse(element(DESCRIPTION_ID).textContent!) as PageDescription;

const page = {
  area: element('area'),
  invitation: element('invitation'),
  preview: element<HTMLImageElement>('preview'),
  video: element<HTMLVideoElement>('video'),
  file: element<HTMLInputElement>('file'),
  start: element<HTMLButtonElement>('camera-start'),
  turn: element<HTMLButtonElement>('camera-turn'),
  stop: element<HTMLButtonElement>('camera-stop'),
  folder: element('folder'),
  folderFiles: element<HTMLInputElement>('folder-files'),
  status: element('status'),
  progress: element<HTMLProgressElement>('progress'),
  alert: element('alert'),
  time: element('time'),
  offline: element('offline'),
};
const bars = barsIn(element('bars'), element('more'), description.classes);

let model: Promise<Classifier> | undefined;
let camera: Camera | undefined;
let facing: Facing = 'environment';
/** Grows with every picture that is given: an answer to an earlier one is not shown. */
let turn = 0;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function say(text: string): void {
  if (page.status.textContent !== text) page.status.textContent = text;
}

/** The class stands apart: it may be written from right to left. */
function sayClass(probabilities: Float32Array, withPercent: boolean): void {
  const best = ranked(probabilities)[0]!;
  const name = Object.assign(document.createElement('bdi'), { textContent: description.classes[best] });
  const rest = withPercent ? `: ${percent(probabilities[best]!)}` : '';
  if (page.status.textContent !== `${name.textContent}${rest}`) page.status.replaceChildren(name, rest);
}

function complain(text: string): void {
  page.alert.textContent = text;
  page.alert.hidden = text === '';
}

function startLoading(chosen?: Iterable<File>): void {
  page.folder.hidden = true;
  page.progress.hidden = false;
  complain('');
  say('The model is loading.');
  const onProgress = (share: number): void => {
    page.progress.value = share;
  };
  model = startModel(description, chosen, onProgress);
  model
    .then(({ backend }) => {
      if (turn === 0) say('Ready: give it a picture.');
      page.time.textContent = `Runs on this device, by ${backend}.`;
      if (!isFromDisk) void keepForLater();
    })
    .catch((error) => {
      say('');
      complain(`The model does not load: ${messageOf(error)}.`);
      if (!isFromDisk) return;
      model = undefined;
      page.folder.hidden = false;
    })
    .finally(() => {
      page.progress.hidden = true;
    });
}

/** Opens without a network from now on, where the browser allows that. */
async function keepForLater(): Promise<void> {
  try {
    await navigator.serviceWorker.register(SERVICE_WORKER_SCRIPT);
    await navigator.serviceWorker.ready;
    page.offline.textContent = 'This page now works without a network, too.';
  } catch {
    page.offline.textContent = ''; // http, a private window, no room: it needs its host each time
  }
}

async function showFile(file: File): Promise<void> {
  stopCamera();
  const mine = ++turn;
  complain('');
  bars.clear();
  page.time.textContent = '';
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, asStored);
  } catch {
    if (mine !== turn) return;
    showPreview(undefined);
    say('');
    complain(`“${file.name}” is not a picture, or of a kind that this browser does not know.`);
    return;
  }
  if (mine !== turn) return bitmap.close();
  showPreview(file);
  if (model === undefined) return say('The model is not there yet: choose its folder.');
  say('Looking at it …');
  try {
    const answer = await (await model).classify(bitmap);
    if (mine === turn) showAnswer(answer);
  } catch (error) {
    if (mine !== turn) return;
    say('');
    complain(`This picture cannot be classified: ${messageOf(error)}.`);
  }
}

function showPreview(file: File | undefined): void {
  URL.revokeObjectURL(page.preview.src);
  page.preview.hidden = file === undefined;
  page.invitation.hidden = file !== undefined;
  if (file === undefined) page.preview.removeAttribute('src');
  else Object.assign(page.preview, { src: URL.createObjectURL(file), alt: `The picture ${file.name}` });
}

function showAnswer({ probabilities, milliseconds, rounded }: Answer): void {
  bars.show(probabilities);
  sayClass(probabilities, true);
  const note = rounded ? ' Colours of transparent parts are rounded in this browser.' : '';
  page.time.textContent = `${Math.max(1, Math.round(milliseconds))} ms for this picture, on this device.${note}`;
}

async function startCamera(): Promise<void> {
  complain('');
  stopCamera();
  const mine = ++turn;
  try {
    const opened = await openCamera(page.video, facing);
    if (mine !== turn) return opened.stop();
    camera = opened;
  } catch (error) {
    complain(`The camera does not start: ${messageOf(error)}.`);
    return;
  }
  showPreview(undefined);
  bars.clear();
  showCamera(true);
  page.stop.focus();
  await watch(camera, mine);
}

/** Picture after picture. What is said aloud changes only with the class, else nothing else could be heard. */
async function watch(watched: Camera, mine: number): Promise<void> {
  try {
    const classifier = await model;
    if (classifier === undefined) return say('The model is not there yet: choose its folder.');
    while (mine === turn) {
      const answer = await classifier.classify(await watched.picture());
      if (mine !== turn) return;
      bars.show(answer.probabilities);
      sayClass(answer.probabilities, false);
      page.time.textContent = `${Math.max(1, Math.round(answer.milliseconds))} ms a picture, on this device.`;
      await new Promise(requestAnimationFrame); // not at all while nobody sees the page
    }
  } catch (error) {
    if (mine !== turn) return;
    stopCamera();
    complain(`The camera stopped: ${messageOf(error)}.`);
  }
}

function stopCamera(): void {
  if (camera === undefined) return;
  turn++;
  camera.stop();
  camera = undefined;
  showCamera(false);
}

function showCamera(running: boolean): void {
  page.video.hidden = !running;
  page.invitation.hidden = running;
  page.start.hidden = running;
  page.stop.hidden = !running;
  page.turn.hidden = !(running && camera?.several === true);
}

/** The first picture of what was dropped or pasted. */
function take(data: DataTransfer | null): void {
  const file = data?.files[0];
  if (file !== undefined) void showFile(file);
  else complain('That was no file: give the picture itself, not its address.');
}

page.file.addEventListener('change', () => {
  const file = page.file.files?.[0];
  if (file !== undefined) void showFile(file);
  page.file.value = ''; // the same file again is a change, too
});
page.start.addEventListener('click', () => void startCamera());
page.turn.addEventListener('click', () => {
  facing = facing === 'environment' ? 'user' : 'environment';
  void startCamera();
});
page.stop.addEventListener('click', () => {
  stopCamera();
  say('The camera is off.');
  page.start.focus();
});
page.folderFiles.addEventListener('change', () => startLoading(page.folderFiles.files ?? []));

document.addEventListener('paste', ({ clipboardData }) => take(clipboardData));
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  page.area.classList.add('over');
});
document.addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) page.area.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  page.area.classList.remove('over');
  take(event.dataTransfer);
});
window.addEventListener('pagehide', stopCamera);

if (isFromDisk) {
  page.folder.hidden = false;
  say('One step before the first picture:');
} else {
  const manifest = document.createElement('link');
  document.head.append(Object.assign(manifest, { rel: 'manifest', href: 'manifest.webmanifest' }));
  startLoading();
}
