// Drive a gateway with Ollama's own client for Node: chat and generate.
import { Ollama } from 'ollama';
import { CITY, PIXEL, RESULT, TOOLS, breaking, failing, run, task } from './telling.mjs';

const OLLAMA_TOOLS = Object.entries(TOOLS).map(([name, description]) => ({
  type: 'function',
  function: { name, description, parameters: CITY },
}));

const connect = (key = task.key) => new Ollama({ host: task.base, headers: { Authorization: `Bearer ${key}` } });
const client = connect();

const ask = (model = 'plain', options = {}, as = client) =>
  as.chat({ model: task.models[model], messages: [{ role: 'user', content: task.prompt }], ...options });

const callsOf = (answer) =>
  (answer.message.tool_calls ?? []).map((call) => [call.function.name, call.function.arguments]);
const counts = (answer) => ({ input: answer.prompt_eval_count, output: answer.eval_count });

async function flow(model = 'plain', options = {}) {
  const whole = { text: '', thought: '', calls: [], pieces: 0, finish: null, usage: null };
  for await (const chunk of await ask(model, { stream: true, ...options })) {
    whole.text += chunk.message.content ?? '';
    whole.thought += chunk.message.thinking ?? '';
    whole.calls.push(...callsOf(chunk));
    whole.pieces += chunk.message.content ? 1 : 0;
    if (chunk.done) [whole.finish, whole.usage] = [chunk.done_reason, counts(chunk)];
  }
  return whole;
}

const chat = {
  async answer() {
    const answer = await ask();
    return { text: answer.message.content, finish: answer.done_reason };
  },
  stream: () => flow(),
  usage: async () => counts(await ask('counted')),
  stream_usage: async () => (await flow('counted')).usage,
  async tools(count = 1) {
    const tools = OLLAMA_TOOLS.slice(0, count);
    const answer = await ask('plain', { tools });
    const results = callsOf(answer).map(([tool_name]) => ({ role: 'tool', tool_name, content: RESULT }));
    const messages = [{ role: 'user', content: task.prompt }, answer.message, ...results];
    return { calls: callsOf(answer), text: (await ask('plain', { tools, messages })).message.content };
  },
  parallel_tools: () => chat.tools(2),
  tool_stream: () => flow('plain', { tools: OLLAMA_TOOLS }),
  structured: async () => ({ value: JSON.parse((await ask('shaped', { format: CITY })).message.content) }),
  async image() {
    const messages = [{ role: 'user', content: task.prompt, images: [PIXEL] }];
    return { text: (await ask('plain', { messages })).message.content };
  },
  async embeddings() {
    const answer = await client.embed({ model: task.models.embed, input: ['um', task.word] });
    return { vectors: answer.embeddings.length, size: answer.embeddings[0].length };
  },
  models: async () => ({ names: (await client.list()).models.map((model) => model.model) }),
  thinking: () => flow('thinking', { think: true }),
  silence: () => flow('slow'),
  bad_key: () => failing(() => ask('plain', {}, connect('no-such-key-000000'))),
  bad_model: () => failing(() => ask('absent')),
  no_money: () => failing(() => ask('plain', {}, connect(task.poor))),
  broken: () => breaking(() => ask('broken', { stream: true })),
  cut: () => breaking(() => ask('cut', { stream: true })),
};

await run(['ollama'], { chat });
