// Finds the words of a question in a text, to mark them and to choose the excerpt that has most of them.

import { h } from "./dom.js";

const COMMON = new Set(
  "a an and are as at be by can do does for from has have how i in is it its of on or that the there this to was what when where which who why will with you your".split(" "),
);
const WORD = /[\p{L}\p{N}\p{M}]+/gu;
const WITHOUT_SPACES = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;

const fold = (word) => word.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Returns the beginning that the forms of an English word share: enough to mark a plural, and no more. */
function stem(word) {
  const singular = word.length > 3 ? word.replace(/(?<!s)s$/, "") : word;
  const bare = singular.replace(/(?:ing|ed|e)$/, "");
  return bare.length >= 3 ? bare : singular;
}

/** The words of a question that are worth marking. */
export class Terms {
  constructor(...texts) {
    const words = texts.filter(Boolean).flatMap((text) => text.match(WORD) ?? []).map(fold);
    const telling = words.filter((word) => !COMMON.has(word));
    this.stems = new Set((telling.length ? telling : words).map(stem));
    this.runs = [...new Set(words)].filter((word) => WITHOUT_SPACES.test(word));
  }

  /** Returns the ranges [from, to) of a text that are words of the question. */
  find(text) {
    const found = [];
    for (const match of text.matchAll(WORD)) {
      const word = fold(match[0]);
      if (this.stems.has(stem(word))) found.push([match.index, match.index + match[0].length]);
      else for (const run of this.runs) {
        for (let at = match[0].indexOf(run); at >= 0; at = match[0].indexOf(run, at + run.length)) {
          found.push([match.index + at, match.index + at + run.length]);
        }
      }
    }
    return found.sort((a, b) => a[0] - b[0]);
  }
}

/** Returns the nodes of a text with ranges of it in <mark>. Ranges are in order; those that overlap are joined. */
export function marked(text, ranges, options = {}) {
  const nodes = [];
  let at = 0;
  for (const [from, to] of ranges) {
    if (to <= at) continue;
    const begin = Math.max(from, at);
    if (begin > at) nodes.push(text.slice(at, begin));
    nodes.push(h("mark", options, text.slice(begin, to)));
    at = to;
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

/** Returns the nodes of the part of a text, about `length` characters, that has most words of the question. */
export function excerpt(text, terms, length = 260) {
  const flat = text.replace(/\s+/g, " ").trim();
  if (flat.length <= length * 1.15) return marked(flat, terms.find(flat));
  const ranges = terms.find(flat);
  let [best, most] = [0, 0];
  for (const [from] of ranges) {
    const start = Math.max(0, from - length / 4);
    const words = new Set(ranges.filter(([f, t]) => f >= start && t <= start + length).map(([f, t]) => fold(flat.slice(f, t))));
    if (words.size > most) [best, most] = [start, words.size];
  }
  const start = best === 0 ? 0 : flat.indexOf(" ", best) + 1;
  const end = start + length >= flat.length ? flat.length : flat.lastIndexOf(" ", start + length);
  const piece = flat.slice(start, end);
  return [start > 0 ? "… " : "", ...marked(piece, terms.find(piece)), end < flat.length ? " …" : ""];
}

/** Returns where the character of a number, as Python counts them, begins in a text of JavaScript. */
export function unitOf(text, characters) {
  let unit = 0;
  for (let left = characters; left > 0 && unit < text.length; left -= 1) unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
  return unit;
}
