import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

/** A headless Chromium, driven over the DevTools protocol through a pipe: no port, no library. */

export interface Page {
  goto(url: string): Promise<void>;
  /** Evaluates an expression in the page; a promise is awaited. */
  evaluate<T>(expression: string): Promise<T>;
  /** Waits until the expression is truthy, and returns its value (true for an element). */
  until<T>(expression: string): Promise<T>;
  /** Presses keys one after the other, as a person does: `Tab`, `Shift+Tab`, `Enter`, `a`. */
  press(...keys: string[]): Promise<void>;
  /** Types into what has the focus. */
  type(text: string): Promise<void>;
  /** What the page is shown on. */
  look(screen: Screen): Promise<void>;
  /** A PNG of what is seen. */
  screenshot(): Promise<Buffer>;
  /** Errors of the page: exceptions, refused resources, violations of its content security policy. */
  readonly errors: string[];
}

export interface Screen {
  width: number;
  height: number;
  colors: 'light' | 'dark';
}

export interface Chromium {
  page: Page;
  close(): Promise<void>;
}

interface Message {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

const WAIT_MS = 60_000;
/** Virtual key codes of keys that type nothing. */
const CODES: Record<string, number> = {
  Tab: 9,
  Enter: 13,
  Escape: 27,
  ArrowLeft: 37,
  ArrowRight: 39,
};

/** Path of an installed Chromium, or null. */
export function findChromium(): string | null {
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const path of folders.flatMap((folder) => names.map((name) => join(folder, name)))) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
  return null;
}

export async function startChromium(program: string): Promise<Chromium> {
  const dir = await mkdtemp(join(tmpdir(), 'writeback-chromium-'));
  const flags = [
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--no-first-run',
    // It looks at one page of ours, and has nothing to ask of the network.
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-quic',
  ];
  const args = [...flags, '--remote-debugging-pipe', `--user-data-dir=${dir}`, 'about:blank'];
  // A group of its own: Chromium has many processes, and all of them have to go.
  const child = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    detached: true,
    // Killed, it leaves its temporary files behind: they go with the folder.
    env: { ...process.env, TMPDIR: dir },
  });
  const close = async (): Promise<void> => {
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    if (child.pid !== undefined && child.exitCode === null) {
      process.kill(-child.pid, 'SIGKILL');
      await gone;
    }
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    return { page: await openPage(child), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openPage(child: ChildProcess): Promise<Page> {
  const input = child.stdio[3] as Writable;
  const output = child.stdio[4] as Readable;
  const waiting = new Map<number, (message: Message) => void>();
  const errors: string[] = [];
  let lastId = 0;
  let rest = '';
  input.on('error', () => {});
  child.once('error', (error) => {
    for (const answer of waiting.values()) answer({ error: { message: error.message } });
  });
  output.setEncoding('utf8').on('data', (text: string) => {
    const messages = (rest + text).split('\0');
    rest = messages.pop() ?? '';
    for (const one of messages) receive(JSON.parse(one) as Message);
  });

  function receive({ id, method, params, ...answer }: Message): void {
    if (id !== undefined) {
      waiting.get(id)?.(answer);
      waiting.delete(id);
    } else if (method === 'Log.entryAdded') {
      const entry = params?.entry as { level: string; text: string; url?: string };
      // A refusal that the test asked for is shown as a network error.
      if (entry.level === 'error' && !/status of [45]\d\d/.test(entry.text))
        errors.push(`${entry.text} ${entry.url ?? ''}`);
    } else if (method === 'Runtime.exceptionThrown') {
      errors.push(JSON.stringify(params?.exceptionDetails));
    }
  }

  async function send(
    method: string,
    params: object = {},
    sessionId?: string,
  ): Promise<Record<string, unknown>> {
    const id = ++lastId;
    let timer: NodeJS.Timeout | undefined;
    const answer = await new Promise<Message>((resolve, reject) => {
      waiting.set(id, resolve);
      timer = setTimeout(() => reject(new Error(`Chromium does not answer ${method}`)), WAIT_MS);
      input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
    clearTimeout(timer);
    if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
    return answer.result ?? {};
  }

  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = (await send('Target.attachToTarget', { targetId, flatten: true })) as {
    sessionId: string;
  };
  for (const domain of ['Page', 'Runtime', 'Log']) await send(`${domain}.enable`, {}, sessionId);

  async function evaluate<T>(expression: string): Promise<T> {
    const parameters = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await send('Runtime.evaluate', parameters, sessionId);
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: T }).value;
  }

  return {
    errors,
    evaluate,
    async goto(url) {
      await send('Page.navigate', { url }, sessionId);
    },
    async press(...keys) {
      for (const name of keys) {
        const [key = '', modifier] = name.split('+').reverse();
        const text = key.length === 1 ? key : key === 'Enter' ? '\r' : undefined;
        const event = {
          key,
          code: CODES[key] ? key : undefined,
          windowsVirtualKeyCode: CODES[key] ?? key.toUpperCase().charCodeAt(0),
          modifiers: modifier === 'Shift' ? 8 : 0,
        };
        await send('Input.dispatchKeyEvent', { type: 'keyDown', ...event, text }, sessionId);
        await send('Input.dispatchKeyEvent', { type: 'keyUp', ...event }, sessionId);
      }
    },
    async type(text) {
      await send('Input.insertText', { text }, sessionId);
    },
    async look({ width, height, colors }) {
      const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 500 };
      await send('Emulation.setDeviceMetricsOverride', metrics, sessionId);
      await send('Emulation.setTouchEmulationEnabled', { enabled: metrics.mobile }, sessionId);
      const features = [{ name: 'prefers-color-scheme', value: colors }];
      await send('Emulation.setEmulatedMedia', { features }, sessionId);
    },
    async screenshot() {
      const { data } = await send('Page.captureScreenshot', { format: 'png' }, sessionId);
      return Buffer.from(data as string, 'base64');
    },
    async until<T>(expression: string): Promise<T> {
      const deadline = Date.now() + WAIT_MS;
      for (;;) {
        // An element of the page cannot be sent; that there is one is enough.
        const value = await evaluate<T>(`((it) => it instanceof Node || it)(${expression})`);
        if (value) return value;
        if (Date.now() > deadline) throw new Error(`never true in the page: ${expression}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
  };
}
