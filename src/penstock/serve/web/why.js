// Says why a hit was found: the channels with their places and shares, and what moved it.

import { fill, h } from "./dom.js";

const CHANNELS = {
  "text.passage": "Meaning of the text",
  "text.joint": "Text that an image could show",
  "text.lexical": "Words in the text",
  "image.joint": "What the image shows",
  "image.passage": "Meaning of its words",
  "image.lexical": "Words in the image",
  "speech.passage": "Meaning of what is said",
  "speech.lexical": "Words that are said",
  "frame.joint": "What the video shows",
  "frame.lexical": "Words in the video",
  "sound.joint": "How it sounds",
  "page.joint": "What the page shows",
  "page.lexical": "Words in the image of the page",
};

const NONE = { collections: [] };

/** Fills the panel of a hit: immediately with its ranks, and with shares when the explanation is there. */
export async function whyPanel(panel, hit, explain) {
  draw(panel, hit, null);
  try {
    const explained = await explain(hit);
    draw(panel, hit, explained?.explain ?? NONE);
  } catch {
    draw(panel, hit, NONE); // the ranks stand; the explanation only adds to them
  }
}

function draw(panel, hit, explanation) {
  const parts = new Map((explanation?.collections ?? []).flatMap((collection) => collection.channels).map((part) => [part.channel, part]));
  fill(
    panel,
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Found by"), h("th", { scope: "col" }, "Place"), h("th", { scope: "col" }, "Share"))),
      h("tbody", {}, hit.found_by.map((found) => row(found, parts.get(found.channel), explanation !== null))),
    ),
    sentences(hit, explanation).map((sentence) => h("p", {}, sentence)),
  );
}

function row(found, part, explained) {
  const share = part ? Math.round(part.share * 100) : null;
  const meter = share === null ? (explained ? "–" : "…") : h("span", { className: "share" }, gauge(share), `${share} %`);
  return h(
    "tr",
    {},
    h("th", { scope: "row", title: `${found.channel}, score ${found.score.toFixed(4)}` }, CHANNELS[found.channel] ?? found.channel),
    h("td", {}, `#${found.rank}`),
    h("td", {}, meter),
  );
}

function gauge(percent) {
  const fillBar = h("i");
  fillBar.style.inlineSize = `${percent}%`;
  return h("span", { className: "gauge", ariaHidden: "true" }, fillBar);
}

function sentences(hit, explanation) {
  const said = [];
  if (hit.relevance !== null) said.push(`It answers the question with an estimated probability of ${Math.round(hit.relevance * 100)} %.`);
  else said.push("How likely it answers is estimated for questions in words only.");
  if (explanation === null || explanation === NONE) return said;
  if (explanation.promoted) said.push("It stands first for the share of its kind in the index.");
  else if (explanation.reranked_rank !== null && explanation.reranked_rank !== explanation.fused_rank)
    said.push(`A model that reads question and words moved it from place ${explanation.fused_rank} to ${explanation.reranked_rank}.`);
  else if (explanation.rank !== explanation.fused_rank) said.push(`It moved from place ${explanation.fused_rank} to ${explanation.rank}.`);
  return said;
}
