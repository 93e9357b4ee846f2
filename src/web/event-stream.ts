/** The text of Server-Sent Events, as far as the service writes it: fields `id`, `event` and `data`, and comments. */

export interface ServerEvent {
  type: string;
  id: string | undefined;
  data: string;
}

/**
 * Gives each whole event to `onEvent`, however the text is cut. An `id` without data is told as well, as an event
 * whose `data` is empty.
 */
export function eventReader(onEvent: (event: ServerEvent) => void): (text: string) => void {
  let rest = '';
  let type = 'message';
  let data: string[] = [];
  let id: string | undefined;
  let named = false;

  const take = (line: string): void => {
    if (line === '') {
      if (data.length > 0 || named) onEvent({ type, id, data: data.join('\n') });
      type = 'message';
      data = [];
      named = false;
      return;
    }
    const colon = line.indexOf(':');
    if (colon <= 0) return;
    const value = line.slice(colon + 1).replace(/^ /, '');
    const field = line.slice(0, colon);
    if (field === 'data') data.push(value);
    else if (field === 'event') type = value;
    else if (field === 'id') {
      id = value;
      named = true;
    }
  };

  return (text) => {
    const lines = (rest + text).split(/\r\n|\n/);
    rest = lines.pop() ?? '';
    for (const line of lines) take(line);
  };
}
