import type { Commands } from './commands.js';

/** A worker or agent that said nothing for so long is gone; they say that they are there far more often. */
export const SERVER_SILENT_MS = 15_000;

/** How many workers or agents serve a queue now. */
export async function countServers(commands: Commands, queue: string): Promise<number> {
  return serve(commands, queue, '', false, false);
}

/**
 * Tells that a worker or agent serves a queue, or that it leaves. Jobs whose queue nobody serves say so.
 * @param server unique among all that ever were
 * @param registered the queue may be forgotten (that of an address); then nothing is told
 */
export async function tellServer(
  commands: Commands,
  queue: string,
  server: string,
  present: boolean,
  registered: boolean,
): Promise<void> {
  await serve(commands, queue, server, present, registered);
}

async function serve(
  commands: Commands,
  queue: string,
  server: string,
  present: boolean,
  registered: boolean,
): Promise<number> {
  const { keys } = commands;
  const reply = await commands.onCache(
    'wbServe',
    queue,
    [keys.servers(queue), keys.queues],
    server,
    present ? '1' : '0',
    SERVER_SILENT_MS,
    registered ? '1' : '0',
  );
  return Number(reply);
}
