import { serializerCompiler } from 'fastify-type-provider-zod';

/**
 * Answers by their schemas. An object that answers several requests is written once: with hundreds of clients that poll
 * a job, checking and writing it would be most of the work.
 */
export const writeOnce: typeof serializerCompiler = (route) => {
  const write = serializerCompiler(route);
  const texts = new WeakMap<object, string>();
  return (answer: object) => {
    let text = texts.get(answer);
    if (text === undefined) {
      text = write(answer);
      texts.set(answer, text);
    }
    return text;
  };
};
