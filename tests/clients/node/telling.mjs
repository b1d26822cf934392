// What the Node programs of the matrix share: a task comes in, one line of JSON for each scenario goes out.
import { readFileSync } from 'node:fs';

export const CITY = {
  type: 'object',
  properties: { city: { type: 'string' }, days: { type: 'integer' } },
  required: ['city', 'days'],
  additionalProperties: false,
};
export const TOOLS = { forecast: 'The weather of the days to come', climate: 'The weather of most years' };
export const RESULT = '25 graus';
export const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==';
const SECONDS = 25;

export const task = JSON.parse(process.argv[2]);
task.prompt = `Qual é a previsão do tempo? (${task.word})`;

// How the client names the error that `act` must raise; `classes` is empty when it raises none.
export async function failing(act) {
  try {
    await act();
  } catch (error) {
    return describe(error);
  }
  return { classes: [] };
}

export function describe(error) {
  const classes = [];
  for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) classes.push(kind.name);
  let status = [error?.status, error?.statusCode, error?.status_code].find(Number.isInteger) ?? null;
  if (status === null && error?.cause) status = describe(error.cause).status;
  if (status === null && error?.lastError) status = describe(error.lastError).status;
  return { classes, status, message: String(error?.message).slice(0, 500) };
}

// How a stream that breaks in its middle ends for the client, and how many pieces came before.
export async function breaking(begin) {
  let pieces = 0;
  const end = await failing(async () => {
    for await (const _ of await begin()) pieces += 1;
  });
  return { ...end, pieces };
}

export function versionOf(name) {
  const path = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(path, 'utf8')).version;
}

// Tell every wanted scenario: the method of that name of its face.
export async function run(packages, faces) {
  say('versions', Object.fromEntries(packages.map((name) => [name, versionOf(name)])));
  for (const [face, { wanted, models, poor, hurried }] of Object.entries(task.faces)) {
    Object.assign(task, { poor, hurried, models: { ...models, absent: 'no-such-model' } });
    for (const name of wanted) {
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`nothing came for ${SECONDS} s`)), SECONDS * 1000);
      });
      try {
        say(`${face} ${name}`, await Promise.race([faces[face][name](), late]));
      } catch (error) {
        say(`${face} ${name}`, { ...describe(error), unexpected: String(error?.stack ?? error).slice(0, 1500) });
      } finally {
        clearTimeout(timer);
      }
    }
  }
  process.exit(0);
}

function say(name, told) {
  process.stdout.write(`${JSON.stringify({ [name]: told })}\n`);
}
