import picomatch from 'picomatch';

/** More would cost every entry of a directory time, and no person writes more. */
export const MAX_GLOBS = 256;
export const MAX_GLOB_LENGTH = 1024;

/** Which entries below a directory are wanted. Paths are relative to that directory. */
export interface GlobFilter {
  wants(path: string): boolean;
  /** True if nothing below that directory can be wanted. */
  prunes(directory: string): boolean;
}

/**
 * Globs as picomatch has them, matched against the whole path below the directory: `*.dat` is a file right in it,
 * `**` + `/*.dat` one at any depth. A leading dot is nothing special. No include pattern: everything is wanted.
 * @throws {RangeError} for a pattern that cannot be used
 */
export function globFilter(include: readonly string[], exclude: readonly string[]): GlobFilter {
  const included = include.length === 0 ? null : matcher(include, true);
  const excluded = exclude.length === 0 ? null : matcher(exclude, true);
  // Only a pattern that ends in a globstar takes everything below what it matches.
  const subtrees = exclude.filter((pattern) => pattern === '**' || pattern.endsWith('/**'));
  const prunes = subtrees.length === 0 ? null : matcher(subtrees, false);
  return {
    wants: (path) => (included === null || included(path)) && !(excluded?.(path) ?? false),
    prunes: (directory) => prunes?.(directory) ?? false,
  };
}

/** @param strictSlashes false: `a` + `/**` matches the directory `a` as well */
function matcher(patterns: readonly string[], strictSlashes: boolean): (path: string) => boolean {
  if (patterns.length > MAX_GLOBS) throw new RangeError(`at most ${MAX_GLOBS} globs are possible`);
  const matchers = patterns.map((pattern) => {
    if (pattern === '' || pattern.length > MAX_GLOB_LENGTH) {
      throw new RangeError(`a glob has 1 to ${MAX_GLOB_LENGTH} characters`);
    }
    try {
      return picomatch(pattern, { dot: true, nonegate: true, windows: false, strictSlashes });
    } catch (error) {
      throw new RangeError(`the glob ${JSON.stringify(pattern)} cannot be read: ${(error as Error).message}`);
    }
  });
  return (path) => matchers.some((matches) => matches(path));
}
