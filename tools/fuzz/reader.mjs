/**
 * The process in which damaged files are read, so that a crash, a loop or a full memory ends this one alone. It gets a
 * request by message, reads every tensor, and answers with what came of it.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const dist = process.argv[2];
const load = (module) => import(pathToFileURL(join(dist, module)).href);
const { ToolkitError } = await load('errors.js');

/** How a case is opened: `(folder, file) => { tensors, read, close }`. */
const WAYS = {
  async weights(_folder, file) {
    const { openWeights } = await load('weights/source.js');
    return await openWeights(file);
  },
  async npy(_folder, file) {
    const { readNpy } = await load('weights/numpy/npy.js');
    const { shape, data } = await readNpy(file);
    return { tensors: [{ name: 'array', shape }], read: async () => data, close: async () => undefined };
  },
  /** `$TL_HOME` is the folder. */
  async store(_folder, _file, { backbone }) {
    const { resolveWeights } = await load('weights/resolve.js');
    const { parameters, read, close } = await resolveWeights({ backbone, weights: 'auto' });
    return { tensors: parameters.map(({ path: name, shape }) => ({ name, shape })), read, close };
  },
  async map(folder, _file, { backbone, source }) {
    const { openPublishedFile } = await load('weights/published-file.js');
    const wanted = { backbone, source, map: join(folder, 'names.txt') };
    const { parameters, read, close } = await openPublishedFile(join(folder, 'weights.safetensors'), wanted);
    return { tensors: parameters.map(({ path: name, shape }) => ({ name, shape })), read, close };
  },
  async model(folder) {
    const { openModelFolder } = await load('weights/model-folder.js');
    const { graph, read, close } = await openModelFolder(folder);
    return { tensors: graph.parameters.map(({ path: name, shape }) => ({ name, shape })), read, close };
  },
};

/** Name -> digest of shape and numbers. */
async function readAll({ way, folder, file, options }) {
  const source = await WAYS[way](folder, file, options);
  try {
    const digests = {};
    for (const { name, shape } of source.tensors) {
      const values = await source.read(name);
      const wanted = shape.reduce((product, size) => product * size, 1);
      if (values.length !== wanted) throw new Error(`${name} [${shape}] was read as ${values.length} numbers`);
      const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      digests[name] = createHash('sha1').update(`${shape}:`).update(bytes).digest('base64');
    }
    return digests;
  } finally {
    await source.close();
  }
}

async function answer(request) {
  process.env.TL_HOME = request.home;
  try {
    return { outcome: 'read', digests: await readAll(request) };
  } catch (error) {
    const { message, code, hint } = error;
    if (!(error instanceof ToolkitError)) return { outcome: 'raw error', message: String(error?.stack ?? error) };
    if (!hint || !message.includes(request.folder))
      return { outcome: 'no hint or path', message: `${code}: ${message}` };
    return { outcome: 'refused', code, message };
  }
}

/** Streams close their files a moment after they are ended. */
const CLOSING_MS = 100;

/** Files that were left open by cases before. */
const told = new Set();

/** Files of the case that are open, each with its number. */
function stillOpen(folder) {
  const links = readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [`${readlinkSync(join('/proc/self/fd', fd)).replace(/ \(deleted\)$/, '')} (${fd})`];
    } catch {
      return []; // closed meanwhile: the one that listed the folder
    }
  });
  return links.filter((link) => link.startsWith(`${folder}/`) && !told.has(link));
}

/** Most memory this process has had at once, in bytes (proc(5)); writing 5 to clear_refs starts it anew. */
const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) * 1024;

process.on('message', async (request) => {
  const reply = await answer(request);
  const isLinux = process.platform === 'linux';
  let open = isLinux ? stillOpen(request.folder) : [];
  if (open.length > 0) {
    await new Promise((resolve) => setTimeout(resolve, CLOSING_MS));
    open = stillOpen(request.folder);
  }
  for (const link of open) told.add(link);
  process.send({ id: request.id, ...reply, open, peak: isLinux ? peak() : 0 });
});
process.on('disconnect', () => process.exit());
process.send({ ready: true });
