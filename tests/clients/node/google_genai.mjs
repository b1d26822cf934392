// Drive a gateway with the official Google Gen AI SDK for Node: Gemini's own methods.
import { GoogleGenAI } from '@google/genai';
import { CITY, PIXEL, RESULT, TOOLS, breaking, failing, run, task } from './telling.mjs';

const DECLARED = Object.entries(TOOLS).map(([name, description]) => ({ name, description, parametersJsonSchema: CITY }));

const connect = (apiKey = task.key, attempts = 1) =>
  new GoogleGenAI({ apiKey, httpOptions: { baseUrl: task.base, timeout: 20_000, retryOptions: { attempts } } });
const client = connect();

const ask = (model = 'plain', config = {}, { as = client, contents = task.prompt } = {}) =>
  as.models.generateContent({ model: task.models[model], contents, config });
const begin = (model = 'plain', config = {}) =>
  client.models.generateContentStream({ model: task.models[model], contents: task.prompt, config });

function told(answer) {
  const found = answer.candidates?.[0];
  const parts = found?.content?.parts ?? [];
  return {
    text: parts.map((part) => (part.thought ? '' : (part.text ?? ''))).join(''),
    thought: parts.map((part) => (part.thought ? (part.text ?? '') : '')).join(''),
    finish: found?.finishReason ?? null,
    calls: parts.filter((part) => part.functionCall).map(({ functionCall }) => [functionCall.name, functionCall.args]),
  };
}

async function flow(model = 'plain', config = {}) {
  const whole = { text: '', thought: '', finish: null, calls: [], pieces: 0, usage: null };
  for await (const chunk of await begin(model, config)) {
    const piece = told(chunk);
    whole.text += piece.text;
    whole.thought += piece.thought;
    whole.calls.push(...piece.calls);
    whole.finish = piece.finish ?? whole.finish;
    whole.pieces += piece.text ? 1 : 0;
    if (chunk.usageMetadata) whole.usage = counts(chunk.usageMetadata);
  }
  return whole;
}

// Gemini counts thoughts beside the candidates, not among them.
const counts = (usage) => ({
  input: usage.promptTokenCount,
  output: (usage.candidatesTokenCount ?? 0) + (usage.thoughtsTokenCount ?? 0),
  cached: usage.cachedContentTokenCount ?? 0,
  reasoning: usage.thoughtsTokenCount ?? 0,
});

const generate = {
  answer: async () => told(await ask()),
  stream: () => flow(),
  usage: async () => counts((await ask('counted')).usageMetadata),
  stream_usage: async () => (await flow('counted')).usage,
  async tools(count = 1) {
    const tools = [{ functionDeclarations: DECLARED.slice(0, count) }];
    const answer = await ask('plain', { tools });
    const results = answer.functionCalls.map(({ id, name }) => ({
      functionResponse: { id, name, response: { result: RESULT } },
    }));
    const contents = [
      { role: 'user', parts: [{ text: task.prompt }] },
      answer.candidates[0].content,
      { role: 'user', parts: results },
    ];
    return { ...told(answer), text: told(await ask('plain', { tools }, { contents })).text };
  },
  parallel_tools: () => generate.tools(2),
  tool_stream: () => flow('plain', { tools: [{ functionDeclarations: DECLARED }] }),
  async structured() {
    const answer = await ask('shaped', { responseMimeType: 'application/json', responseJsonSchema: CITY });
    return { value: JSON.parse(answer.text) };
  },
  async image() {
    const parts = [{ inlineData: { data: PIXEL, mimeType: 'image/png' } }, { text: task.prompt }];
    return told(await ask('plain', {}, { contents: [{ role: 'user', parts }] }));
  },
  async embeddings() {
    const answer = await client.models.embedContent({ model: task.models.embed, contents: ['um', task.word] });
    return { vectors: answer.embeddings.length, size: answer.embeddings[0].values.length };
  },
  async count() {
    return { tokens: (await client.models.countTokens({ model: task.models.plain, contents: task.prompt })).totalTokens };
  },
  async models() {
    const names = [];
    for await (const model of await client.models.list()) names.push(model.name.replace(/^models\//, ''));
    return { names };
  },
  async choices() {
    const { candidates } = await ask('plain', { candidateCount: 2 });
    return { texts: candidates.map((found) => found.content.parts.map((part) => part.text).join('')) };
  },
  thinking: () => flow('thinking', { thinkingConfig: { includeThoughts: true } }),
  silence: () => flow('slow'),
  unknown: () => flow('odd'), // Google itself refuses members it does not know
  async ids() {
    const { headers } = (await ask()).sdkHttpResponse;
    return { request_id: headers['x-request-id'] };
  },
  async repeat() {
    const config = { httpOptions: { headers: { 'Idempotency-Key': `again-${task.word}` } } };
    return { ids: [(await ask('plain', config)).responseId, (await ask('plain', config)).responseId] };
  },
  bad_key: () => failing(() => ask('plain', {}, { as: connect('no-such-key-000000') })),
  bad_model: () => failing(() => ask('absent')),
  no_money: () => failing(() => ask('plain', {}, { as: connect(task.poor, 3) })),
  async rate() {
    await ask('plain', {}, { as: connect(task.hurried) });
    const refused = await failing(() => ask('plain', {}, { as: connect(task.hurried) }));
    return { ...refused, text: told(await ask('plain', {}, { as: connect(task.hurried, 3) })).text };
  },
  broken: () => breaking(() => begin('broken')),
  cut: () => breaking(() => begin('cut')),
};

await run(['@google/genai'], { generate });
