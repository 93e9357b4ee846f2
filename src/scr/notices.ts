/** Says a thing once, until it changes or is over. */
export class Notices<Subject extends string> {
  readonly #log: (message: string) => void;
  readonly #told = new Map<Subject, string>();

  constructor(log: (message: string) => void) {
    this.#log = log;
  }

  /** @param message null: all is well. @returns whether that is news */
  tell(about: Subject, message: string | null): boolean {
    const before = this.#told.get(about);
    if (message === null) return this.#told.delete(about);
    this.#told.set(about, message);
    if (message === before) return false;
    this.#log(message);
    return true;
  }
}
