import { EXIT } from './exit-codes.js';

/**
 * An error that is the user's to read: shown as a sentence, without a stack, and with an exit status of its own.
 * Any other error that leaves a command is a fault of the program and is shown with its stack.
 */
export class CliError extends Error {
  readonly exitCode: number;

  /** @param message an empty one is not shown: everything has been said, or nobody is there to read it */
  constructor(message: string, exitCode: number = EXIT.error, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}
