// Tells the server which hit of a question somebody opened, where it takes that. Nobody waits for the answer.

import { address, takesFeedback } from "./api.js";
import { authorization } from "./credentials.js";

const SHOWN = 100; // the most that an event names
const told = new Set(); // of this page: opening a hit again says nothing new
let client = null;

/** Returns a random name of this tab, which tells users apart where they need no credentials. */
function clientId() {
  client ??= crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return client;
}

/** Sends that a hit was opened: the words of the question, the place of the hit, and what was shown. */
export function chose(question, hit, hits) {
  const vote = `${question}\n${hit.id}`;
  if (!takesFeedback() || told.has(vote)) return;
  told.add(vote);
  const ids = hits.map((other) => other.id);
  const body = { question, entry: hit.id, rank: Math.max(1, ids.indexOf(hit.id) + 1), shown: ids.slice(0, SHOWN), client_id: clientId(), tenant: hit.tenant };
  const headers = { "Content-Type": "application/json", ...authorization() };
  fetch(address("v1/feedback"), { method: "POST", credentials: "same-origin", keepalive: true, headers, body: JSON.stringify(body) }).catch(() => {});
}
