import { XdrError, XdrReader, XdrWriter } from './xdr.js';

/** ONC RPC version 2 (RFC 5531): the headers of calls and replies, AUTH_NONE and AUTH_SYS. */

export const RPC_VERSION = 2;
export const CALL = 0;
export const REPLY = 1;

export const MSG_ACCEPTED = 0;
export const MSG_DENIED = 1;

/** accept_stat */
export const SUCCESS = 0;
export const PROG_UNAVAIL = 1;
export const PROG_MISMATCH = 2;
export const PROC_UNAVAIL = 3;
export const GARBAGE_ARGS = 4;
export const SYSTEM_ERR = 5;

/** reject_stat */
export const RPC_MISMATCH = 0;
export const AUTH_ERROR = 1;

export const AUTH_NONE = 0;
export const AUTH_SYS = 1;

/** auth_stat → name (RFC 5531 §9 and §14.1). */
export const AUTH_STAT: Readonly<Record<number, string>> = {
  0: 'AUTH_OK',
  1: 'AUTH_BADCRED',
  2: 'AUTH_REJECTEDCRED',
  3: 'AUTH_BADVERF',
  4: 'AUTH_REJECTEDVERF',
  5: 'AUTH_TOOWEAK',
  6: 'AUTH_INVALIDRESP',
  7: 'AUTH_FAILED',
  8: 'AUTH_KERB_GENERIC',
  9: 'AUTH_TIMEEXPIRE',
  10: 'AUTH_TKT_FILE',
  11: 'AUTH_DECODE',
  12: 'AUTH_NET_ADDR',
  13: 'RPCSEC_GSS_CREDPROBLEM',
  14: 'RPCSEC_GSS_CTXPROBLEM',
};

/** Names of auth_flavor numbers as they come in MOUNT3's list (RFC 2623 §2.2 for the pseudo flavours). */
export const AUTH_FLAVOR: Readonly<Record<number, string>> = {
  0: 'none',
  1: 'sys',
  2: 'short',
  3: 'dh',
  6: 'rpcsec_gss',
  390003: 'krb5',
  390004: 'krb5i',
  390005: 'krb5p',
};

/** Largest body of a credential or verifier (RFC 5531 §8.2). */
export const MAX_AUTH_BYTES = 400;
export const MAX_MACHINE_NAME_BYTES = 255;
export const MAX_GIDS = 16;

/** One remote procedure: how its arguments are written and its results read. Pure data and functions. */
export interface Procedure<Args, Result> {
  readonly program: number;
  readonly version: number;
  readonly number: number;
  /** As people know it, e.g. `NFS3 LOOKUP`. */
  readonly name: string;
  encode(writer: XdrWriter, args: Args): void;
  /** Reads the results to their end; throws {@link XdrError} for anything that is not their definition. */
  decode(reader: XdrReader): Result;
}

/** AUTH_SYS parameters (RFC 5531 appendix A). */
export interface AuthSys {
  stamp: number;
  machineName: string;
  uid: number;
  gid: number;
  /** Only the first 16 fit. */
  gids: readonly number[];
}

/** The opaque_auth pair of a call, credential and verifier, ready to be copied. */
export function encodeAuth(auth: AuthSys | null): Buffer {
  const writer = new XdrWriter(128);
  if (auth === null) {
    writer.uint32(AUTH_NONE);
    writer.uint32(0);
  } else {
    const body = new XdrWriter(128);
    body.uint32(auth.stamp);
    body.opaque(truncateUtf8(auth.machineName, MAX_MACHINE_NAME_BYTES));
    body.uint32(auth.uid);
    body.uint32(auth.gid);
    const gids = auth.gids.slice(0, MAX_GIDS);
    body.uint32(gids.length);
    for (const gid of gids) body.uint32(gid);
    writer.uint32(AUTH_SYS);
    writer.opaque(body.take());
  }
  writer.uint32(AUTH_NONE);
  writer.uint32(0);
  return writer.take();
}

function truncateUtf8(text: string, maxBytes: number): Buffer {
  let bytes = Buffer.from(text, 'utf8');
  for (let end = text.length; bytes.length > maxBytes; end--) bytes = Buffer.from(text.slice(0, end), 'utf8');
  return bytes;
}

/** The header of a call, with `xid` as its first word; `auth` comes from {@link encodeAuth}. */
export function writeCallHeader(
  writer: XdrWriter,
  xid: number,
  procedure: { program: number; version: number; number: number },
  auth: Uint8Array,
): void {
  writer.uint32(xid);
  writer.uint32(CALL);
  writer.uint32(RPC_VERSION);
  writer.uint32(procedure.program);
  writer.uint32(procedure.version);
  writer.uint32(procedure.number);
  writer.raw(auth);
}

/** A call as a server sees it; the reader stands at the arguments afterwards. */
export interface CallHeader {
  xid: number;
  rpcVersion: number;
  program: number;
  version: number;
  procedure: number;
  authFlavor: number;
  authBody: Buffer;
}

/** @throws {XdrError} if it is not a call */
export function readCallHeader(reader: XdrReader): CallHeader {
  const xid = reader.uint32();
  const type = reader.uint32();
  if (type !== CALL) throw new XdrError(`message type ${type} is not a call`, reader.offset - 4);
  const rpcVersion = reader.uint32();
  const program = reader.uint32();
  const version = reader.uint32();
  const procedure = reader.uint32();
  const authFlavor = reader.uint32();
  const authBody = reader.opaque(MAX_AUTH_BYTES);
  reader.uint32();
  reader.skipOpaque(MAX_AUTH_BYTES);
  return { xid, rpcVersion, program, version, procedure, authFlavor, authBody };
}

/** The body of an AUTH_SYS credential, as a server reads it. */
export function readAuthSys(body: Uint8Array): AuthSys {
  const reader = new XdrReader(body);
  const stamp = reader.uint32();
  const machineName = reader.text(MAX_MACHINE_NAME_BYTES);
  const uid = reader.uint32();
  const gid = reader.uint32();
  const count = reader.uint32();
  if (count > MAX_GIDS) throw new XdrError(`${count} gids, at most ${MAX_GIDS} allowed`, reader.offset - 4);
  const gids: number[] = [];
  for (let i = 0; i < count; i++) gids.push(reader.uint32());
  reader.finish();
  return { stamp, machineName, uid, gid, gids };
}

/** The header of a reply that was accepted; `acceptStat` 0 is followed by the results. */
export function writeAcceptedReply(writer: XdrWriter, xid: number, acceptStat: number = SUCCESS): void {
  writer.uint32(xid);
  writer.uint32(REPLY);
  writer.uint32(MSG_ACCEPTED);
  writer.uint32(AUTH_NONE);
  writer.uint32(0);
  writer.uint32(acceptStat);
}

/** What stands between the call and its results when the server did not carry it out. */
export type RpcFailure =
  | { kind: 'rpc-mismatch'; low: number; high: number }
  | { kind: 'auth-error'; authStat: number }
  | { kind: 'prog-unavail' }
  | { kind: 'prog-mismatch'; low: number; high: number }
  | { kind: 'proc-unavail' }
  | { kind: 'garbage-args' }
  | { kind: 'system-err' };

/**
 * Reads a reply's header; the xid was read before. Null: success, and the reader stands at the results.
 * @throws {XdrError} for what is no reply
 */
export function readReplyHeader(reader: XdrReader): RpcFailure | null {
  const type = reader.uint32();
  if (type !== REPLY) throw new XdrError(`message type ${type} is not a reply`, reader.offset - 4);
  const replyStat = reader.uint32();
  if (replyStat === MSG_DENIED) return readDenied(reader);
  if (replyStat !== MSG_ACCEPTED) throw new XdrError(`reply_stat ${replyStat}`, reader.offset - 4);
  reader.uint32();
  reader.skipOpaque(MAX_AUTH_BYTES);
  const acceptStat = reader.uint32();
  if (acceptStat === SUCCESS) return null;
  const failure = readAcceptFailure(reader, acceptStat);
  reader.finish();
  return failure;
}

function readDenied(reader: XdrReader): RpcFailure {
  const rejectStat = reader.uint32();
  let failure: RpcFailure;
  if (rejectStat === RPC_MISMATCH) {
    failure = { kind: 'rpc-mismatch', low: reader.uint32(), high: reader.uint32() };
  } else if (rejectStat === AUTH_ERROR) {
    failure = { kind: 'auth-error', authStat: reader.uint32() };
  } else {
    throw new XdrError(`reject_stat ${rejectStat}`, reader.offset - 4);
  }
  reader.finish();
  return failure;
}

function readAcceptFailure(reader: XdrReader, acceptStat: number): RpcFailure {
  switch (acceptStat) {
    case PROG_UNAVAIL:
      return { kind: 'prog-unavail' };
    case PROG_MISMATCH:
      return { kind: 'prog-mismatch', low: reader.uint32(), high: reader.uint32() };
    case PROC_UNAVAIL:
      return { kind: 'proc-unavail' };
    case GARBAGE_ARGS:
      return { kind: 'garbage-args' };
    case SYSTEM_ERR:
      return { kind: 'system-err' };
    default:
      throw new XdrError(`accept_stat ${acceptStat}`, reader.offset - 4);
  }
}
