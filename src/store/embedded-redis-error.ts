export type EmbeddedRedisErrorCode = 'NOT_INSTALLED' | 'IN_USE' | 'NOT_STARTED';

/** The message says what to do. */
export class EmbeddedRedisError extends Error {
  readonly code: EmbeddedRedisErrorCode;

  constructor(code: EmbeddedRedisErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'EmbeddedRedisError';
    this.code = code;
  }
}
