// Copies an answer with its sources as plain text.

import { address } from "./api.js";
import { h, range } from "./dom.js";
import { timesOf, titleOf } from "./hits.js";

/** Returns an answer as text: its sentences with numbers, and the sources below. */
export function plainAnswer(answer) {
  const lines = answer.sources.map((source) => {
    const { hit } = source;
    const times = source.start_ms === null ? timesOf(hit) : { startMs: source.start_ms, endMs: source.end_ms };
    const where = source.play_url ? address(source.play_url) : hit.media_url ? address(hit.media_url) : hit.uri;
    const quote = source.quote ? ` “${source.quote}”` : "";
    return `[${source.n}] ${titleOf(hit)}${times ? `, ${range(times.startMs, times.endMs)}` : ""}:${quote} ${where}`;
  });
  return [answer.answer, "", ...lines].join("\n");
}

/** Copies a text. Returns whether the browser allowed it. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // on pages that are neither https nor of this machine
  }
}

function copyBySelection(text) {
  const before = document.activeElement;
  const area = h("textarea", { className: "quiet", value: text, ariaHidden: "true", tabIndex: -1 });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus({ preventScroll: true });
  return done;
}
