// The second upstream as a process: one JSON line says where it is, SIGTERM ends it.
import { LLMock } from '@copilotkit/aimock';

const TOOLS = ['forecast', 'climate'];
const FORECAST = { city: 'São Paulo', days: 3 };

const mock = new LLMock({ port: 0, host: '127.0.0.1', chunkSize: 9, journalMaxEntries: 50 });
const ours = (request) =>
  (request.tools ?? []).map((tool) => tool.function?.name).filter((name) => TOOLS.includes(name));
const answered = (request) => request.messages.some((message) => message.role === 'tool');

for (const count of [1, 2]) {
  mock.on(
    { predicate: (request) => ours(request).length === count && !answered(request) },
    { toolCalls: TOOLS.slice(0, count).map((name) => ({ name, arguments: JSON.stringify(FORECAST) })) },
  );
}
// Each command-line client reads its own member.
for (const [name, member] of [['exec_command', 'cmd'], ['Bash', 'command']]) {
  mock.on(
    { predicate: (request) => request.model.endsWith(`-${member}`) && !answered(request) },
    { toolCalls: [{ name, arguments: JSON.stringify({ [member]: 'echo quarenta e dois' }) }] },
  );
}
mock.on({ predicate: (request) => request.model.includes('shaped') }, { content: JSON.stringify(FORECAST) });
mock.onEmbedding(/./, { embedding: [0, 0.125, 0.25, 0.5] });
mock.onMessage(/./, { content: 'Olá! The second upstream answers: ação ✓ 🎉.' });

await mock.start();
process.on('SIGTERM', () => mock.stop().then(() => process.exit(0)));
process.stdout.write(`${JSON.stringify({ root: mock.url })}\n`);
