import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { CacheHistory } from '../../model/job.js';
import { bytesText, countText, filesText } from '../../model/text.js';

const HEIGHT = 132;
const AXIS = { left: 64, right: 8, top: 10, bottom: 22 };
/** Labels of the time axis, in minutes ago. */
const MARKS = [60, 45, 30, 15];
const FEW_MARKS = [60, 30];
/** Pixels below which the labels would meet. */
const NARROW = 480;

type Minute = CacheHistory['items'][number];
export type Measure = 'files' | 'bytes';

/** What a cache did in the last hour, a bar per minute. The newest minute is still running. */
export function HistoryChart({
  items,
  measure,
  cache,
}: {
  items: Minute[];
  measure: Measure;
  cache: string;
}) {
  const [frame, width] = useWidth();
  const [chosen, setChosen] = useState<number | null>(null);
  const amountOf = (item: Minute): number =>
    measure === 'bytes' ? item.bytes : item.filesSucceeded + item.filesFailed;
  const show = measure === 'bytes' ? bytesText : (value: number) => countText(value);
  const top = ceiling(Math.max(...items.map(amountOf), 1), measure);
  const inner = Math.max(0, width - AXIS.left - AXIS.right);
  const step = inner / items.length;
  const base = HEIGHT - AXIS.bottom;
  const high = (value: number): number => (value / top) * (base - AXIS.top);
  const total = sumOf(items, amountOf);
  const shown = chosen === null ? undefined : items[chosen];

  const choose = (event: PointerEvent): void => {
    const at = event.clientX - (event.currentTarget as Element).getBoundingClientRect().left - AXIS.left;
    const index = Math.floor(at / step);
    setChosen(index >= 0 && index < items.length ? index : null);
  };
  const move = (event: KeyboardEvent): void => {
    const by = event.key === 'ArrowLeft' ? -1 : event.key === 'ArrowRight' ? 1 : 0;
    if (by === 0) return;
    event.preventDefault();
    setChosen((at) => Math.min(items.length - 1, Math.max(0, (at ?? items.length) + by)));
  };

  return (
    <figure class="chart" ref={frame}>
      <div
        class="plot"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: arrow keys go through the minutes
        tabIndex={0}
        role="img"
        onKeyDown={move}
        onBlur={() => setChosen(null)}
        aria-label={`Throughput of ${cache} in the last hour: ${measure === 'bytes' ? bytesText(total) : filesText(total)}. Arrow keys go through the minutes.`}
      >
        <svg
          width={width}
          height={HEIGHT}
          aria-hidden="true"
          onPointerMove={choose}
          onPointerLeave={() => setChosen(null)}
        >
          {[1, 0.5, 0].map((part) => (
            <g key={part}>
              <line
                class="grid"
                x1={AXIS.left}
                x2={width - AXIS.right}
                y1={base - high(top * part)}
                y2={base - high(top * part)}
              />
              <text class="tick" x={AXIS.left - 8} y={base - high(top * part) + 4} text-anchor="end">
                {show(top * part)}
              </text>
            </g>
          ))}
          {items.map((item, i) => {
            const failed = measure === 'files' ? high(item.filesFailed) : 0;
            const good = high(amountOf(item)) - failed;
            const x = AXIS.left + i * step + 0.5;
            return (
              <g key={item.at} class={chosen === i ? 'minute chosen' : 'minute'}>
                <rect
                  class="minute-good"
                  x={x}
                  width={Math.max(1, step - 1.5)}
                  y={base - good}
                  height={good}
                />
                <rect
                  class="minute-bad"
                  x={x}
                  width={Math.max(1, step - 1.5)}
                  y={base - good - failed}
                  height={failed}
                />
              </g>
            );
          })}
          {(width < NARROW ? FEW_MARKS : MARKS).map((minutes) => (
            <text key={minutes} class="tick" x={AXIS.left + (1 - minutes / 60) * inner} y={HEIGHT - 6}>
              {minutes} min ago
            </text>
          ))}
          <text class="tick" x={width - AXIS.right} y={HEIGHT - 6} text-anchor="end">
            now
          </text>
        </svg>
      </div>
      <figcaption>
        <span aria-live={chosen === null ? 'off' : 'polite'}>
          {shown === undefined ? sumText(items, measure) : minuteText(shown, measure)}
        </span>
        <span class="chart-legend">
          <span class="dot active" aria-hidden="true" /> {measure === 'bytes' ? 'bytes' : 'files'} per minute
          {measure === 'files' && failedIn(items) > 0 && (
            <>
              {' '}
              <span class="dot failed" aria-hidden="true" /> of them failed
            </>
          )}
        </span>
      </figcaption>
    </figure>
  );
}

function sumText(items: Minute[], measure: Measure): string {
  if (measure === 'bytes') return `${bytesText(sumOf(items, ({ bytes }) => bytes))} in the last hour`;
  const failed = failedIn(items);
  const good = sumOf(items, ({ filesSucceeded }) => filesSucceeded);
  return `${filesText(good)} done${failed > 0 ? `, ${countText(failed)} failed` : ''} in the last hour`;
}

function failedIn(items: Minute[]): number {
  return sumOf(items, ({ filesFailed }) => filesFailed);
}

function sumOf(items: Minute[], of: (item: Minute) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}

function minuteText(minute: Minute, measure: Measure): string {
  const at = new Date(minute.at).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit' });
  if (measure === 'bytes') return `${at}: ${bytesText(minute.bytes)}`;
  const failed = minute.filesFailed > 0 ? `, ${countText(minute.filesFailed)} failed` : '';
  return `${at}: ${filesText(minute.filesSucceeded)} done${failed}`;
}

/** The next round number with a whole half; of bytes a power of two. */
function ceiling(value: number, measure: Measure): number {
  if (measure === 'bytes') return 2 ** Math.ceil(Math.log2(Math.max(value, 1024)));
  const power = 10 ** Math.floor(Math.log10(value));
  return ([2, 4, 10].find((factor) => factor * power >= value) ?? 10) * power;
}

function useWidth() {
  const element = useRef<HTMLElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const frame = element.current;
    if (frame === null) return;
    setWidth(frame.clientWidth);
    const observer = new ResizeObserver(() => setWidth(frame.clientWidth));
    observer.observe(frame);
    return () => observer.disconnect();
  }, []);
  return [element, width] as const;
}
