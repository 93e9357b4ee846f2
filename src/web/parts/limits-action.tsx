import { useState } from 'preact/hooks';
import type { Cache } from '../../model/job.js';
import { countText } from '../../model/text.js';
import { limitCache } from '../api.js';
import { say } from '../notice.js';
import { may } from '../session.js';
import { ConfirmDialog } from './dialog.js';

interface LimitsProps {
  cache: Cache;
  onChanged: (cache: Cache) => void;
}

/** Changes what a cache bears, or goes back to its configuration. For whom that is not, there is nothing. */
export function LimitsAction(props: LimitsProps) {
  const [asking, setAsking] = useState(false);
  if (!may('admin')) return null;
  return (
    <>
      <button type="button" onClick={() => setAsking(true)}>
        Limits<span class="hidden-text"> of {props.cache.name}</span>
      </button>
      {asking && <LimitsDialog {...props} onClose={() => setAsking(false)} />}
    </>
  );
}

function LimitsDialog({ cache, onChanged, onClose }: LimitsProps & { onClose: () => void }) {
  const { name, limits, limitsConfigured } = cache;
  const [inFlight, setInFlight] = useState(String(limits.inFlight));
  const [perSecond, setPerSecond] = useState(String(limits.filesPerSecond ?? ''));
  const change = async (wanted: Cache['limits'] | null): Promise<void> => {
    const changed = await limitCache(name, wanted);
    onChanged(changed);
    say(`The cache ${name} gets ${limitsText(changed.limits)} from now on.`);
  };
  return (
    <ConfirmDialog
      title={`Limits of ${name}`}
      action="Change them"
      instead={
        areSame(limits, limitsConfigured)
          ? undefined
          : { action: 'Back to the configuration', onConfirm: () => change(null) }
      }
      onClose={onClose}
      onConfirm={() =>
        change({
          inFlight: Number(inFlight),
          filesPerSecond: perSecond === '' ? null : Number(perSecond),
        })
      }
    >
      <p>
        In force in every worker within two seconds, and until they are changed again, also over restarts.
        Flushes under way go on. Configured: {limitsText(limitsConfigured)}.
      </p>
      <label>
        Flushes outstanding at a time, over all workers
        <input
          type="number"
          required
          min={1}
          max={65_536}
          step={1}
          value={inFlight}
          onInput={(event) => setInFlight(event.currentTarget.value)}
        />
      </label>
      <label>
        Flushes begun per second, over all workers; empty: any number
        <input
          type="number"
          min={0.001}
          max={1e9}
          step="any"
          placeholder="any number"
          value={perSecond}
          onInput={(event) => setPerSecond(event.currentTarget.value)}
        />
      </label>
    </ConfirmDialog>
  );
}

/** `256 flushes at a time, 200.5 per second`: as it was set, not rounded. */
export function limitsText({ inFlight, filesPerSecond }: Cache['limits']): string {
  const begun = filesPerSecond?.toLocaleString('en-US', { maximumFractionDigits: 3 }) ?? 'any number';
  return `${countText(inFlight)} ${inFlight === 1 ? 'flush' : 'flushes'} at a time, ${begun} per second`;
}

export function areSame(one: Cache['limits'], other: Cache['limits']): boolean {
  return one.inFlight === other.inFlight && one.filesPerSecond === other.filesPerSecond;
}
