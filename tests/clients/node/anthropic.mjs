// Drive a gateway with the official Anthropic SDK for Node: messages.
import Anthropic from '@anthropic-ai/sdk';
import { CITY, PIXEL, RESULT, TOOLS, breaking, failing, run, task } from './telling.mjs';

const MESSAGES_TOOLS = Object.entries(TOOLS).map(([name, description]) => ({ name, description, input_schema: CITY }));

const connect = (apiKey = task.key) => new Anthropic({ baseURL: task.base, apiKey, timeout: 20_000 });
const client = connect();

const asking = (model, options) => ({
  model: task.models[model],
  max_tokens: 400,
  messages: [{ role: 'user', content: task.prompt }],
  ...options,
});
const ask = (model = 'plain', options = {}, as = client, request = {}) =>
  as.messages.create(asking(model, options), request);

async function flow(model = 'plain', options = {}) {
  const stream = client.messages.stream(asking(model, options));
  let [text, pieces] = ['', 0];
  for await (const event of stream) {
    if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') {
      [text, pieces] = [text + event.delta.text, pieces + 1];
    }
  }
  const answer = await stream.finalMessage();
  return { ...told(answer), text, pieces, usage: counts(answer.usage) };
}

const told = (answer) => ({
  text: answer.content.map((block) => (block.type === 'text' ? block.text : '')).join(''),
  thought: answer.content.map((block) => (block.type === 'thinking' ? block.thinking : '')).join(''),
  finish: answer.stop_reason,
  calls: answer.content.filter((block) => block.type === 'tool_use').map((block) => [block.name, block.input]),
});

// Anthropic counts cached tokens beside the others, not among them.
const counts = (usage) => ({
  input: usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0),
  output: usage.output_tokens,
  cached: usage.cache_read_input_tokens ?? 0,
});

const messages = {
  answer: async () => told(await ask()),
  async batch() {
    const { batches } = client.messages;
    const requests = ['a', 'b'].map((custom_id) => ({ custom_id, params: asking('plain', {}) }));
    let batch = await batches.create({ requests });
    let listed = false;
    for await (const each of batches.list()) listed ||= each.id === batch.id;
    while (batch.processing_status !== 'ended') batch = await batches.retrieve(batch.id);
    const texts = [];
    for await (const each of await batches.results(batch.id)) texts.push(told(each.result.message).text);
    await batches.delete(batch.id);
    const gone = await failing(() => batches.retrieve(batch.id, { maxRetries: 0 }));
    return { texts, listed, gone: gone.status };
  },
  stream: () => flow(),
  usage: async () => counts((await ask('counted')).usage),
  stream_usage: async () => (await flow('counted')).usage,
  async tools(count = 1) {
    const tools = MESSAGES_TOOLS.slice(0, count);
    const answer = await ask('plain', { tools });
    const results = answer.content
      .filter((block) => block.type === 'tool_use')
      .map(({ id }) => ({ type: 'tool_result', tool_use_id: id, content: RESULT }));
    const turns = [
      { role: 'user', content: task.prompt },
      { role: 'assistant', content: answer.content },
      { role: 'user', content: results },
    ];
    return { ...told(answer), text: told(await ask('plain', { tools, messages: turns })).text };
  },
  parallel_tools: () => messages.tools(2),
  tool_stream: () => flow('plain', { tools: MESSAGES_TOOLS }),
  async structured() {
    const output_config = { format: { type: 'json_schema', schema: CITY } };
    return { value: JSON.parse(told(await ask('shaped', { output_config })).text) };
  },
  async image() {
    const source = { type: 'base64', media_type: 'image/png', data: PIXEL };
    const content = [{ type: 'image', source }, { type: 'text', text: task.prompt }];
    return told(await ask('plain', { messages: [{ role: 'user', content }] }));
  },
  async count() {
    const { max_tokens, ...rest } = asking('plain', {});
    return { tokens: (await client.messages.countTokens(rest)).input_tokens };
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return { names };
  },
  thinking: () => flow('thinking', { max_tokens: 2000, thinking: { type: 'enabled', budget_tokens: 1024 } }),
  silence: () => flow('slow'),
  unknown: () => flow('odd', { x_future: task.word }),
  ids: async () => ({ request_id: (await ask())._request_id }),
  async repeat() {
    const request = { headers: { 'Idempotency-Key': `again-${task.word}` } };
    return { ids: [(await ask('plain', {}, client, request)).id, (await ask('plain', {}, client, request)).id] };
  },
  bad_key: () => failing(() => ask('plain', {}, connect('no-such-key-000000'))),
  bad_model: () => failing(() => ask('absent')),
  no_money: () => failing(() => ask('plain', {}, connect(task.poor))),
  async rate() {
    const hurried = connect(task.hurried);
    await ask('plain', {}, hurried);
    const refused = await failing(() => ask('plain', {}, hurried, { maxRetries: 0 }));
    return { ...refused, text: told(await ask('plain', {}, hurried)).text };
  },
  broken: () => breaking(() => ask('broken', { stream: true })),
  cut: () => breaking(() => ask('cut', { stream: true })),
};

await run(['@anthropic-ai/sdk'], { messages });
