// The page before a search: what can be done here, with examples from the index itself.

import { aborted, get, post } from "./api.js";
import { byId, fill, foreign, h, icon, plural } from "./dom.js";
import { imageEntryOf, kindOf, nameOf, rememberLabel, thumbnail, titleOf } from "./hits.js";

const IMAGES = 8;
const ASKS = /^(?:what|why|how|who|where|when|which|do|does|is|are|can|may)\b/i;
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

/** The start of the page. `app` has `state`, `navigate`, `more` and `box`. */
export class Start {
  constructor(app) {
    this.app = app;
    this.section = byId("start");
  }

  hide() {
    this.running?.abort();
    this.section.hidden = true;
  }

  /** Shows the start, and fills it with titles and images of the index when they come. */
  async show() {
    this.running?.abort();
    const { signal } = (this.running = new AbortController());
    this.section.hidden = false;
    this.words = h("ul", { className: "examples" });
    this.asks = h("ul", { className: "examples" });
    this.strip = h("ul", { className: "strip" });
    this.images = h("div", { className: "from", hidden: true }, h("h2", {}, "In the index now: choose one for more like it"), this.strip);
    this.facts = h("p", { className: "facts" });
    fill(this.section, this.ways(), this.images, this.facts);
    try {
      const word = await this.word(signal);
      await Promise.all([this.showTitles(word, signal), this.showImages(word, signal), this.showFacts(signal)]);
    } catch (error) {
      if (error.status === 401) fill(this.facts, "Sign in to see what can be found here.");
      else if (!aborted(error)) this.showSilence();
    }
  }

  ways() {
    const way = (name, title, words, ...more) => h("li", { className: "way" }, icon(name), h("div", {}, h("h2", {}, title), h("p", {}, words), more));
    const act = (label, id) => h("button", { type: "button", className: "link", on: { click: () => byId(id).click() } }, label);
    return h(
      "ul",
      { className: "ways" },
      way("search", "In words", "Titles and whole sentences work; so do other words for the same thing.", this.words),
      way("image", "By image", ["Drop one anywhere, paste it, or ", act("choose one", "pick"), ". Words beside it narrow it down."]),
      way("voice", "By voice", ["Say what you look for: ", act("record it", "record"), ". What was heard can be changed before the search."]),
      way("ask", "Ask", "An answer is written from what is found, and each sentence shows its source.", this.asks),
    );
  }

  /** Returns a word that many entries of the index have, another one at each start. */
  async word(signal) {
    const letters = [...LETTERS].sort(() => Math.random() - 0.5).slice(0, 3);
    for (const letter of letters) {
      const query = new URLSearchParams({ q: letter, limit: "10" });
      if (this.app.state.tenant) query.set("tenant", this.app.state.tenant);
      const { suggestions } = await get(`v1/suggest?${query}`, { signal });
      const words = suggestions.filter(({ kind, text }) => kind === "word" && text.length >= 5).map(({ text }) => text);
      if (words.length) return words[Math.floor(Math.random() * words.length)];
    }
    return null;
  }

  search(word, modalities, limit, signal) {
    const body = { text: word ?? "anything", modalities, limit };
    if (this.app.state.tenant) body.tenant = this.app.state.tenant;
    return post("v1/search", body, { signal });
  }

  async showTitles(word, signal) {
    const { hits } = await this.search(word, ["text", "audio", "video", "document"], 12, signal);
    const titles = [...new Set(hits.filter(({ title }) => title && title.length < 60).map(({ title }) => title))].slice(0, 3);
    const example = (words, ask) => h("li", {}, h("a", { className: "example", href: `?${new URLSearchParams({ q: words, ...(ask ? { ask: "1" } : {}) })}`, on: { click: (event) => this.follow(event, words, ask) } }, foreign(words)));
    fill(this.words, titles.map((title) => example(title, false)));
    fill(this.asks, titles.length ? example(questionOf(titles), true) : null);
  }

  follow(event, words, ask) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    this.app.navigate({ words, ask });
  }

  async showImages(word, signal) {
    const { hits } = await this.search(word, ["image", "video"], IMAGES * 3, signal);
    const seen = new Map(hits.filter(imageEntryOf).map((hit) => [`${hit.topic}\n${hit.key}`, hit]));
    const distinct = [...seen.values()].slice(0, IMAGES);
    this.images.hidden = distinct.length < 2;
    fill(
      this.strip,
      distinct.map((hit) => {
        rememberLabel(hit.id, titleOf(hit));
        return h("li", {}, h("button", { type: "button", className: "swatch", ariaLabel: `More like ${nameOf(hit)}`, on: { click: () => this.app.more(hit) } }, thumbnail(hit, { width: 320, eager: true }), kindOf(hit) === "video" ? h("span", { className: "playmark", ariaHidden: "true" }, icon("play", "icon solid")) : null));
      }),
    );
  }

  async showFacts(signal) {
    const status = await get("v1/status", { signal }).catch((error) => {
      if (error.status === 403) return { assets: null }; // these facts are for operators
      throw error;
    });
    if (status.assets === 0) this.showEmptyIndex();
    else if (status.assets !== null) fill(this.facts, `${plural(status.assets, "asset")} can be found.`, status.notice ? ` ${status.notice}` : "");
  }

  showEmptyIndex() {
    fill(this.facts, "The index is empty. ", h("code", {}, "penstock produce photos/ notes/"), " sends files into it; they can be found seconds later.");
  }

  showSilence() {
    fill(this.facts, "The server does not answer at the moment. What is entered here is searched for when it does.");
  }
}

/** Returns a question that titles suggest. */
function questionOf(titles) {
  const asking = titles.find((title) => ASKS.test(title));
  return asking ? asking.replace(/[.?]?$/, "?") : `What do the sources say about “${titles[0]}”?`;
}
