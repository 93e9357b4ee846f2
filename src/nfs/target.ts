import type { NfsError } from './errors.js';

/** Which server, and as whom. */
export interface NfsTarget {
  /** Mount addresses of one cache: names, IPv4, IPv6. Calls are spread over at most four of them at a time. */
  addresses: readonly string[];
  /** Fixed `mount` and `nfs` ports make the port mapper unnecessary; null: ask it. */
  ports: { portmap: number; mount: number | null; nfs: number | null };
  /** AUTH_SYS identity; the server sees at most 16 of `gids`. */
  credential: { uid: number; gid: number; gids: readonly number[] };
  /** The name that AUTH_SYS carries; nothing looks it up. */
  machineName: string;
  /** Call from a source port 665 to 1023 (needs root or CAP_NET_BIND_SERVICE). */
  privilegedPort: boolean;
  /** How long one try of a call may stay without a reply. */
  callTimeoutMs: number;
}

/** How long a caller waits. */
export interface CallLimit {
  /** In Date.now() milliseconds; afterwards the call fails with DEADLINE. */
  deadlineAt: number;
  signal?: AbortSignal | undefined;
  /**
   * The reply may rightly take long (a synchronous flush): the call is not tried again while the server answers
   * NULL calls beside it, and it takes no place in the window, so the caller has to bound how many there are.
   */
  patient?: boolean;
}

/** What happens beside the calls. Handlers must not throw. */
export interface NfsEvents {
  /** No address can be reached any more; calls wait for their deadline. Once per outage. */
  down?(error: NfsError): void;
  /** The first address answers again, after {@link NfsEvents.down}. */
  up?(address: string): void;
  /**
   * A COMMIT brought a write verifier that this address never gave before: the server restarted, or gave up
   * data that it had not yet made stable (RFC 1813 §3.3.21).
   */
  serverRestarted?(address: string): void;
  warning?(message: string): void;
  /** Each reply that is no refusal, with the time since its call was last sent; `procedure` is like `NFS3 COMMIT`. */
  replied?(procedure: string, roundTripMs: number): void;
}
