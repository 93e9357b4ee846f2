import { isUtf8 } from 'node:buffer';
import { pathBytes } from '../model/pathname.js';

const BACKSLASH = 0x5c;
const FIRST_PRINTABLE = 0x20;

/** A string token that JSON (RFC 8259 §7) does not allow, or that is no path. `message` ends a sentence about it. */
export class JsonPathError extends Error {}

/**
 * A JSON string (`content` is what stands between its quotes) → the bytes of the path. Without an escape the bytes
 * are the path already and share memory with `content`: a million paths are never decoded.
 *
 * @throws {JsonPathError}
 */
export function jsonPath(content: Uint8Array): Uint8Array {
  if (!isUtf8(content)) {
    throw new JsonPathError(
      'is not UTF-8; write a byte of another encoding as an escape "\\udc80" to "\\udcff"',
    );
  }
  if (content.indexOf(BACKSLASH) >= 0) return unescapedPath(content);
  for (let i = 0; i < content.length; i++) {
    if ((content[i] as number) < FIRST_PRINTABLE)
      throw new JsonPathError('has a control character that is not escaped');
  }
  return content;
}

/** Text of a JSON value → the bytes of the path. @throws {JsonPathError} */
export function textPath(text: string): Uint8Array {
  try {
    return pathBytes(text);
  } catch (error) {
    throw new JsonPathError(`is no path: ${error instanceof Error ? error.message : error}`);
  }
}

function unescapedPath(content: Uint8Array): Uint8Array {
  let text: string;
  try {
    text = JSON.parse(`"${Buffer.from(content).toString('utf8')}"`) as string;
  } catch {
    throw new JsonPathError('has an escape that is not JSON');
  }
  return textPath(text);
}
