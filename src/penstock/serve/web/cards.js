// Draws a hit as a card of its kind, with what can be done with it.

import { button, h, icon, plural, range } from "./dom.js";
import { kindLine, kindOf, mediaAddress, nameOf, imageEntryOf, relevanceMark, thumbnail, timesOf, titleOf, titleText, wordsOfHit } from "./hits.js";
import { whyPanel } from "./why.js";
import { excerpt } from "./words.js";

/**
 * Returns the list item of a hit.
 * @param {object} options
 *   terms: the words to mark; number: of a source, or null; eager: whether its image is in the first view;
 *   onOpen(hit, opener), onLike(hit), onUnlike(hit): what its buttons do;
 *   explain(hit): a promise of the hit with its explanation; thumbs: buttons that judge the hit, or null
 */
export function card(hit, { terms, number = null, eager = false, onOpen, onLike, onUnlike, explain, thumbs = null }) {
  const kind = kindOf(hit);
  const why = h("div", { className: "why", id: `why-${hit.id}`, hidden: true });
  const whyButton = button("Why?", {
    className: "plain",
    ariaExpanded: "false",
    ariaLabel: `Why was ${titleOf(hit)} found?`,
    on: () => {
      document.querySelectorAll(".why:not([hidden])").forEach((other) => other !== why && other.closest(".card").querySelector(".deeds button").click());
      why.hidden = !why.hidden;
      whyButton.ariaExpanded = String(!why.hidden);
      if (!why.hidden) whyPanel(why, hit, explain);
    },
  });
  whyButton.setAttribute("aria-controls", why.id);
  why.addEventListener("keydown", (event) => event.key === "Escape" && whyButton.click());
  whyButton.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || why.hidden) return;
    event.preventDefault();
    whyButton.click();
  });
  const article = h(
    "article",
    { className: "card", data: { kind, id: hit.id }, ariaLabel: number === null ? nameOf(hit) : `Source ${number}: ${nameOf(hit)}` },
    opener(hit, { terms, number, eager, onOpen }),
    h(
      "div",
      { className: "below" },
      h("div", { className: "facts" }, relevanceMark(hit), hit.promoted && h("span", { title: "First for the share of its kind in the index" }, "Promoted"), hit.indexing && h("span", {}, "Still being indexed")),
      h(
        "div",
        { className: "deeds" },
        whyButton,
        onLike && button("More", { icon: "plus", className: "plain", ariaLabel: `More like ${titleOf(hit)}`, title: "More like this", on: () => onLike(hit) }),
        onUnlike && button("Less", { icon: "minus", className: "plain", ariaLabel: `Less like ${titleOf(hit)}`, title: "Less like this", on: () => onUnlike(hit) }),
        thumbs,
      ),
      why,
    ),
  );
  return h("li", {}, article);
}

/** Returns the part of the card that opens the hit: all of what it shows. */
function opener(hit, { terms, number, eager, onOpen }) {
  const kind = kindOf(hit);
  const times = timesOf(hit);
  const playable = times !== null && mediaAddress(hit) !== null;
  const verb = playable ? "Play" : "Open";
  const words = wordsOfHit(hit);
  const elsewhere = (hit.others ?? []).filter((other) => !hit.page || other.page !== hit.page);
  const show = h(
    "button",
    { type: "button", className: "open", ariaLabel: `${verb} ${nameOf(hit)}`, on: { click: () => onOpen(hit, show) } },
    imageEntryOf(hit) ? h("span", { className: "media" }, thumbnail(hit, { eager }), playable && playMark(times)) : null,
    kind === "audio" && !imageEntryOf(hit) ? h("span", { className: "media sound" }, waves(hit.id), playable && playMark(times)) : null,
    h(
      "span",
      { className: "says" },
      h("span", { className: "top" }, number !== null && h("span", { className: "number" }, String(number)), kindLine(hit, { timed: !playable })),
      h("span", { className: "name" }, titleText(hit)),
      words && h("span", { id: `says-${hit.id}`, className: kind === "text" || kind === "document" ? "passage" : "passage spoken" }, h("bdi", {}, excerpt(words, terms, kind === "text" || (kind === "document" && !imageEntryOf(hit)) ? 300 : 150))),
    ),
    elsewhere.length ? h("span", { className: "others" }, `${plural(elsewhere.length, "more place")} in it`) : null,
  );
  if (words) show.setAttribute("aria-describedby", `says-${hit.id}`);
  return show;
}

const playMark = (times) => h("span", { className: "playmark", ariaHidden: "true" }, icon("play", "icon solid"), range(times.startMs, times.endMs));

/** Returns bars that stand for audio. Their heights come from the id, so that a clip always looks the same. */
function waves(id) {
  const bars = h("span", { className: "waves", ariaHidden: "true" });
  for (let at = 0; at < 32; at += 1) {
    const bar = h("i");
    const phase = Math.sin((at / 31) * Math.PI);
    bar.style.blockSize = `${Math.round(12 + 78 * phase * (Number.parseInt(id[at % id.length], 16) / 15))}%`;
    bars.append(bar);
  }
  return bars;
}

/** Returns the line below which nothing fits well. */
export const floorLine = () => h("li", { className: "floor" }, h("span", {}, "Below this, nothing fits well"));

/** Returns grey shapes of cards, while a search runs. */
export function placeholders(count = 8) {
  return Array.from({ length: count }, () => h("li", { ariaHidden: "true" }, h("div", { className: "card ghost" }, h("span", { className: "media" }), h("span", { className: "bar1" }), h("span", { className: "bar2" }))));
}
