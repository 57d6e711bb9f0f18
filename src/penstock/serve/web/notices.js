// Says in words what went wrong, what is missing, and what can be done; counts down to the next try.

import { announce, button, byId, fill, h, icon } from "./dom.js";

const FIRST_RETRY_S = 4; // where the server names no delay
const LONGEST_RETRY_S = 60;

let timer = null;
let tries = 0;

/** Removes what is shown, and ends a countdown. */
export function clearNotices() {
  clearInterval(timer);
  timer = null;
  fill(byId("notices"));
}

/** Forgets failed tries, after one that succeeded. */
export function succeeded() {
  tries = 0;
}

/** Returns a notice. `tone` is info, warn or bad. */
export function notice(tone, title, paragraphs = [], deeds = []) {
  return h(
    "div",
    { className: `notice ${tone}` },
    icon(tone === "info" ? "info" : "alert"),
    h("div", { className: "text" }, title && h("h2", {}, title), paragraphs.filter(Boolean).map((paragraph) => h("p", {}, paragraph)), deeds.length ? h("div", { className: "doing" }, deeds) : null),
  );
}

/**
 * Shows a failed request. One that may succeed later is tried again after a countdown, which the user can hurry or stop.
 * @param {object} problem of api.js
 * @param {Function|null} retry sends the request again
 */
export function showProblem(problem, retry) {
  clearNotices();
  const [title, paragraphs] = wordsOfProblem(problem);
  const box = byId("notices");
  if (!problem.passing || retry === null) {
    const deeds = [];
    if (problem.status === 401) deeds.push(button("Sign in", { className: "button small", on: () => dispatchEvent(new Event("sign-in")) }));
    if (retry && problem.status >= 500) deeds.push(button("Try again", { className: "button small", on: retry }));
    fill(box, notice("bad", title, paragraphs, deeds));
    announce(`${title}. ${paragraphs.join(" ")}`);
    return;
  }
  tries += 1;
  let left = Math.min(LONGEST_RETRY_S, Math.ceil(problem.retryAfterS ?? FIRST_RETRY_S * 2 ** (tries - 1)));
  const count = h("p", { className: "count" });
  const tell = () => {
    count.textContent = left > 0 ? `Trying again in ${left} s.` : "Trying again …";
  };
  const again = () => {
    clearInterval(timer);
    timer = null;
    left = 0;
    tell();
    retry();
  };
  const stop = button("Stop trying", { className: "button small", on: () => {
    clearInterval(timer);
    timer = null;
    count.textContent = "Stopped.";
    stop.remove();
  } });
  const shown = notice("warn", title, paragraphs, [button("Try now", { className: "button small", on: again }), stop]);
  shown.querySelector(".doing").before(count);
  tell();
  fill(box, shown);
  announce(`${title}. ${paragraphs.join(" ")} Trying again in ${left} seconds.`);
  timer = setInterval(() => {
    left -= 1;
    if (left <= 0) again();
    else tell();
  }, 1000);
}

/** Returns the title and the sentences of a failed request. */
export function wordsOfProblem(problem) {
  if (problem.offline) {
    return navigator.onLine === false
      ? ["You are offline", ["The search goes on when this device is connected again."]]
      : [problem.title, ["It may be restarting, or the connection is down. What you entered is kept."]];
  }
  if (problem.status === 401) return ["Sign in to search here", ["This server answers those who are signed in. What you entered is kept."]];
  if (problem.status === 403) return ["You may not do this here", [sentence(problem.detail)]];
  if (problem.status === 429) return ["Many people are searching right now", ["The server takes no further request for a moment. What you entered is kept."]];
  if (problem.status === 503) return ["The index does not answer at the moment", [sentence(problem.detail)]];
  if (problem.status === 413) return ["That is too large", [sentence(problem.detail)]];
  if (problem.status >= 500) return ["Something failed on the server", [sentence(problem.detail)]];
  return ["This cannot be searched for as it is", [sentence(problem.detail || problem.title)]];
}

/** Returns a detail of the API as a sentence. */
export function sentence(detail) {
  const text = detail.trim();
  if (!text) return "";
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

addEventListener("online", () => {
  if (timer !== null) byId("notices").querySelector(".doing .button")?.click();
});
