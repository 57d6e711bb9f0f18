// Tells the server what somebody chose for a question, where it takes that: a hit that was opened, and thumbs up or down.

import { address, post, takesFeedback } from "./api.js";
import { authorization } from "./credentials.js";
import { announce, button, h } from "./dom.js";
import { titleOf } from "./hits.js";

const SHOWN = 100; // the most that an event names
const given = new Map(); // of this page, by question and entry: the action that the server has
let client = null;

const THUMBS = [
  { action: "like", icon: "up", word: "Helpful" },
  { action: "dislike", icon: "down", word: "Not helpful" },
];

/** Returns a random name of this tab, which tells users apart where they need no credentials. */
function clientId() {
  client ??= crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return client;
}

const voteOf = (question, hit) => `${question}\n${hit.id}`;

/** Returns the event: the words of the question, the hit, what was done with it, its place, and what was shown. */
function eventOf(question, hit, hits, action) {
  const ids = hits.map((other) => other.id);
  return { question, entry: hit.id, action, rank: Math.max(1, ids.indexOf(hit.id) + 1), shown: ids.slice(0, SHOWN), client_id: clientId(), tenant: hit.tenant };
}

/** Sends that a hit was opened, unless its reader said more about it before. Nobody waits for the answer. */
export function chose(question, hit, hits) {
  const vote = voteOf(question, hit);
  if (!takesFeedback() || given.has(vote)) return;
  given.set(vote, "click");
  const headers = { "Content-Type": "application/json", ...authorization() };
  const body = JSON.stringify(eventOf(question, hit, hits, "click"));
  fetch(address("v1/feedback"), { method: "POST", credentials: "same-origin", keepalive: true, headers, body }).catch(() => {});
}

/**
 * Returns two buttons that say whether hits answer a question; null where the server does not take that.
 * @param {string} question words; empty: the search was not one in words alone, and there is nothing to say about it
 * @param {Array} judged the hits that the buttons are about
 * @param {Array} hits what was shown
 * @param {object} options `name` of what is judged, for screen readers; `className` of the buttons
 */
export function thumbs(question, judged, hits, { name = null, className = "plain" } = {}) {
  if (!takesFeedback() || !question || judged.length === 0) return null;
  const label = name ?? titleOf(judged[0]);
  const isPressed = (action) => judged.every((hit) => given.get(voteOf(question, hit)) === action);
  const press = async ({ action, word }) => {
    const back = isPressed(action);
    const before = new Map(judged.map((hit) => [hit, given.get(voteOf(question, hit))]));
    for (const hit of judged) given.set(voteOf(question, hit), back ? "none" : action);
    redraw();
    // A dislike takes a like back, and one that is lifted leaves nothing to send.
    const sent = back ? (action === "like" ? "dislike" : null) : action;
    try {
      if (sent) await Promise.all(judged.map((hit) => post("v1/feedback", eventOf(question, hit, hits, sent))));
      announce(back ? "Taken back" : `Noted: ${word.toLowerCase()}`);
    } catch {
      for (const [hit, was] of before) was ? given.set(voteOf(question, hit), was) : given.delete(voteOf(question, hit));
      redraw();
      announce("It could not be noted. Try again later");
    }
  };
  const buttons = THUMBS.map((thumb) => button("", { icon: thumb.icon, className: `${className} vote`, data: { vote: thumb.icon }, ariaLabel: `${thumb.word}: ${label}`, title: thumb.word, on: () => press(thumb) }));
  const group = h("span", { className: "votes", role: "group", ariaLabel: `Does it answer the question? ${label}` }, buttons);
  group.addEventListener("judged", () => buttons.forEach((vote, place) => vote.setAttribute("aria-pressed", String(isPressed(THUMBS[place].action)))));
  group.dispatchEvent(new Event("judged"));
  return group;
}

/** Shows what is pressed now, on the cards of sources as well as below the answer. */
function redraw() {
  for (const group of document.querySelectorAll(".votes")) group.dispatchEvent(new Event("judged"));
}
