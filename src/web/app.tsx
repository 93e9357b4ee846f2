import { useEffect, useRef, useState } from 'preact/hooks';
import { getMe, Refusal, ServiceError } from './api.js';
import { outage, returns } from './connection.js';
import { notice } from './notice.js';
import { CachesPage } from './pages/caches-page.js';
import { Help } from './pages/help.js';
import { JobPage } from './pages/job-page.js';
import { JobsPage } from './pages/jobs-page.js';
import { NodesPage } from './pages/nodes-page.js';
import { SignIn } from './pages/sign-in.js';
import { Callout, Key } from './parts/basics.js';
import { href, route } from './route.js';
import { hasToken, me, signIn, signInWanted, signOut } from './session.js';
import { nextTheme, theme } from './theme.js';

export function App() {
  const [helping, setHelping] = useState(false);
  const problem = useMe();
  useFocus();
  return (
    <>
      <button type="button" class="skip" onClick={focusMain}>
        Skip to the content
      </button>
      <header>
        <a class="brand" href={href(['jobs'])}>
          writeback<span class="long">-broker</span>
        </a>
        <nav aria-label="Main">
          <Place name="Jobs" path="jobs" />
          <Place name="Caches" path="caches" />
          <Place name="Nodes" path="nodes" />
        </nav>
        <div class="tools">
          {me.value && hasToken() && (
            <button
              type="button"
              class="quiet"
              onClick={() => signOut('You have signed out.')}
              title="Forget the token"
            >
              {me.value.name} · sign out
            </button>
          )}
          <button
            type="button"
            class="quiet"
            data-key="t"
            onClick={nextTheme}
            title="Theme: as the system, light, dark"
          >
            <span class="hidden-text">Theme: </span>
            <span aria-hidden="true">◐</span>{' '}
            <span class="long">{theme.value === 'system' ? 'auto' : theme.value}</span>
          </button>
          <button type="button" class="quiet for-keys" data-key="?" onClick={() => setHelping(true)}>
            Keys <Key name="?" />
          </button>
          <a href="/docs">API</a>
        </div>
      </header>
      <div role="alert">
        {outage.value !== null && (
          <p class="banner">{outage.value} What is shown is what was known last. Trying again …</p>
        )}
      </div>
      {problem !== null ? (
        <main id="main">
          <Callout tone="bad">{problem}</Callout>
        </main>
      ) : signInWanted.value !== null ? (
        <SignIn onToken={signIn} />
      ) : (
        me.value !== null && <CurrentPage />
      )}
      <div class="notice" role="status">
        {notice.value}
      </div>
      {helping && <Help onClose={() => setHelping(false)} />}
    </>
  );
}

/** Asks who looks, at first and with each new token. @returns why nobody may look */
function useMe(): string | null {
  const [problem, setProblem] = useState<string | null>(null);
  const wanted = signInWanted.value;
  const returned = returns.value;
  // Asked again when the service is back.
  useEffect(() => {
    if (me.value !== null || wanted !== null) return;
    getMe().then(
      (answer) => {
        me.value = answer;
        setProblem(null);
      },
      (error: unknown) => {
        // 401 has led to the form already; a principal that is not known here may have another token.
        if (error instanceof Refusal && error.status === 403) signOut(error.message);
        else if (error instanceof Refusal && error.status !== 401) setProblem(error.message);
        else if (!(error instanceof ServiceError)) throw error;
      },
    );
  }, [wanted, returned]);
  return problem;
}

function CurrentPage() {
  const [section, id] = route.value.path;
  if (section === 'caches') return <CachesPage />;
  if (section === 'nodes') return <NodesPage />;
  if (section === 'jobs' && id !== undefined) return <JobPage key={id} id={id} />;
  if (section === undefined || section === 'jobs') return <JobsPage />;
  return (
    <main id="main">
      <h1 tabIndex={-1}>There is nothing here</h1>
      <p>
        <a href={href(['jobs'])}>To the jobs</a>
      </p>
    </main>
  );
}

function Place({ name, path }: { name: string; path: string }) {
  const [section = 'jobs'] = route.value.path;
  return (
    <a href={href([path])} aria-current={section === path ? 'page' : undefined}>
      {name}
    </a>
  );
}

/** On another page the focus is at its heading, as after loading a page; and the title of the tab says where one is. */
function useFocus(): void {
  const path = route.value.path.join('/');
  const first = useRef(true);
  useEffect(() => {
    const heading = document.querySelector<HTMLElement>('h1');
    document.title = `${heading?.textContent ?? 'Jobs'} · writeback-broker`;
    if (!first.current) heading?.focus();
    first.current = false;
  }, [path]);
}

function focusMain(): void {
  document.querySelector<HTMLElement>('h1')?.focus();
}
