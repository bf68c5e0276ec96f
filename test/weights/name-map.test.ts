/** `--map`: a user's own two columns, for files with private names and anybody's order of axes. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findBackbone, findPublished } from '../../src/backbones/index.js';
import type { Parameter } from '../../src/engine/graph.js';
import { WeightsError } from '../../src/errors.js';
import { adaptationsOf } from '../../src/weights/plan/adaptations.js';
import { dialectOf } from '../../src/weights/plan/dialects.js';
import { faultsOf } from '../../src/weights/plan/faults.js';
import { formatField, type NameMapRow, parseNameMap } from '../../src/weights/plan/name-map.js';
import { type Plan, planCanonical, planWeights, readPlanned } from '../../src/weights/plan/plan.js';
import type { TensorInfo, TensorSource } from '../../src/weights/source.js';
import { generatedSource, generateTensor, readForwardGolden } from '../support/golden.js';

const columns = (text: string): [string, string | undefined][] =>
  parseNameMap('t', text).rows.map(({ parameter, tensor }) => [parameter, tensor]);

describe('the table', () => {
  test('has two columns, with white space or a comma between them', () => {
    const rows = [
      ['a.kernel', 'net/a'],
      ['b.bias', undefined],
    ];
    expect(columns('a.kernel net/a\nb.bias -\n')).toEqual(rows);
    expect(columns('a.kernel\tnet/a\r\nb.bias\t-\r\n')).toEqual(rows);
    expect(columns('\uFEFFparameter,tensor\na.kernel,net/a\nb.bias , -')).toEqual(rows);
    expect(
      columns('# names\n\n  parameter   tensor   verdict\n  a.kernel    net/a    ok\n b.bias  -  absent 3x3'),
    ).toEqual(rows);
    expect(columns('"a.kernel", "net/a"\nb.bias,-,more, "and" more')).toEqual(rows);
  });

  test('quotes are those of JSON, and - in them is a name', () => {
    expect(columns('a "x y, #z \\"\\u00e4\\""\nb "-"\n- c\n# d e')).toEqual([
      ['a', 'x y, #z "ä"'],
      ['b', '-'],
    ]);
  });

  test('a heading stands first, or is a row', () => {
    expect(columns('a b\nparameter tensor')).toEqual([
      ['a', 'b'],
      ['parameter', 'tensor'],
    ]);
  });

  test('what is no row is a fault, with its line', () => {
    const { faults, rows } = parseNameMap('t', 'a x\n\nlonely\n"open y\nb,\na z\n');
    expect(faults).toEqual([
      { line: 3, text: 'expected a parameter and a tensor, received "lonely"' },
      { line: 4, text: 'expected a parameter and a tensor, received "\\"open y"' },
      { line: 5, text: 'expected a parameter and a tensor, received "b,"' },
      { line: 6, text: 'a stands in line 1 already' },
    ]);
    expect(rows.map(({ line }) => line)).toEqual([1, 6]);
  });

  test('gives back every name that was written, between whatever separators', () => {
    const name = fc.oneof(
      fc.string({ minLength: 1, unit: 'grapheme' }),
      fc.stringMatching(/^[\w/.:-]{1,40}$/),
      fc.constantFrom(
        '\u001b[2J',
        '\u009b2J',
        '\u007f',
        '-',
        '#',
        '"',
        '\\',
        ' ',
        ',',
        'a b',
        '\t',
        'parameter',
        '\uFEFF',
        '\n',
      ),
    );
    const row = fc.record({
      parameter: fc.stringMatching(/^[a-z]\w*(\.\w+)*$/),
      tensor: fc.option(name, { nil: undefined }),
      between: fc.constantFrom(' ', '   ', '\t', ',', ' , ', ',\t'),
      after: fc.constantFrom('', ' ', '  ok  3x3', ', more', '\tfloat32'),
      noise: fc.constantFrom('', '# a comment\n', '\n\n', '-  left/over\n'),
    });
    const tables = fc.uniqueArray(row, { selector: (each) => each.parameter, maxLength: 8 });
    fc.assert(
      fc.property(tables, fc.constantFrom('\n', '\r\n'), (rows, end) => {
        const written = rows.map(
          ({ parameter, tensor, between, after, noise }) =>
            `${noise}${parameter}${between}${tensor === undefined ? '-' : formatField(tensor)}${after}`,
        );
        const text = ['parameter tensor', ...written].join('\n').replaceAll('\n', end);
        for (const { tensor } of rows) if (tensor !== undefined) expect(formatField(tensor)).not.toMatch(/\p{Cc}/u);
        expect(columns(text)).toEqual(rows.map(({ parameter, tensor }) => [parameter, tensor]));
      }),
    );
  });

  test('nothing that is written in it does more than name', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const { rows, faults } = parseNameMap('t', text);
        const lines = text.split(/\r\n|\n|\r/).length;
        for (const { line } of [...rows, ...faults]) if (line < 1 || line > lines) return false;
        return true;
      }),
    );
  });
});

// ---- files ---------------------------------------------------------------------------------------------------------

/** A file under private names, and the table for it. */
interface Private {
  readonly source: TensorSource;
  readonly rows: readonly NameMapRow[];
  /** What each parameter must be read as. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

/** Laid out as a publisher of the backbone would, by the definition: place by place. */
function privateFile(
  parameters: readonly Parameter[],
  dialect: 'keras' | 'torch',
  nameOf: (i: number) => string,
): Private {
  const tensors: (TensorInfo & { read: () => Float32Array })[] = [];
  const values = new Map<string, Float32Array>();
  const rows = parameters.map((parameter, i): NameMapRow => {
    const own = generateTensor(parameter.path, parameter.shape);
    const [layout] = dialectOf(dialect).layouts(parameter);
    const { shape, view = shape, permutation } = layout!;
    values.set(parameter.path, own);
    const read = () => (permutation === undefined ? own : unmoved(own, view, permutation));
    tensors.push({ name: nameOf(i), dtype: 'float32', shape, read });
    return { line: i + 1, parameter: parameter.path, tensor: nameOf(i) };
  });
  const source: TensorSource = {
    format: 'safetensors',
    path: 'private.safetensors',
    tensors,
    metadata: {},
    read: async (name) => tensors.find((tensor) => tensor.name === name)!.read(),
    close: async () => {},
  };
  return { source, rows, values };
}

/** Numbers in the order of a file's view, whose axes `permutation` moves to give `own`. */
function unmoved(own: Float32Array, view: readonly number[], permutation: readonly number[]): Float32Array {
  const out = new Float32Array(own.length);
  const sizes = permutation.map((axis) => view[axis]!);
  for (let at = 0; at < own.length; at++) {
    const place = new Array<number>(view.length).fill(0);
    let rest = at;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      place[permutation[axis]!] = rest % sizes[axis]!;
      rest = Math.floor(rest / sizes[axis]!);
    }
    out[place.reduce((offset, index, axis) => offset * view[axis]! + index, 0)] = own[at]!;
  }
  return out;
}

function graphOf(name: string, publisher: string) {
  const backbone = findBackbone(name);
  const published = findPublished(backbone, publisher);
  const empty = generatedSource([], 'safetensors');
  return planCanonical(empty, backbone, published);
}

const mapped = (name: string, publisher: string, { source, rows }: Pick<Private, 'source' | 'rows'>): Plan => {
  const { backbone, published } = graphOf(name, publisher);
  return planWeights(source, backbone, published, { map: { path: 'names.txt', rows, faults: [] } });
};

async function expectRead(plan: Plan, { source, values }: Private): Promise<void> {
  expect(faultsOf(plan)).toEqual([]);
  for (const row of plan.rows) {
    const path = row.parameter!.path;
    expect(
      Buffer.from((await readPlanned(source, row)).buffer).equals(Buffer.from(values.get(path)!.buffer)),
      path,
    ).toBe(true);
  }
}

describe('a file with private names', () => {
  test.each([
    ['mobilenet_v1_0.25', 'keras', 'torch'],
    ['mobilenet_v1_0.25', 'slim', 'keras'],
    ['vit_ti16', 'flax', 'torch'],
    ['vit_ti16', 'torch', 'keras'],
  ] as const)('of %s as %s has it, laid out as by %s', async (name, publisher, dialect) => {
    const { parameters } = graphOf(name, publisher).graph;
    const file = privateFile(parameters, dialect, (i) => `net ${i}/w`);
    const plan = mapped(name, publisher, file);
    await expectRead(plan, file);
    const assumed = adaptationsOf(plan, plan.rows, file.source).filter(({ kind }) => kind === 'order_assumed');
    // of a transformer, projections are as high as they are wide; the layers beside them tell which way they lie
    expect(assumed.length > 0).toBe(name.startsWith('vit'));
    for (const { text } of assumed) expect(text).toMatch(/ would read it otherwise$/);
  });

  test('square tensors alone are read as the variant has them, and the report says so', () => {
    const { parameters } = graphOf('vit_ti16', 'flax').graph;
    const square = parameters.filter(({ path }) => path === 'block1.attention.out.kernel');
    const file = privateFile(square, 'torch', () => 'out');
    const plan = mapped('vit_ti16', 'flax', file);
    const row = plan.rows.find(({ parameter }) => parameter!.path === 'block1.attention.out.kernel')!;
    expect(row).toMatchObject({
      verdict: 'ok',
      layout: { shape: [192, 192] },
      ambiguous: ['torch', 'timm'].slice(0, 1),
    });
    expect(row.layout!.permutation).toBeUndefined();
  });

  test('queries, keys and values may be one tensor, or three', () => {
    const fixture = readForwardGolden('vit_ti16', 'torch');
    const published = generatedSource(fixture.tensors, 'torch');
    const backbone = findBackbone('vit_ti16');
    const byName = planWeights(published, backbone, findPublished(backbone, 'torch'));
    const source = { ...published, tensors: published.tensors.map((each) => ({ ...each, name: `my ${each.name}` })) };
    const rows = byName.rows.flatMap(({ parameter, tensor }, i): NameMapRow[] =>
      parameter === undefined ? [] : [{ line: i, parameter: parameter.path, tensor: `my ${tensor!.name}` }],
    );
    const plan = mapped('vit_ti16', 'torch', { source, rows });
    expect(plan.rows.map(({ layout }) => layout)).toEqual(byName.rows.map(({ layout }) => layout));
    expect(faultsOf(plan)).toEqual([]);
    const twice = rows.map((row) => ({
      ...row,
      tensor: row.parameter === 'norm.beta' ? 'my norm.weight' : row.tensor!,
    }));
    expect(() => mapped('vit_ti16', 'torch', { source, rows: twice })).toThrow(
      /my norm\.weight is taken by line \d+ already/,
    );
  });

  test('may have a head', async () => {
    const { parameters } = graphOf('mobilenet_v1_0.25', 'keras').graph;
    const part = (path: string, role: Parameter['role'], ...shape: number[]) => ({
      ...parameters[0]!,
      path,
      role,
      shape,
    });
    const head = [
      part('head.dense1.kernel', 'dense.kernel', 256, 64),
      part('head.dense1.bias', 'bias', 64),
      part('head.logits.kernel', 'dense.kernel', 64, 5),
      part('head.logits.bias', 'bias', 5),
    ];
    const file = privateFile([...parameters, ...head], 'torch', (i) => `p${i}`);
    const plan = mapped('mobilenet_v1_0.25', 'keras', file);
    expect(plan.head).toMatchObject({ hidden: [64], classes: 5 });
    await expectRead(plan, file);
  });

  test('what the table does not list is looked for under published names', () => {
    const source = generatedSource(readForwardGolden('mobilenet_v1_0.25', 'keras').tensors, 'keras-h5');
    const tensors = source.tensors.map((each) => (each.name === 'conv1/kernel' ? { ...each, name: 'first' } : each));
    const row = { line: 1, parameter: 'stem.conv.kernel', tensor: 'first' };
    const file = { source: { ...source, tensors }, rows: [row] };
    expect(faultsOf(mapped('mobilenet_v1_0.25', 'keras', file))).toEqual([]);
    const none = { ...file, rows: [row, { line: 2, parameter: 'stem.norm.beta', tensor: undefined }] };
    expect(faultsOf(mapped('mobilenet_v1_0.25', 'keras', none))).toEqual([
      'absent: stem.norm.beta [8], looked for nothing, as names.txt says',
      'extra: conv1_bn/beta [8] belongs to no parameter',
    ]);
  });

  test('every fault of the table is listed, in the order of its lines', () => {
    const source = generatedSource(readForwardGolden('mobilenet_v1_0.25', 'keras').tensors, 'keras-h5');
    const text =
      'stem.conv.kernel conv1/kernel\nstem.conv.kernal conv1/kernel\nstem.norm.gamma conv1_bn/gama\nalone\n' +
      'block1.depthwise.norm.beta conv1/kernel\nstem.conv.kernel -\n';
    const { backbone, published } = graphOf('mobilenet_v1_0.25', 'keras');
    const plan = () => planWeights(source, backbone, published, { map: parseNameMap('names.txt', text) });
    expect(plan).toThrow(WeightsError);
    expect(plan).toThrow(
      [
        'names.txt: 6 faults in the table of names',
        '  - line 2: the network has no parameter stem.conv.kernal',
        '  - line 2: conv1/kernel is taken by line 1 already',
        '  - line 3: the file has no tensor conv1_bn/gama',
        '  - line 4: expected a parameter and a tensor, received "alone"',
        '  - line 5: conv1/kernel is taken by line 1 already',
        '  - line 6: stem.conv.kernel stands in line 1 already',
      ].join('\n'),
    );
  });
});
