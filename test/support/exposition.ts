/**
 * A strict reader of Prometheus' text format 0.0.4, written from its description: what Prometheus would refuse, or
 * would read otherwise than it was meant, throws.
 */

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Family {
  name: string;
  type: 'counter' | 'gauge' | 'histogram' | 'summary' | 'untyped';
  help: string | null;
  samples: Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*/;
/** What Go's ParseFloat takes, which knows infinities and NaN in any case. */
const NUMBER = /^[+-]?(\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?|inf(inity)?|nan)$/i;
const TYPES: readonly string[] = ['counter', 'gauge', 'histogram', 'summary', 'untyped'];

/** @throws {Error} naming the line */
export function parseExposition(text: string): Map<string, Family> {
  if (text !== '' && !text.endsWith('\n')) throw new Error('the last line does not end');
  const families = new Map<string, Family>();
  const closed = new Set<string>();
  const seen = new Set<string>();
  let current: Family | null = null;
  const enter = (name: string): Family => {
    if (current?.name === name) return current;
    if (current !== null) closed.add(current.name);
    if (closed.has(name)) throw new Error(`the lines of ${name} do not stand together`);
    current = { name, type: 'untyped', help: null, samples: [] };
    families.set(name, current);
    return current;
  };
  text.split('\n').forEach((line, index) => {
    try {
      if (line === '') return;
      if (line.startsWith('#')) {
        const comment = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line);
        if (comment === null) return;
        const [, keyword, name = '', rest = ''] = comment;
        if (NAME.exec(name)?.[0] !== name) throw new Error(`${name} is no name of a metric`);
        const family = enter(name);
        if (keyword === 'HELP') {
          if (family.help !== null) throw new Error('a second HELP');
          family.help = unescaped(rest, false);
        } else {
          if (family.samples.length > 0) throw new Error('TYPE after a sample');
          if (family.type !== 'untyped') throw new Error('a second TYPE');
          if (!TYPES.includes(rest)) throw new Error(`${rest} is no type`);
          family.type = rest as Family['type'];
        }
        return;
      }
      const sample = parseSample(line);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (seen.has(key)) throw new Error('the same sample twice');
      seen.add(key);
      const belongs =
        current !== null && suffixesOf(current).some((s) => `${current?.name}${s}` === sample.name);
      const family = belongs ? (current as unknown as Family) : enter(sample.name);
      family.samples.push(sample);
    } catch (error) {
      throw new Error(`line ${index + 1}: ${(error as Error).message}: ${line}`, { cause: error });
    }
  });
  for (const family of families.values()) checkFamily(family);
  return families;
}

/** The value of the one sample that has these labels, others aside; null if there is none. */
export function sampleValue(
  families: Map<string, Family>,
  name: string,
  labels: Record<string, string> = {},
): number | null {
  const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''));
  const found = (family?.samples ?? []).filter(
    (sample) =>
      sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
  );
  if (found.length > 1) throw new Error(`${name} has ${found.length} samples with ${JSON.stringify(labels)}`);
  return found[0]?.value ?? null;
}

function parseSample(line: string): Sample {
  const name = NAME.exec(line)?.[0];
  if (name === undefined) throw new Error('no name of a metric');
  let rest = line.slice(name.length);
  const labels: Record<string, string> = {};
  if (rest.startsWith('{')) {
    rest = rest.slice(1);
    while (!rest.startsWith('}')) {
      const label = LABEL_NAME.exec(rest)?.[0];
      if (label === undefined) throw new Error('no name of a label');
      if (label in labels) throw new Error(`the label ${label} twice`);
      const quoted = /^="((?:[^"\\\n]|\\.)*)"/.exec(rest.slice(label.length));
      if (quoted === null) throw new Error(`the value of ${label} is not quoted`);
      labels[label] = unescaped(quoted[1] as string, true);
      rest = rest.slice(label.length + quoted[0].length);
      if (rest.startsWith(',')) rest = rest.slice(1);
      else if (!rest.startsWith('}')) throw new Error('labels are not separated');
    }
    rest = rest.slice(1);
  }
  const [number = '', ...more] = rest.trim().split(/[ \t]+/);
  if (!NUMBER.test(number) || more.length > 0) throw new Error(`"${rest}" is no number`);
  const value = Number(number.replace(/inf(inity)?/i, 'Infinity'));
  return { name, labels, value };
}

function unescaped(text: string, quote: boolean): string {
  return text.replaceAll(/\\(.?)/g, (_, letter: string) => {
    if (letter === '\\') return '\\';
    if (letter === 'n') return '\n';
    if (letter === '"' && quote) return '"';
    throw new Error(`\\${letter} is no escape`);
  });
}

function suffixesOf({ type }: Family): string[] {
  if (type === 'histogram') return ['_bucket', '_sum', '_count'];
  return type === 'summary' ? ['', '_sum', '_count'] : [''];
}

function checkFamily({ name, type, samples }: Family): void {
  if (type === 'counter') {
    for (const { value } of samples) {
      if (!(value >= 0)) throw new Error(`the counter ${name} is ${value}`);
    }
  }
  if (type !== 'histogram') return;
  const series = new Map<string, { buckets: [number, number][]; sum?: number; count?: number }>();
  for (const { name: sampleName, labels, value } of samples) {
    const { le, ...others } = labels;
    const key = JSON.stringify(Object.entries(others).sort());
    const one = series.get(key) ?? { buckets: [] };
    series.set(key, one);
    if (sampleName.endsWith('_sum')) one.sum = value;
    else if (sampleName.endsWith('_count')) one.count = value;
    else if (le === undefined) throw new Error(`a bucket of ${name} has no le`);
    else one.buckets.push([Number(le.replace('Inf', 'Infinity')), value]);
  }
  for (const { buckets, sum, count } of series.values()) {
    if (sum === undefined || count === undefined) throw new Error(`${name} has no sum or no count`);
    buckets.forEach(([le, value], i) => {
      const [lastLe, lastValue] = buckets[i - 1] ?? [Number.NEGATIVE_INFINITY, 0];
      if (!(le > lastLe) || value < lastValue) throw new Error(`the buckets of ${name} do not grow`);
    });
    const last = buckets.at(-1);
    if (last?.[0] !== Number.POSITIVE_INFINITY || last[1] !== count)
      throw new Error(`the last bucket of ${name} is not its count`);
  }
}
