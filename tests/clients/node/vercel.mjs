// Drive a gateway with the AI SDK of Vercel: each of its providers that speaks one of our dialects.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { Output, embedMany, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import { CITY, PIXEL, RESULT, TOOLS, failing, run, task } from './telling.mjs';

const v1 = `${task.base}/v1`;
const providers = {
  responses: (apiKey) => createOpenAI({ baseURL: v1, apiKey }),
  chat: (apiKey) => createOpenAI({ baseURL: v1, apiKey }).chat,
  compatible: (apiKey) =>
    createOpenAICompatible({ baseURL: v1, apiKey, name: 'gateway', includeUsage: true, supportsStructuredOutputs: true }),
  messages: (apiKey) => createAnthropic({ baseURL: v1, apiKey }),
};

const counts = (usage) => ({
  input: usage.inputTokens,
  output: usage.outputTokens,
  cached: usage.inputTokenDetails?.cacheReadTokens,
});

function face(name) {
  const model = (which, key = task.key) => providers[name](key)(task.models[which]);
  const asking = (which, { key, ...options } = {}) => ({
    model: model(which, key),
    prompt: task.prompt,
    maxRetries: 0,
    ...options,
  });
  const ask = (which = 'plain', options = {}) => generateText(asking(which, options));

  function declared(count, calls) {
    const names = Object.entries(TOOLS).slice(0, count);
    const made = ([called, description]) => [
      called,
      tool({
        description,
        inputSchema: jsonSchema(CITY),
        execute: (input) => {
          calls.push([called, input]);
          return RESULT;
        },
      }),
    ];
    return Object.fromEntries(names.map(made));
  }

  async function flow(which = 'plain', options = {}) {
    const result = streamText({ ...asking(which, options), onError: () => {} });
    let [text, thought, pieces] = ['', '', 0];
    for await (const part of result.fullStream) {
      if (part.type === 'error') throw part.error;
      if (part.type === 'text-delta') [text, pieces] = [text + part.text, pieces + 1];
      if (part.type === 'reasoning-delta') thought += part.text;
    }
    return { text, thought, pieces, finish: await result.finishReason, usage: counts(await result.usage) };
  }

  async function breaks(which) {
    let pieces = 0;
    const end = await failing(async () => {
      for await (const part of streamText({ ...asking(which), onError: () => {} }).fullStream) {
        if (part.type === 'error') throw part.error;
        pieces += 1;
      }
    });
    return { ...end, pieces };
  }

  const scenarios = {
    async answer() {
      const { text, finishReason } = await ask();
      return { text, finish: finishReason };
    },
    stream: () => flow(),
    usage: async () => counts((await ask('counted')).usage),
    stream_usage: async () => (await flow('counted')).usage,
    async tools(count = 1) {
      const calls = [];
      const { text } = await ask('plain', { tools: declared(count, calls), stopWhen: stepCountIs(3) });
      return { calls, text };
    },
    parallel_tools: () => scenarios.tools(2),
    async tool_stream() {
      const calls = [];
      return { ...(await flow('plain', { tools: declared(2, calls), stopWhen: stepCountIs(3) })), calls };
    },
    async structured() {
      const { output } = await ask('shaped', { output: Output.object({ schema: jsonSchema(CITY) }) });
      return { value: output };
    },
    async image() {
      const content = [
        { type: 'text', text: task.prompt },
        { type: 'image', image: `data:image/png;base64,${PIXEL}` },
      ];
      const { text } = await ask('plain', { prompt: undefined, messages: [{ role: 'user', content }] });
      return { text };
    },
    async embeddings() {
      const provider = providers[name === 'chat' ? 'responses' : name](task.key);
      const { embeddings } = await embedMany({
        model: provider.embeddingModel(task.models.embed),
        values: ['um', task.word],
      });
      return { vectors: embeddings.length, size: embeddings[0].length };
    },
    async chain() {
      const first = await ask();
      const options = { openai: { previousResponseId: first.providerMetadata.openai.responseId } };
      return { text: (await ask('plain', { providerOptions: options })).text };
    },
    async ids() {
      return { request_id: (await ask()).response.headers['x-request-id'] };
    },
    async repeat() {
      const headers = { 'Idempotency-Key': `again-${name}-${task.word}` };
      return { ids: [(await ask('plain', { headers })).response.id, (await ask('plain', { headers })).response.id] };
    },
    thinking: () => flow('thinking', name === 'messages' ? thinkingOptions : {}),
    silence: () => flow('slow'),
    bad_key: () => failing(() => ask('plain', { key: 'no-such-key-000000' })),
    bad_model: () => failing(() => ask('absent')),
    no_money: () => failing(() => ask('plain', { key: task.poor, maxRetries: 2 })),
    async rate() {
      await ask('plain', { key: task.hurried });
      const refused = await failing(() => ask('plain', { key: task.hurried }));
      return { ...refused, text: (await ask('plain', { key: task.hurried, maxRetries: 2 })).text };
    },
    broken: () => breaks('broken'),
    cut: () => breaks('cut'),
  };
  return scenarios;
}

const thinkingOptions = { providerOptions: { anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } } } };

await run(
  ['ai', '@ai-sdk/openai', '@ai-sdk/openai-compatible', '@ai-sdk/anthropic'],
  Object.fromEntries(Object.keys(providers).map((name) => [name, face(name)])),
);
