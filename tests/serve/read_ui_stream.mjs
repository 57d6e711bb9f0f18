// Sends a question as the AI SDK does, and prints the message that its own reader makes of the answer.
import { DefaultChatTransport, readUIMessageStream } from 'ai';

const messages = [{ id: 'm1', role: 'user', parts: [{ type: 'text', text: 'What do herons eat?' }] }];
const transport = new DefaultChatTransport({ api: process.argv[2] });
const stream = await transport.sendMessages({ chatId: 'chat', trigger: 'submit-message', messages });
const problems = [];
let last;
for await (const message of readUIMessageStream({ stream, onError: (error) => problems.push(String(error)) })) {
  last = message;
}
console.log(JSON.stringify({ message: last, problems }));
