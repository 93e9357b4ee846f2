import { pathBytes } from '../model/pathname.js';
import type { PathsAre } from '../model/words.js';
import { Fault } from './fault.js';

/** RFC 1813 leaves the limit to the server; no server in use takes more in one component. */
const MAX_COMPONENT_BYTES = 255;

const RELATIVE_HINT = '; is it relative to the export, pathsAre: export?';

/** What `PathForms` needs of the options of a run. */
export interface PathFormOptions {
  pathsAre: PathsAre;
  clientMount: string | null;
}

/**
 * Reads the paths of one run. A file has three names: relative to the export, in the cache's namespace (where the
 * export is a directory), and on a client that mounted that namespace. Which one it is, is chosen, never guessed;
 * but an error says how the path was read, and which other form it looks like.
 */
export class PathForms {
  readonly exportPath: string;
  readonly pathsAre: PathsAre;
  readonly clientMount: string | null;
  /** Without slashes at either end, like `#mount`. Empty: the root of the namespace. */
  readonly #export: string;
  readonly #mount: string | null;

  constructor(exportPath: string, options: PathFormOptions) {
    this.exportPath = exportPath;
    this.pathsAre = options.pathsAre;
    this.clientMount = options.clientMount;
    this.#export = tidied(exportPath);
    this.#mount = options.clientMount === null ? null : tidied(options.clientMount);
  }

  /**
   * A path as submitted → relative to the export, without a slash at either end, `//` and `.` collapsed; the empty
   * string is the root of the export. No call is made for what is refused here: a server may take `..` for a name
   * and leave its export with it.
   */
  read(path: string): string | Fault {
    const tidy = tidyPath(path);
    if (tidy instanceof Fault || this.pathsAre === 'export') return tidy;
    let inNamespace: string | null = tidy;
    if (this.pathsAre === 'client') {
      if (this.#mount === null) {
        return refused(
          `${quoted(path)} was read as a client's path (pathsAre: client), but no clientMount is given`,
        );
      }
      inNamespace = path.startsWith('/') ? below(tidy, this.#mount) : null;
      if (inNamespace === null) {
        return refused(
          `${quoted(path)} is not below the clientMount ${this.clientMount} (pathsAre: client)${this.#looksLike(tidy) || RELATIVE_HINT}`,
        );
      }
    }
    const relative = below(inNamespace, this.#export);
    if (relative !== null) return relative;
    return new Fault(
      'OUTSIDE_EXPORT',
      'intake',
      `/${shown(inNamespace)} is not below the export ${this.exportPath} (pathsAre: ${this.pathsAre})${this.#looksLike(tidy) || RELATIVE_HINT}`,
    );
  }

  /** A path as submitted, which `read` took → the same in the same form, with one slash in front and none at the end. */
  tidy(path: string): string {
    return `/${tidied(path)}`;
  }

  /** For messages about a file that was not found: what was looked up, and which form the path may have instead. */
  explain(relative: string): string {
    return `looked up /${shown(relative)} below export ${this.exportPath} (pathsAre: ${this.pathsAre})${this.#looksLike(relative)}`;
  }

  /**
   * The absolute target of a symbolic link → the part of it below the export, or null if it lies elsewhere as far as
   * can be told. Such a target was written by a client, so the client's mount is tried before the namespace.
   */
  linkBelowExport(target: string): string | null {
    const path = target.replace(/^\/+/, '').replace(/\/{2,}/g, '/');
    const inNamespace = this.#mount === null ? null : below(path, this.#mount);
    const relative = inNamespace === null ? null : below(inNamespace, this.#export);
    if (relative !== null) return relative;
    // With the whole namespace exported every absolute path would lie in it, /etc/passwd too.
    return this.#export === '' ? null : below(path, this.#export);
  }

  #looksLike(tidy: string): string {
    const { pathsAre } = this;
    if (
      pathsAre !== 'client' &&
      this.#mount !== null &&
      this.#mount !== '' &&
      below(tidy, this.#mount) !== null
    ) {
      return `; the path begins with the client mount ${this.clientMount}: is it pathsAre: client?`;
    }
    if (this.#export === '') return '';
    if (pathsAre !== 'namespace' && below(tidy, this.#export) !== null) {
      return '; the path begins with the export itself: is it pathsAre: namespace?';
    }
    const at = `/${tidy}/`.indexOf(`/${this.#export}/`);
    if (at > 0) {
      const hint = pathsAre === 'client' ? '' : 'pathsAre: client with ';
      return `; the export stands within the path: is it ${hint}clientMount: /${shown(tidy.slice(0, at - 1))}?`;
    }
    return '';
  }
}

/** Empty components, `.` and `..`, and NUL: what a path that was written plainly does not have. */
const UNTIDY = /\0|(?:^|\/)\.{0,2}(?:\/|$)/;

/** Without slashes at either end, `//` and `.` collapsed. */
function tidyPath(path: string): string | Fault {
  if (path === '') return refused('the path is empty');
  let tidy = path.charCodeAt(0) === 0x2f ? path.slice(1) : path;
  if (UNTIDY.test(tidy)) {
    if (tidy.includes('\0')) return refused(`${quoted(path)} has a NUL in it`);
    const components: string[] = [];
    for (const component of tidy.split('/')) {
      if (component === '..') {
        return refused(`${quoted(path)} has a ".." in it; give the path without it`);
      }
      if (component !== '' && component !== '.') components.push(component);
    }
    tidy = components.join('/');
  }
  const wellFormed = tidy.isWellFormed();
  if (!wellFormed && bytesOf(tidy) === null) {
    return refused(`${quoted(path)} has a lone surrogate that stands for no byte (U+DC80 to U+DCFF do)`);
  }
  // A character has at most three bytes, so that nearly no path needs to be measured.
  if (tidy.length * 3 > MAX_COMPONENT_BYTES) {
    for (const component of tidy.split('/')) {
      if (component.length * 3 <= MAX_COMPONENT_BYTES) continue;
      const length = wellFormed ? Buffer.byteLength(component) : pathBytes(component).length;
      if (length > MAX_COMPONENT_BYTES) {
        return new Fault(
          'ENAMETOOLONG',
          'intake',
          `a component of the path has ${length} bytes, at most ${MAX_COMPONENT_BYTES} are possible: ${quoted(`${component.slice(0, 40)}…`)}`,
        );
      }
    }
  }
  return tidy;
}

function bytesOf(text: string): Uint8Array | null {
  try {
    return pathBytes(text);
  } catch {
    return null;
  }
}

function tidied(path: string): string {
  return path
    .split('/')
    .filter((component) => component !== '' && component !== '.')
    .join('/');
}

/** What of `path` lies below `prefix`, or null. Both without slashes at either end. */
function below(path: string, prefix: string): string | null {
  if (prefix === '') return path;
  if (path === prefix) return '';
  return path.startsWith(prefix) && path.charCodeAt(prefix.length) === 0x2f
    ? path.slice(prefix.length + 1)
    : null;
}

function refused(message: string): Fault {
  return new Fault('INVALID_PATH', 'intake', message);
}

const MOST_SHOWN = 300;

/** A path for a message: what is long loses its middle, for the end says most. */
export function shown(path: string): string {
  return path.length <= MOST_SHOWN ? path : `${path.slice(0, 100)}…${path.slice(-(MOST_SHOWN - 100))}`;
}

/** The same, in quotation marks and with what cannot be seen escaped. */
export function quoted(path: string): string {
  return JSON.stringify(shown(path));
}
