import { pathBytes, pathText } from './pathname.js';

/** Which paths lie below some directories, decided by their bytes and without looking at any file. */

/** Bytes as text of one character each, so that they can be compared as text. */
function bytesText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/**
 * The components of a path, `//` and `.` collapsed; null if there is a `..` or a NUL in it, which may lead anywhere.
 * Whether it begins with a slash makes no difference.
 */
function componentsOf(text: string): string[] | null {
  if (text.includes('\0')) return null;
  const components = text.split('/').filter((component) => component !== '' && component !== '.');
  return components.includes('..') ? null : components;
}

/** A directory as text of its bytes, without slashes at either end; '' is the root. */
function directoryText(path: string): string {
  return (componentsOf(bytesText(pathBytes(path))) ?? []).join('/');
}

/** What of `path` lies below `directory`, or null; both without slashes at either end. '' for the directory itself. */
function below(path: string, directory: string): string | null {
  if (directory === '' || path === directory) return directory === '' ? path : '';
  return path.startsWith(`${directory}/`) ? path.slice(directory.length + 1) : null;
}

/** Some directories, and all that lies in them. */
export class PathScope {
  /** As `directoryText` makes them. */
  readonly #directories: readonly string[];

  private constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  /** @param paths absolute, without `..` */
  static of(paths: readonly string[]): PathScope {
    return new PathScope(paths.map(directoryText));
  }

  /** What `of` takes. */
  get paths(): string[] {
    return this.#directories.map((directory) => `/${pathText(Buffer.from(directory, 'latin1'))}`);
  }

  get isEmpty(): boolean {
    return this.#directories.length === 0;
  }

  /** True if every path is in it, whatever it looks like. */
  get isEverything(): boolean {
    return this.#directories.includes('');
  }

  /** True for one of the directories and for what lies below one; never for a path with a `..` in it. */
  holds(path: Uint8Array): boolean {
    const components = componentsOf(bytesText(path));
    if (components === null) return false;
    const tidy = components.join('/');
    return this.#directories.some((directory) => below(tidy, directory) !== null);
  }

  /** As seen from `place`, an absolute path: everything, if that lies in it; else those of the directories below it. */
  within(place: string): PathScope {
    const from = directoryText(place);
    if (this.#directories.some((directory) => below(from, directory) !== null)) return new PathScope(['']);
    return new PathScope(this.#directories.flatMap((directory) => below(directory, from) ?? []));
  }

  /** The same directories where `place`, an absolute path, is their root. */
  under(place: string): PathScope {
    const root = directoryText(place);
    return new PathScope(
      this.#directories.map((directory) => [root, directory].filter((part) => part !== '').join('/')),
    );
  }
}
