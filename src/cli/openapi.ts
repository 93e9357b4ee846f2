import type { RegisterCommand } from './program.js';

/** `writeback openapi`: prints the OpenAPI document of this version as YAML. For the build; not listed in the help. */
export function registerOpenapi(document: (version: string) => Promise<string>): RegisterCommand {
  return (program, context) => {
    program
      .command('openapi', { hidden: true })
      .description('Prints the OpenAPI document.')
      .action(async () => {
        const text = await document(context.version);
        context.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
      });
  };
}
