import { type FSWatcher, watch } from 'node:fs';

/**
 * Tells when a file may have changed. Not every file system can be watched, and a file that is replaced is another one:
 * whoever relies on it asks `again` from time to time, and looks at the file now and then without having been told.
 */
export class FileWatch {
  readonly #path: string;
  readonly #onChange: () => void;
  #watcher: FSWatcher | null = null;

  constructor(path: string, onChange: () => void) {
    this.#path = path;
    this.#onChange = onChange;
  }

  /** Watches the file that has the name now, unless it is watched already. */
  again(): void {
    if (this.#watcher !== null) return;
    try {
      this.#watcher = watch(this.#path, { persistent: false }, (event) => {
        // The file was removed or replaced.
        if (event === 'rename') this.close();
        this.#onChange();
      });
      this.#watcher.on('error', () => this.close());
      // Something may have happened before.
      this.#onChange();
    } catch {
      this.close();
    }
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = null;
  }
}
