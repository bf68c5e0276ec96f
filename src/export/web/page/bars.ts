/** The answer: classes with their probabilities, the likeliest first. */

/** Shown at first. */
const TOP = 5;

export interface Bars {
  /** @param probabilities in the order of the classes */
  show(probabilities: Float32Array): void;
  clear(): void;
}

/** Class numbers by probability, the likeliest first. */
export function ranked(probabilities: Float32Array): number[] {
  return Array.from(probabilities, (_, i) => i).sort((a, b) => probabilities[b]! - probabilities[a]!);
}

export function percent(probability: number): string {
  if (probability > 0 && probability < 0.001) return '< 0.1 %';
  return `${(100 * probability).toFixed(1)} %`;
}

export function barsIn(list: HTMLOListElement, more: HTMLButtonElement, classes: readonly string[]): Bars {
  let last: Float32Array | undefined;
  let all = false;
  const render = (): void => {
    const order = last === undefined ? [] : ranked(last);
    const rows = (all ? order : order.slice(0, TOP)).map((index) => ({ index, value: last![index]! }));
    while (list.children.length > rows.length) list.lastElementChild!.remove();
    while (list.children.length < rows.length) list.append(emptyRow());
    rows.forEach(({ index, value }, i) => {
      fill(list.children[i]!, classes[index]!, value);
    });
  };
  const label = (): void => {
    more.textContent = all ? `Only the first ${TOP}` : `All ${classes.length.toLocaleString('en')} classes`;
    more.setAttribute('aria-expanded', String(all));
  };
  more.addEventListener('click', () => {
    all = !all;
    label();
    render();
  });
  label();
  return {
    show: (probabilities) => {
      last = probabilities;
      more.hidden = classes.length <= TOP;
      render();
    },
    clear: () => {
      last = undefined;
      more.hidden = true;
      render();
    },
  };
}

/** A row stays while the camera runs, so that its bar moves. */
function emptyRow(): HTMLLIElement {
  const row = document.createElement('li');
  const name = Object.assign(document.createElement('bdi'), { className: 'name' });
  const value = Object.assign(document.createElement('data'), { className: 'value' });
  const track = Object.assign(document.createElement('div'), { className: 'track', ariaHidden: 'true' });
  track.append(document.createElement('div'));
  row.append(name, value, track);
  return row;
}

function fill(row: Element, name: string, probability: number): void {
  const [label, value, track] = row.children as unknown as [HTMLElement, HTMLDataElement, HTMLElement];
  label.textContent = name;
  value.textContent = percent(probability);
  value.value = String(probability);
  (track.firstElementChild as HTMLElement).style.inlineSize = `${100 * probability}%`;
}
