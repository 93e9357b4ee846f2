import { CopyError } from '../copy/copy-error.js';
import { type AllowedRoots, openPlace, type Place } from '../copy/place.js';
import { pathBytes, pathText, tidyPathBytes } from '../model/pathname.js';
import { Duplicates } from '../store/dedup.js';
import type { CopiedFile } from '../store/transfers.js';

/**
 * Which file of a job has which place among the destinations. That no two of them have the same path is known before;
 * but two paths can lead to one place, through a link, a mount or roots that overlap, and that can be seen only where
 * the files are copied. The file that comes first has the place.
 */
export class DestinationClaims {
  readonly #files = new Duplicates();

  /** For a job of which earlier agents may have copied files: those keep their places. */
  async restore(copied: AsyncIterable<CopiedFile>, roots: AllowedRoots): Promise<void> {
    let folder: string | null = null;
    let directory: string | null = null;
    for await (const { index, destination } of copied) {
      // Bytes as latin1 text, as the names of places are.
      const text = `/${Buffer.from(tidyPathBytes(pathBytes(destination))).toString('latin1')}`;
      const slash = text.lastIndexOf('/');
      // Most have the directory of the one before.
      if (folder !== text.slice(0, slash)) {
        folder = text.slice(0, slash);
        directory = await directoryOf(Buffer.from(text, 'latin1'), roots);
      }
      if (directory !== null) this.#first(directory, text.slice(slash + 1), index);
    }
  }

  /** @throws {CopyError} DESTINATION_TAKEN */
  async claim(place: Place, index: number): Promise<void> {
    const first = this.#first(await place.directoryIdentity(), place.name, index);
    if (first === index) return;
    throw new CopyError(
      'DESTINATION_TAKEN',
      `not copied: through a link or a mount, ${pathText(place.path)} is the destination of file ${first} of the job`,
    );
  }

  /** @returns the index of the file that has the place */
  #first(directory: string, name: string, index: number): number {
    const taken = this.#files.add(Buffer.from(`${directory}/${name}`, 'latin1'), index);
    return taken < 0 ? index : taken;
  }
}

/** Null: it is gone or cannot be reached, so nothing is copied into it by this name or another either. */
async function directoryOf(path: Buffer, roots: AllowedRoots): Promise<string | null> {
  try {
    const place = await openPlace(path, roots, false);
    try {
      return await place.directoryIdentity();
    } finally {
      await place.close();
    }
  } catch {
    return null;
  }
}
