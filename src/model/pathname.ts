/**
 * Path names are bytes; JSON and JavaScript strings are not. A byte that is not part of well-formed UTF-8 is
 * carried as a lone surrogate U+DC80..U+DCFF (0xDC00 + the byte), as Python's `surrogateescape` does (PEP 383),
 * so that `JSON.stringify` gives `"\udcff"` and every name survives the way through HTTP and back unchanged.
 */

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes of a name or path → text. Never throws; `pathBytes(pathText(b))` is `b` for every input. */
export function pathText(bytes: Uint8Array): string {
  const ascii = asciiText(bytes);
  if (ascii !== undefined) return ascii;
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return escapeText(bytes);
  }
}

/**
 * Text → bytes of a name or path.
 * @throws {RangeError} for a lone surrogate that is no escaped byte (outside U+DC80..U+DCFF), which no name has
 */
export function pathBytes(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8');
  const parts: Buffer[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit <= 0xdbff && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) {
      i++;
    } else if (unit >= 0xd800 && unit <= 0xdfff) {
      if (unit < 0xdc80 || unit > 0xdcff) {
        throw new RangeError(
          `position ${i} holds U+${unit.toString(16).toUpperCase()}, which is neither text nor an escaped byte (U+DC80 to U+DCFF)`,
        );
      }
      parts.push(Buffer.from(text.slice(start, i), 'utf8'), Buffer.of(unit - 0xdc00));
      start = i + 1;
    }
  }
  parts.push(Buffer.from(text.slice(start), 'utf8'));
  return Buffer.concat(parts);
}

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * What all spellings of one path have in common: no slash at either end, `//` and `.` collapsed. `..` stays, since
 * what it means only the server knows.
 */
export function tidyPathBytes(path: Uint8Array): Uint8Array {
  let start = 0;
  let end = path.length;
  while (start < end && path[start] === SLASH) start++;
  while (end > start && path[end - 1] === SLASH) end--;
  const tidy = path.subarray(start, end);
  if (!isUntidy(tidy)) return tidy;
  // One byte is one character, so nothing is lost on the way.
  const components = Buffer.from(tidy).toString('latin1').split('/');
  return Buffer.from(components.filter((each) => each !== '' && each !== '.').join('/'), 'latin1');
}

/** Both tidy. A directory lies within itself. */
export function liesWithin(path: Uint8Array, top: Uint8Array): boolean {
  if (top.length === 0) return true;
  if (path.length < top.length || Buffer.compare(path.subarray(0, top.length), top) !== 0) return false;
  return path.length === top.length || path[top.length] === SLASH;
}

/** Of a path without slashes at either end: an empty component, or one that is `.`. */
function isUntidy(path: Uint8Array): boolean {
  let length = 0;
  let dots = 0;
  for (let i = 0; i <= path.length; i++) {
    const byte = i === path.length ? SLASH : path[i];
    if (byte !== SLASH) {
      length++;
      if (byte === DOT) dots++;
      continue;
    }
    if (length === 0 || (length === 1 && dots === 1)) return true;
    length = 0;
    dots = 0;
  }
  return false;
}

function asciiText(bytes: Uint8Array): string | undefined {
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] as number) > 0x7f) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

function escapeText(bytes: Uint8Array): string {
  let text = '';
  let i = 0;
  while (i < bytes.length) {
    const length = sequenceLength(bytes, i);
    if (length === 0) {
      text += String.fromCharCode(0xdc00 + (bytes[i] as number));
      i += 1;
    } else {
      text += strictUtf8.decode(bytes.subarray(i, i + length));
      i += length;
    }
  }
  return text;
}

/** Length of the well-formed UTF-8 sequence at `i` (RFC 3629 §4), or 0. */
function sequenceLength(bytes: Uint8Array, i: number): number {
  const first = bytes[i] as number;
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first < 0xe0
      ? 2
      : first >= 0xe0 && first < 0xf0
        ? 3
        : first >= 0xf0 && first < 0xf5
          ? 4
          : 0;
  if (length === 0 || i + length > bytes.length) return 0;
  try {
    strictUtf8.decode(bytes.subarray(i, i + length));
    return length;
  } catch {
    return 0;
  }
}
