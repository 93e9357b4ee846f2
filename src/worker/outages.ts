import type { Logger } from 'pino';
import type { QueueConnection } from '../store/connect.js';

/** Logs once that Redis is away and once that it is back, until the process lets go of it. */
export function tellOutages({ redis }: QueueConnection, log: Logger, isClosing: () => boolean): void {
  let away = false;
  redis.on('close', () => {
    if (!away && !isClosing()) log.error('Redis is away; waiting for it');
    away = true;
  });
  redis.on('ready', () => {
    if (away) log.info('Redis is back');
    away = false;
  });
}
