/** What every side in JavaScript does around its work: reads a task, times steps, tells what it measured. */
import { readFileSync } from 'node:fs';

/** The task, JSON, from standard input. */
export const readTask = () => JSON.parse(readFileSync(0, 'utf8'));

/**
 * Times a step again and again.
 * @param {{ warmUp: number, steps: number, keep: number }} task `keep`: of how many first steps the numbers are told
 * @param {() => Iterable<number> | Promise<Iterable<number>>} step gives the numbers that sides are compared by
 */
export async function timeSteps({ warmUp, steps, keep }, step) {
  const outputs = [];
  const timesMs = [];
  for (let i = 0; i < warmUp + steps; i++) {
    const began = performance.now();
    const numbers = await step();
    const ms = performance.now() - began;
    if (i >= warmUp) timesMs.push(ms);
    if (outputs.length < keep) outputs.push([...numbers]);
  }
  return { outputs, timesMs };
}

/** Most memory this process ever had, bytes. */
export function peakBytes() {
  try {
    return Number(/^VmHWM:\s*(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
  } catch {
    return process.resourceUsage().maxRSS * 1024;
  }
}

/** Writes the record as the last line of the output. */
export const tell = (record) => console.log(`\n${JSON.stringify({ peakBytes: peakBytes(), ...record })}`);
