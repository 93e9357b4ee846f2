import type { ApiLimits } from '../model/limits.js';
import { LABEL_KEY, shortText } from '../model/request-fields.js';
import { ValidationError } from './problem.js';

/** `label=KEY=VALUE` parameters of a query → labels. @throws {ValidationError} */
export function labelsOf(parameters: string[], limits: ApiLimits): Record<string, string> {
  const faults: string[] = [];
  const labels = new Map<string, string>();
  const valueSchema = shortText(limits.labelValueBytes);
  for (const parameter of parameters) {
    const equals = parameter.indexOf('=');
    const key = parameter.slice(0, equals);
    const value = valueSchema.safeParse(parameter.slice(equals + 1));
    if (!LABEL_KEY.test(key)) faults.push(`${JSON.stringify(key.slice(0, 80))} is no label key`);
    else if (labels.has(key)) faults.push(`${JSON.stringify(key)} is given twice`);
    else if (value.success) labels.set(key, value.data);
    else faults.push(`the value of ${JSON.stringify(key)} ${value.error.issues[0]?.message}`);
  }
  if (parameters.length > limits.labels)
    faults.push(`there are ${parameters.length} labels; ${limits.labels} are allowed`);
  if (faults.length > 0) throw new ValidationError(faults.map((detail) => ({ detail, parameter: 'label' })));
  return Object.fromEntries(labels);
}
