/** The table at the start of a run: by stage, what is frozen, what is trained, at which rate, and how many numbers that is. */
import { cutAt, type Graph, nodesBetween, tapOf } from '../engine/graph.js';
import type { BatchNormMode } from '../engine/run.js';
import { HEAD, type ParameterGroup } from './groups.js';
import type { FinetuneSettings } from './settings/settings.js';

/** What training does with a stage. */
export interface StageRow {
  /** `stem`, `stage2`, `block7`, `head`, `aux1`. */
  readonly stage: string;
  /**
   * `part`: what lies before the cut is frozen, the rest is trained; `adapted`: low-rank adapters are trained beside what is
   * frozen; `auxiliary`: trained, and in no model.
   */
  readonly state: 'frozen' | 'trained' | 'part' | 'adapted' | 'auxiliary';
  /** By what batch norms of the trained part normalise, where there are any. */
  readonly batchNorm?: BatchNormMode;
  /** The lowest and the highest rate that a parameter of it trains at, of the run's highest; absent where none does. */
  readonly lr?: readonly [lowest: number, highest: number];
  /** Numbers that a gradient changes, those of adapters too. */
  readonly trained: number;
  /** Numbers that the model has of it. */
  readonly parameters: number;
}

export interface StageOptions {
  readonly cut: string | undefined;
  /** Which parameters behind the cut are trained; all when absent. */
  readonly trains?: ((path: string) => boolean) | undefined;
  readonly groups: ReadonlyMap<string, ParameterGroup>;
  /** The highest of the run. */
  readonly lr: number;
  readonly batchNorm: BatchNormMode;
}

/** A row a stage, in the order of the network. */
export function stagesOf(graph: Graph, { cut, trains = () => true, groups, lr, batchNorm }: StageOptions): StageRow[] {
  const model = new Set(nodesBetween(graph, new Set(), [tapOf(graph, 'logits')]));
  const after = new Set(cut === undefined ? graph.nodes : cutAt(graph, cut, 'logits').after);
  const stages = new Map<string, Sums>();
  for (const node of graph.nodes) {
    const isAdapter = node.operation.kind === 'low_rank';
    const isBehind = after.has(node) || !model.has(node); // auxiliary classifiers stand on what is trained
    for (const parameter of node.parameters) {
      const { stage, lrScale } = groups.get(parameter.path)!;
      const sums = stages.get(stage) ?? { ...none };
      const count = parameter.shape.reduce((a, b) => a * b, 1);
      if (!isAdapter) sums.parameters += count;
      const isTrained = parameter.trainable && isBehind && trains(parameter.path);
      if (parameter.trainable && !isTrained) sums.hasFrozen = true;
      if (isTrained) {
        sums.trained += count;
        sums.lowest = Math.min(sums.lowest, lr * lrScale);
        sums.highest = Math.max(sums.highest, lr * lrScale);
        if (isAdapter) sums.hasAdapters = true;
      }
      if (!model.has(node)) sums.isAuxiliary = true;
      if (node.operation.kind === 'batch_norm' && isBehind) sums.hasNorms = true;
      stages.set(stage, sums);
    }
  }
  return [...stages].map(([stage, sums]) => ({
    stage,
    state: stateOf(sums),
    ...(sums.hasNorms ? { batchNorm } : {}),
    ...(sums.trained > 0 ? { lr: [sums.lowest, sums.highest] as const } : {}),
    trained: sums.trained,
    parameters: sums.parameters,
  }));
}

interface Sums {
  parameters: number;
  trained: number;
  lowest: number;
  highest: number;
  hasFrozen: boolean;
  hasAdapters: boolean;
  hasNorms: boolean;
  isAuxiliary: boolean;
}

const none: Sums = {
  parameters: 0,
  trained: 0,
  lowest: Number.POSITIVE_INFINITY,
  highest: 0,
  hasFrozen: false,
  hasAdapters: false,
  hasNorms: false,
  isAuxiliary: false,
};

function stateOf({ trained, hasFrozen, hasAdapters, isAuxiliary }: Sums): StageRow['state'] {
  if (isAuxiliary) return 'auxiliary';
  if (trained === 0) return 'frozen';
  if (hasAdapters) return 'adapted';
  return hasFrozen ? 'part' : 'trained';
}

const states: Readonly<Record<StageRow['state'], string>> = {
  frozen: 'frozen',
  trained: 'trained',
  part: 'trained in part',
  adapted: 'frozen, adapters trained',
  auxiliary: 'trained, in no model',
};

/** What was asked for and changes nothing, as sentences. */
export function withoutEffect(
  rows: readonly StageRow[],
  { batchNorm, layerDecay }: Pick<FinetuneSettings, 'batchNorm' | 'layerDecay'>,
): string[] {
  const trained = rows.filter(({ state }) => state !== 'frozen');
  const onlyHeads = trained.every(({ stage, state }) => stage === HEAD || state === 'auxiliary');
  return [
    ...(batchNorm === 'eval' && trained.every((row) => row.batchNorm === undefined)
      ? ['--bn eval changes nothing: no batch norm is trained']
      : []),
    ...(layerDecay !== undefined && onlyHeads ? ['--layer-decay changes nothing: only the head is trained'] : []),
  ];
}

/** More rows than these are shortened: blocks that follow each other and are treated alike become one. */
const MOST_ROWS = 10;

/** Cells for people: headings, a line a stage, and the sum of what the model has. The first two columns are words. */
export function stageCells(rows: readonly StageRow[]): string[][] {
  const shown = rows.length > MOST_ROWS ? joined(rows) : rows;
  const inModel = rows.filter(({ state }) => state !== 'auxiliary');
  const sum = (of: (row: StageRow) => number): string => count(inModel.reduce((total, row) => total + of(row), 0));
  return [
    ['stage', 'state', 'learning rate', 'trained', 'of parameters'],
    ...shown.map((row) => [
      row.stage,
      `${states[row.state]}${row.batchNorm === 'eval' ? ', batch norms in inference mode' : ''}`,
      row.lr === undefined ? '-' : rates(row.lr),
      count(row.trained),
      count(row.parameters),
    ]),
    ['all', '', '', sum(({ trained }) => trained), sum(({ parameters }) => parameters)],
  ];
}

/** The same as text. */
export function formatStages(rows: readonly StageRow[]): string {
  const lines = stageCells(rows);
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines
    .map((line) => line.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '))
    .join('\n');
}

function joined(rows: readonly StageRow[]): StageRow[] {
  const result: { row: StageRow; first: string }[] = [];
  const family = (stage: string): string => stage.replace(/\d+$/, '');
  const sameRates = (a: StageRow, b: StageRow): boolean => JSON.stringify(a.lr) === JSON.stringify(b.lr);
  for (const row of rows) {
    const before = result.at(-1);
    const alike =
      before !== undefined &&
      family(row.stage) === family(before.first) &&
      row.state === before.row.state &&
      row.batchNorm === before.row.batchNorm &&
      sameRates(row, before.row);
    if (!alike) result.push({ row, first: row.stage });
    else {
      before.row = {
        ...before.row,
        stage: `${before.first} to ${row.stage}`,
        trained: before.row.trained + row.trained,
        parameters: before.row.parameters + row.parameters,
      };
    }
  }
  return result.map(({ row }) => row);
}

const count = (value: number): string => value.toLocaleString('en');

/** 0.001, 7.5e-5. */
const rate = (value: number): string => {
  const rounded = Number(value.toPrecision(3));
  return rounded >= 1e-3 ? String(rounded) : rounded.toExponential();
};

const rates = ([lowest, highest]: readonly [number, number]): string =>
  lowest === highest ? rate(highest) : `${rate(lowest)} to ${rate(highest)}`;
