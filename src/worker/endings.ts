/** The job is over for this worker's files: canceled, at its deadline, or gone. */
export class JobEnded extends Error {
  readonly why: 'canceled' | 'expired';

  constructor(why: 'canceled' | 'expired') {
    super(why);
    this.name = 'JobEnded';
    this.why = why;
  }
}
