/**
 * Knowledge distillation: a trained model teaches a smaller one, which learns its logits beside the labels.
 * @see Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531
 */
import { createHash } from 'node:crypto';
import { resolve, sep } from 'node:path';
import { DataError, listFaults, UsageError } from '../errors.js';
import { type OpenedModel, openModelFolder } from '../weights/model-folder.js';
import { type Print, type PrintingReader, printingReader } from './features/key.js';
import type { Distillation } from './losses.js';
import type { FinetuneSettings } from './settings/settings.js';

/** A trained model, opened, that teaches another one. Its numbers never change. */
export interface Teacher {
  readonly model: OpenedModel;
  readonly reader: PrintingReader;
  readonly distillation: Distillation;
  /** For each class of the pictures the position of its logit in the teacher's; undefined where they are the same. */
  readonly order: readonly number[] | undefined;
  /** Of all that decides its logits: a resumed run must have the same. */
  readonly print: Print;
  close(): Promise<void>;
}

/** What `args.json` says of a teacher. */
export interface TeacherRecord extends Distillation {
  readonly backbone: string;
  readonly source: string;
  /** SHA-256 over the numbers of its weights, its network, its classes and its preprocessing. */
  readonly print: Print;
}

/**
 * Weight of the soft part and temperature unless told otherwise. Hinton et al. found "a considerably lower weight" of the
 * hard part best (section 2), and a temperature of 2 where they tried 1, 2, 5 and 10 (section 4.1).
 */
export const distillationDefaults: Distillation = { weight: 0.9, temperature: 2 };

/**
 * Opens the teacher that the settings name; its weights are read once, for their print.
 * @param classes of the pictures, in the order of the student's logits
 * @returns undefined where they name none
 * @throws TEACHER_CLASSES, TEACHER_IN_RUN, MODEL_NOT_FOUND, MODEL_INVALID, WEIGHTS_MISMATCH
 */
export async function openTeacher(
  settings: FinetuneSettings,
  classes: readonly string[],
): Promise<Teacher | undefined> {
  if (settings.teacher === undefined) return undefined;
  const { distillWeight = distillationDefaults.weight, temperature = distillationDefaults.temperature } = settings;
  const model = await openModelFolder(settings.teacher);
  try {
    const reader = printingReader(model.read);
    return {
      model,
      reader,
      distillation: { weight: distillWeight, temperature },
      order: orderIn(model, classes),
      print: await printOf(model, reader),
      close: () => model.close(),
    };
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** @returns undefined where nothing has to be put into another order */
function orderIn({ folder, record }: OpenedModel, classes: readonly string[]): readonly number[] | undefined {
  const faults = [
    ...classes.filter((name) => !record.classes.includes(name)).map((name) => `the teacher does not know: ${name}`),
    ...record.classes.filter((name) => !classes.includes(name)).map((name) => `there are no pictures of: ${name}`),
  ];
  if (faults.length > 0) {
    throw new UsageError({
      code: 'TEACHER_CLASSES',
      message:
        `the teacher ${folder} was trained for other classes: expected the ${classes.length} of the pictures, ` +
        `received ${record.classes.length}\n${listFaults(faults)}`,
      hint: 'train a teacher on the same pictures, or rename the folders of classes',
    });
  }
  const order = classes.map((name) => record.classes.indexOf(name));
  return order.every((position, i) => position === i) ? undefined : order;
}

async function printOf({ record, graph }: OpenedModel, reader: PrintingReader): Promise<Print> {
  const { backbone, source, inputSize, channels = 3, head, classes, preprocessing } = record;
  const weights = await reader.printOf(graph.parameters.map(({ path }) => path));
  return createHash('sha256')
    .update(JSON.stringify([backbone, source, inputSize, channels, head, classes, preprocessing, weights]))
    .digest('hex');
}

/** What `args.json` keeps of a teacher. */
export function recordOf({ model, distillation, print }: Teacher): TeacherRecord {
  const { backbone, source } = model.record;
  return { backbone, source, ...distillation, print };
}

/** What a model card says of a teacher. */
export function describeTeacher(teacher: Teacher): Record<string, string | number> {
  const { backbone, source, weight, temperature } = recordOf(teacher);
  return { teacher: `${backbone} (${source})`, 'distillation weight': weight, temperature };
}

/** Whether a resumed run has the teacher that it began with. @throws RESUME_TEACHER_CHANGED */
export function assertSameTeacher(teacher: Teacher | undefined, before: TeacherRecord | undefined): void {
  if (teacher === undefined || teacher.print === before?.print) return;
  const now = recordOf(teacher);
  throw new DataError({
    code: 'RESUME_TEACHER_CHANGED',
    message:
      `${teacher.model.folder} is not the teacher that the run began with: ` +
      `expected ${nameOf(before)}, received ${nameOf(now)}`,
    hint: 'put that model back, or start a new run',
  });
}

const nameOf = (record: TeacherRecord | undefined): string =>
  record === undefined
    ? 'one that args.json says nothing of'
    : `${record.backbone} (${record.source}) with the print ${record.print.slice(0, 12)}`;

/** A run that replaces an old one would remove the teacher in it. @throws TEACHER_IN_RUN */
export function assertOutside(teacher: string | undefined, runFolder: string): void {
  if (teacher === undefined || !`${resolve(teacher)}${sep}`.startsWith(`${resolve(runFolder)}${sep}`)) return;
  throw new UsageError({
    code: 'TEACHER_IN_RUN',
    message: `the teacher ${teacher} lies in ${runFolder}, which this run would replace`,
    hint: 'choose another --out',
  });
}
