import type { FileErrorCode } from '../model/errors.js';

/** The whole target cannot be used; `message` says what was tried against which address, and what to do. */
export class TargetError extends Error {
  readonly code: FileErrorCode;

  constructor(code: FileErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'TargetError';
    this.code = code;
  }
}

/** The target does not answer (`whenDown: 'hand-back'`). Files that have not come out are the caller's again. */
export class TargetDownError extends TargetError {
  override readonly name = 'TargetDownError';
}
