/** Numbers as people read them, and tables that are both text and Markdown. */
import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Sample standard deviation; 0 of a single value. */
export function deviation(values) {
  const centre = mean(values);
  return values.length < 2 ? 0 : Math.sqrt(values.reduce((s, v) => s + (v - centre) ** 2, 0) / (values.length - 1));
}

/** A Markdown table whose columns line up in a terminal. Cells of all columns but the first stand at the right. */
export function table(head, rows) {
  const cells = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, i) => Math.max(3, ...cells.map((row) => row[i].length)));
  const line = (row) => `| ${row.map((c, i) => (i === 0 ? c.padEnd(widths[i]) : c.padStart(widths[i]))).join(' | ')} |`;
  const rule = `| ${widths.map((n, i) => (i === 0 ? '-'.repeat(n) : `${'-'.repeat(n - 1)}:`)).join(' | ')} |`;
  return [line(cells[0]), rule, ...cells.slice(1).map(line)].join('\n');
}

/** Writes a report beside its numbers; JSON as the linter wants it. */
export async function writeReport(path, markdown, numbers) {
  const biome = createRequire(import.meta.url).resolve('@biomejs/biome/bin/biome');
  const formatted = execFileSync(process.execPath, [biome, 'format', '--stdin-file-path=report.json'], {
    input: JSON.stringify(numbers, null, 2),
    maxBuffer: 1 << 26,
  });
  await mkdir(dirname(path), { recursive: true });
  await writeFile(`${path}.md`, markdown);
  await writeFile(`${path}.json`, formatted);
}
