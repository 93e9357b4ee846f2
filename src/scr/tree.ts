/**
 * The tree of a transfer file: keys in their order, each with its own tree or null if nothing is below it. A value
 * is a key with nothing below. Keys are bytes in the file and text as in model/pathname.ts here.
 */
export type Tree = Map<string, Tree | null>;

/** The value under `key`: the one key below it. Null if there is none, or more than one, which means nothing. */
export function readValue(tree: Tree, key: string): string | null {
  const below = tree.get(key);
  if (below?.size !== 1) return null;
  return below.keys().next().value ?? null;
}

/** Replaces whatever is under `key`. True if that changed something. */
export function setValue(tree: Tree, key: string, value: string): boolean {
  if (readValue(tree, key) === value) return false;
  tree.set(key, new Map([[value, null]]));
  return true;
}
