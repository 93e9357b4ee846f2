import type { Counter, Histogram, Registry } from 'prom-client';

/**
 * What is counted for every call and every file: prom-client looks a series up by its labels each time, which cost a
 * fifth of a busy worker's processor time. Here the caller keeps the series, and counting is an addition.
 */

/** One series of a histogram. */
export class Series {
  readonly labels: Readonly<Record<string, string>>;
  readonly #bounds: readonly number[];
  /** By bucket, not cumulated; the last is what is above all bounds. */
  readonly #counts: number[];
  #sum = 0;

  constructor(labels: Readonly<Record<string, string>>, bounds: readonly number[]) {
    this.labels = labels;
    this.#bounds = bounds;
    this.#counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > (this.#bounds[bucket] as number)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sum += value;
  }

  /** As the text format wants it: cumulated buckets, sum and count. */
  samples(name: string): { metricName: string; labels: Record<string, string | number>; value: number }[] {
    let count = 0;
    const buckets = this.#counts.map((inBucket, i) => {
      count += inBucket;
      const labels = { ...this.labels, le: this.#bounds[i] ?? '+Inf' };
      return { metricName: `${name}_bucket`, labels, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: this.labels, value: this.#sum },
      { metricName: `${name}_count`, labels: this.labels, value: count },
    ];
  }
}

/** A histogram whose series are kept by those who observe. */
export class TallyHistogram {
  readonly #name: string;
  readonly #bounds: readonly number[];
  readonly #series: Series[] = [];

  constructor(options: { name: string; help: string; buckets: readonly number[]; registry: Registry }) {
    const { name, help, buckets, registry } = options;
    this.#name = name;
    this.#bounds = buckets;
    const metric = {
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      get: async () => ({
        name,
        help,
        type: 'histogram',
        aggregator: 'sum',
        values: this.#series.flatMap((series) => series.samples(this.#name)),
      }),
    };
    // A registry asks of a metric no more than this.
    registry.registerMetric(metric as unknown as Histogram);
  }

  /** To be asked once per combination of labels. */
  series(labels: Readonly<Record<string, string>>): Series {
    const series = new Series(labels, this.#bounds);
    this.#series.push(series);
    return series;
  }
}

/** Additions to one series of a counter that it is not told yet. */
export class Tally<L extends string> {
  readonly #counter: Counter<L>;
  readonly #labels: Record<L, string>;
  #count = 0;

  constructor(counter: Counter<L>, labels: Record<L, string>) {
    this.#counter = counter;
    this.#labels = labels;
  }

  add(): void {
    this.#count++;
  }

  /** Tells the counter. */
  settle(): void {
    if (this.#count > 0) this.#counter.inc(this.#labels, this.#count);
    this.#count = 0;
  }
}
