/** `TL_HOME` of the tests of one file, set back when they are done. */
import { afterAll } from 'vitest';

const before = process.env.TL_HOME;

afterAll(() => {
  if (before === undefined) delete process.env.TL_HOME;
  else process.env.TL_HOME = before;
});

export function setHome(home: string): void {
  process.env.TL_HOME = home;
}
