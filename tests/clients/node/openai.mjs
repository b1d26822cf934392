// Drive a gateway with the official OpenAI SDK for Node: chat completions and responses.
import OpenAI, { toFile } from 'openai';
import { CITY, PIXEL, RESULT, TOOLS, breaking, failing, run, task } from './telling.mjs';

const CHAT_TOOLS = Object.entries(TOOLS).map(([name, description]) => ({
  type: 'function',
  function: { name, description, parameters: CITY },
}));
const RESPONSES_TOOLS = Object.entries(TOOLS).map(([name, description]) => ({
  type: 'function',
  name,
  description,
  parameters: CITY,
  strict: true,
}));

const connect = (apiKey = task.key, options = {}) =>
  new OpenAI({ baseURL: `${task.base}/v1`, apiKey, timeout: 20_000, ...options });
const client = connect();

const shared = {
  async embeddings() {
    const answer = await client.embeddings.create({ model: task.models.embed, input: ['um', task.word] });
    return { vectors: answer.data.length, size: answer.data[0].embedding.length };
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    return { names };
  },
};

// A batch of two such requests: what is told of it, and the bodies of its answers.
async function batched(url, body) {
  const lines = ['a', 'b'].map((custom_id) => JSON.stringify({ custom_id, method: 'POST', url, body }));
  const content = await toFile(Buffer.from(lines.join('\n')), 'requests.jsonl');
  const file = await client.files.create({ file: content, purpose: 'batch' });
  let batch = await client.batches.create({ input_file_id: file.id, endpoint: url, completion_window: '24h' });
  const names = [];
  for await (const each of client.batches.list()) names.push(each.id);
  for await (const each of client.files.list({ purpose: 'batch' })) names.push(each.id);
  const listed = names.includes(batch.id) && names.includes(file.id);
  while (!['completed', 'failed'].includes(batch.status)) batch = await client.batches.retrieve(batch.id);
  const answers = await (await client.files.content(batch.output_file_id)).text();
  await client.files.delete(file.id);
  const gone = await failing(() => client.files.retrieve(file.id, { maxRetries: 0 }));
  const bodies = answers.trim().split('\n').map((line) => JSON.parse(line).response.body);
  return [{ listed, gone: gone.status }, bodies];
}

const ask = (model = 'plain', options = {}, as = client, request = {}) =>
  as.chat.completions.create(
    { model: task.models[model], messages: [{ role: 'user', content: task.prompt }], ...options },
    request,
  );

async function flow(model = 'plain', options = {}) {
  const told = { text: '', thought: '', pieces: 0, finish: null, usage: null };
  const calls = [];
  for await (const chunk of await ask(model, { stream: true, ...options })) {
    if (chunk.usage) told.usage = counts(chunk.usage);
    for (const choice of chunk.choices) {
      told.finish = choice.finish_reason ?? told.finish;
      told.text += choice.delta.content ?? '';
      told.thought += choice.delta.reasoning_content ?? '';
      told.pieces += choice.delta.content ? 1 : 0;
      for (const call of choice.delta.tool_calls ?? []) {
        calls[call.index] ??= ['', ''];
        calls[call.index][0] += call.function.name ?? '';
        calls[call.index][1] += call.function.arguments ?? '';
      }
    }
  }
  return { ...told, calls: calls.map(([name, written]) => [name, JSON.parse(written)]) };
}

const counts = (usage) => ({
  input: usage.prompt_tokens,
  output: usage.completion_tokens,
  ...(usage.prompt_tokens_details ? { cached: usage.prompt_tokens_details.cached_tokens } : {}),
  ...(usage.completion_tokens_details ? { reasoning: usage.completion_tokens_details.reasoning_tokens } : {}),
});

const chat = {
  ...shared,
  async answer() {
    const answer = await ask();
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
  },
  async batch() {
    const body = { model: task.models.plain, messages: [{ role: 'user', content: task.prompt }] };
    const [told, answers] = await batched('/v1/chat/completions', body);
    return { ...told, texts: answers.map((answer) => answer.choices[0].message.content) };
  },
  stream: () => flow(),
  usage: async () => counts((await ask('counted')).usage),
  stream_usage: async () => (await flow('counted', { stream_options: { include_usage: true } })).usage,
  async tools(count = 1) {
    const tools = CHAT_TOOLS.slice(0, count);
    const { message } = (await ask('plain', { tools })).choices[0];
    const results = message.tool_calls.map(({ id }) => ({ role: 'tool', tool_call_id: id, content: RESULT }));
    const messages = [{ role: 'user', content: task.prompt }, message, ...results];
    const after = await ask('plain', { tools, messages });
    return {
      calls: message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
      text: after.choices[0].message.content,
    };
  },
  parallel_tools: () => chat.tools(2),
  tool_stream: () => flow('plain', { tools: CHAT_TOOLS }),
  async structured() {
    const form = { type: 'json_schema', json_schema: { name: 'city', schema: CITY, strict: true } };
    const answer = await client.chat.completions.parse({
      model: task.models.shaped,
      messages: [{ role: 'user', content: task.prompt }],
      response_format: form,
    });
    return { value: JSON.parse(answer.choices[0].message.content) };
  },
  async image() {
    const content = [
      { type: 'text', text: task.prompt },
      { type: 'image_url', image_url: { url: `data:image/png;base64,${PIXEL}` } },
    ];
    return { text: (await ask('plain', { messages: [{ role: 'user', content }] })).choices[0].message.content };
  },
  async choices() {
    const { choices } = await ask('plain', { n: 2, logprobs: true });
    return {
      texts: choices.map((choice) => choice.message.content),
      logprobs: choices.map((choice) => Boolean(choice.logprobs?.content?.length)),
    };
  },
  thinking: () => flow('thinking'),
  silence: () => flow('slow'),
  unknown: () => flow('odd', { x_future: task.word }),
  async ids() {
    return { request_id: (await ask())._request_id };
  },
  async repeat() {
    const headers = { 'Idempotency-Key': `again-${task.word}` };
    return { ids: [(await ask('plain', {}, client, { headers })).id, (await ask('plain', {}, client, { headers })).id] };
  },
  bad_key: () => failing(() => ask('plain', {}, connect('no-such-key-000000'))),
  bad_model: () => failing(() => ask('absent')),
  no_money: () => failing(() => ask('plain', {}, connect(task.poor))),
  async rate() {
    const hurried = connect(task.hurried);
    await ask('plain', {}, hurried);
    const refused = await failing(() => ask('plain', {}, hurried, { maxRetries: 0 }));
    return { ...refused, text: (await ask('plain', {}, hurried)).choices[0].message.content };
  },
  broken: () => breaking(() => ask('broken', { stream: true })),
  cut: () => breaking(() => ask('cut', { stream: true })),
};

const respond = (model = 'plain', options = {}, as = client, request = {}) =>
  as.responses.create({ model: task.models[model], input: task.prompt, ...options }, request);

async function respondFlow(model = 'plain', options = {}) {
  const numbers = [];
  let [text, thought, pieces, final] = ['', '', 0, null];
  for await (const event of await respond(model, { stream: true, ...options })) {
    numbers.push(event.sequence_number);
    if (event.type === 'response.output_text.delta') [text, pieces] = [text + event.delta, pieces + 1];
    if (event.type.startsWith('response.reasoning') && event.type.endsWith('.delta')) thought += event.delta;
    if (event.type === 'response.completed') final = event.response;
  }
  return {
    text,
    thought,
    pieces,
    finish: final?.status,
    usage: final?.usage && respondCounts(final.usage),
    calls: final ? callsOf(final).map((call) => [call.name, JSON.parse(call.arguments)]) : [],
    rising: numbers.every((number, at) => at === 0 || number > numbers[at - 1]),
  };
}

const callsOf = (answer) => answer.output.filter((item) => item.type === 'function_call');
const respondCounts = (usage) => ({
  input: usage.input_tokens,
  output: usage.output_tokens,
  ...(usage.input_tokens_details ? { cached: usage.input_tokens_details.cached_tokens } : {}),
  ...(usage.output_tokens_details ? { reasoning: usage.output_tokens_details.reasoning_tokens } : {}),
});

const responses = {
  ...shared,
  async answer() {
    const answer = await respond();
    return { text: answer.output_text, finish: answer.status };
  },
  stream: () => respondFlow(),
  usage: async () => respondCounts((await respond('counted')).usage),
  stream_usage: async () => (await respondFlow('counted')).usage,
  async tools(count = 1) {
    const tools = RESPONSES_TOOLS.slice(0, count);
    const answer = await respond('plain', { tools });
    const calls = callsOf(answer);
    const results = calls.map(({ call_id }) => ({ type: 'function_call_output', call_id, output: RESULT }));
    const input = [{ role: 'user', content: task.prompt }, ...answer.output, ...results];
    const after = await respond('plain', { tools, input });
    return { calls: calls.map((call) => [call.name, JSON.parse(call.arguments)]), text: after.output_text };
  },
  parallel_tools: () => responses.tools(2),
  tool_stream: () => respondFlow('plain', { tools: RESPONSES_TOOLS }),
  async structured() {
    const text = { format: { type: 'json_schema', name: 'city', schema: CITY, strict: true } };
    return { value: JSON.parse((await respond('shaped', { text })).output_text) };
  },
  async image() {
    const content = [
      { type: 'input_text', text: task.prompt },
      { type: 'input_image', image_url: `data:image/png;base64,${PIXEL}`, detail: 'auto' },
    ];
    return { text: (await respond('plain', { input: [{ role: 'user', content }] })).output_text };
  },
  thinking: () => respondFlow('thinking', { reasoning: { summary: 'auto' } }),
  silence: () => respondFlow('slow'),
  unknown: () => respondFlow('odd', { x_future: task.word }),
  async chain() {
    const first = await respond();
    return { text: (await respond('plain', { previous_response_id: first.id })).output_text };
  },
  async batch() {
    const [told, answers] = await batched('/v1/responses', { model: task.models.plain, input: task.prompt });
    const parts = answers.map(({ output }) => output.find(({ type }) => type === 'message').content[0].text);
    return { ...told, texts: parts };
  },
  async stored() {
    const first = await respond();
    const shown = await client.responses.retrieve(first.id);
    const said = [];
    for await (const item of client.responses.inputItems.list(first.id, { limit: 1 })) said.push(item.role);
    const unstoppable = await failing(() => client.responses.cancel(first.id, { maxRetries: 0 }));
    await client.responses.delete(first.id);
    const gone = await failing(() => client.responses.retrieve(first.id, {}, { maxRetries: 0 }));
    return {
      text: shown.output_text,
      // Several of the matrix's models stand for one of the provider's: which was asked is not kept.
      same: JSON.stringify({ ...shown, model: '' }) === JSON.stringify({ ...first, model: '' }),
      said,
      unstoppable: unstoppable.status,
      gone: gone.status,
    };
  },
  async conversation() {
    const { conversations } = client;
    const said = { type: 'message', role: 'user', content: task.prompt };
    const talk = await conversations.create({ metadata: { word: task.word }, items: [said] });
    const text = (await respond('plain', { conversation: talk.id })).output_text;
    await conversations.items.create(talk.id, { items: [said] });
    const listed = async (options) => {
      const names = [];
      for await (const item of conversations.items.list(talk.id, options)) names.push(item.id);
      return names;
    };
    const items = await listed({ limit: 2 });
    const one = await conversations.items.retrieve(items.at(-1), { conversation_id: talk.id });
    await conversations.items.delete(one.id, { conversation_id: talk.id });
    const left = await listed({});
    const renamed = await conversations.update(talk.id, { metadata: { word: 'other' } });
    const known = await conversations.retrieve(talk.id);
    await conversations.delete(talk.id);
    const gone = await failing(() => conversations.retrieve(talk.id, { maxRetries: 0 }));
    return {
      text,
      items: items.length,
      left: JSON.stringify(left) === JSON.stringify(items.slice(0, -1)),
      metadata: [talk.metadata, renamed.metadata, known.metadata],
      gone: gone.status,
    };
  },
  async ids() {
    return { request_id: (await respond())._request_id };
  },
  async repeat() {
    const request = { headers: { 'Idempotency-Key': `anew-${task.word}` } };
    return { ids: [(await respond('plain', {}, client, request)).id, (await respond('plain', {}, client, request)).id] };
  },
  bad_key: () => failing(() => respond('plain', {}, connect('no-such-key-000000'))),
  bad_model: () => failing(() => respond('absent')),
  no_money: () => failing(() => respond('plain', {}, connect(task.poor))),
  async rate() {
    const hurried = connect(task.hurried);
    await respond('plain', {}, hurried);
    const refused = await failing(() => respond('plain', {}, hurried, { maxRetries: 0 }));
    return { ...refused, text: (await respond('plain', {}, hurried)).output_text };
  },
  broken: () => breaking(() => respond('broken', { stream: true })),
  cut: () => breaking(() => respond('cut', { stream: true })),
};

await run(['openai'], { chat, responses });
