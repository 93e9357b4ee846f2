import picomatch from 'picomatch';

/** More would cost every entry of a directory time, and no person writes more. */
const MAX_GLOBS = 256;
const MAX_GLOB_LENGTH = 1024;
/**
 * With each further `*` the worst case takes a hundred times as long, and globs come from requests: three cost
 * milliseconds for the worst name there is, four a second, ten more than a lifetime.
 */
const MAX_STARS = 3;

/** Which entries below a directory are wanted. Paths are relative to that directory. */
export interface GlobFilter {
  wants(path: string): boolean;
  /** True if nothing below that directory can be wanted. */
  prunes(directory: string): boolean;
}

/**
 * Globs are matched against the whole path below the directory, component by component: `*.dat` is a file right in it,
 * `**` + `/*.dat` one at any depth. `**` stands for any number of directories, and at the end for everything below.
 * Within a component `*`, `?`, `[a-z]`, `[!a-z]` and `{a,b}` mean what they mean to picomatch; `+(a|b)` and its
 * like are names. A leading dot is nothing special, nor is a slash in front. No include pattern: everything is wanted.
 * @throws {RangeError} for a pattern that cannot be used
 */
export function globFilter(include: readonly string[], exclude: readonly string[]): GlobFilter {
  if (include.length + exclude.length > MAX_GLOBS) {
    throw new RangeError(`at most ${MAX_GLOBS} globs are possible`);
  }
  const included = include.map(parseGlob);
  const excluded = exclude.map(parseGlob);
  // Only a pattern that ends in a globstar takes everything below what it matches.
  const subtrees = excluded.filter((glob) => glob.at(-1) === GLOBSTAR);
  return {
    wants(path) {
      const components = path.split('/');
      const matches = (glob: Glob): boolean => matchesGlob(glob, components, 1);
      return (included.length === 0 || included.some(matches)) && !excluded.some(matches);
    },
    prunes(directory) {
      if (subtrees.length === 0) return false;
      const components = directory.split('/');
      return subtrees.some((glob) => matchesGlob(glob, components, 0));
    },
  };
}

const GLOBSTAR = Symbol('**');
type Glob = readonly (typeof GLOBSTAR | ((component: string) => boolean))[];

function parseGlob(pattern: string): Glob {
  if (pattern === '' || pattern.length > MAX_GLOB_LENGTH) {
    throw new RangeError(`a glob has 1 to ${MAX_GLOB_LENGTH} characters`);
  }
  const parts = pattern.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.length === 0) throw new RangeError(`the glob ${JSON.stringify(pattern)} names nothing`);
  return parts.map((part) => {
    if (part === '**') return GLOBSTAR;
    if (part.split('*').length - 1 > MAX_STARS) {
      throw new RangeError(
        `the glob ${JSON.stringify(pattern)} has more than ${MAX_STARS} "*" in ${JSON.stringify(part)}`,
      );
    }
    if ((part.match(/\{/g)?.length ?? 0) !== (part.match(/\}/g)?.length ?? 0)) {
      throw new RangeError(
        `the glob ${JSON.stringify(pattern)} has a brace without its counterpart before the next slash; write one glob for each alternative`,
      );
    }
    try {
      return picomatch(part, { dot: true, nonegate: true, noextglob: true, posix: true, windows: false });
    } catch (error) {
      throw new RangeError(`the glob ${JSON.stringify(pattern)} cannot be read: ${(error as Error).message}`);
    }
  });
}

/**
 * Takes time in proportion to components times parts: after a mismatch only the newest globstar takes one more.
 * @param least how many components a globstar at the end stands for at least
 */
function matchesGlob(glob: Glob, components: readonly string[], least: 0 | 1): boolean {
  let part = 0;
  let at = 0;
  let globstar = -1;
  let resumeAt = 0;
  for (;;) {
    const current = glob[part];
    if (current === GLOBSTAR) {
      if (part === glob.length - 1) return components.length - at >= least;
      globstar = part++;
      resumeAt = at;
      continue;
    }
    const component = components[at];
    if (current === undefined && component === undefined) return true;
    if (current !== undefined && component !== undefined && current(component)) {
      part++;
      at++;
      continue;
    }
    if (globstar < 0 || resumeAt >= components.length) return false;
    at = ++resumeAt;
    part = globstar + 1;
  }
}
