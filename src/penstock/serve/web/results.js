// Searches, and shows the hits as they come: cards in order of rank, the line below which nothing fits, the next page.

import { aborted, post } from "./api.js";
import { card, floorLine, placeholders } from "./cards.js";
import { announce, button, byId, fill, foreign, h, icon, plural } from "./dom.js";
import { chose, thumbs } from "./feedback.js";
import { rememberLabel, titleOf } from "./hits.js";
import { clearNotices, notice, showProblem, succeeded } from "./notices.js";
import { keptImage, missingImage } from "./images.js";
import { requestOf, wordsAlone, wordsOf } from "./state.js";
import { understood } from "./understood.js";
import { Terms } from "./words.js";

const PAGE = 24; // six rows of four, three of eight: most people look no further
const KEPT = 12;
const GHOSTS_MS = 150; // an answer that comes sooner needs no placeholders

/** The results on the page. `app` has `navigate`, `open` and `state`. */
export class Results {
  constructor(app) {
    this.app = app;
    this.section = byId("results");
    this.kept = new Map(); // pages by address, so that "back" shows them without a search
    this.pages = [];
    this.running = null;
    this.explained = new Map();
  }

  /** All hits that are shown, in their order. */
  get hits() {
    return this.pages.flatMap((page) => page.hits);
  }

  get terms() {
    const [page] = this.pages;
    return page ? termsOf(page, this.app.state) : new Terms(wordsOf(this.app.state));
  }

  clear() {
    this.running?.abort();
    this.pages = [];
    this.explained.clear();
    this.section.hidden = true;
    fill(this.section);
  }

  /** Searches for the state of the page, or shows what it found before. Returns whether there are hits to show. */
  async run(address) {
    this.running?.abort();
    this.explained.clear();
    const controller = (this.running = new AbortController());
    clearNotices();
    if (this.kept.has(address)) {
      this.pages = this.kept.get(address);
      this.draw();
      return true;
    }
    const missing = missingImage(this.app.state);
    if (missing) {
      this.section.hidden = true;
      showProblem(missing, null);
      return false;
    }
    const ghosts = setTimeout(() => this.wait(), this.section.hidden ? 0 : GHOSTS_MS);
    this.section.ariaBusy = "true";
    try {
      const page = await post("v1/search", this.request(), { signal: controller.signal });
      this.pages = [page];
      this.keep(address);
      succeeded();
      this.draw();
      announce(this.headline(page));
      return true;
    } catch (error) {
      if (aborted(error)) return false;
      if (controller !== this.running) return false;
      this.pages = [];
      this.section.hidden = true;
      showProblem(error, () => this.app.again());
      return false;
    } finally {
      clearTimeout(ghosts);
      if (controller === this.running) this.section.ariaBusy = "false";
    }
  }

  request(extra = {}) {
    const state = this.app.state;
    return requestOf(state, state.image && keptImage(state.image), { limit: PAGE, ...extra });
  }

  keep(address) {
    this.kept.delete(address);
    this.kept.set(address, this.pages);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  wait() {
    this.section.hidden = false;
    fill(this.section, h("h2", { className: "quiet" }, "Results"), h("ol", { className: "cards" }, placeholders()));
  }

  headline(page) {
    const count = this.hits.length;
    if (count === 0) return "Nothing was found";
    if (page.nothing_found) return `Nothing fits well. ${plural(count, "nearest hit")}`;
    return page.next_cursor ? `The first ${plural(count, "result")}` : plural(count, "result");
  }

  draw() {
    const [page] = this.pages;
    this.section.hidden = false;
    this.list = h("ol", { className: "cards" });
    this.drawnFloor = false;
    this.foot = h("div", { className: "more" });
    fill(
      this.section,
      h("div", { className: "headline" }, h("h2", {}, this.headline(page)), h("span", { className: "took" }, took(page.took_ms.total))),
      understood(page, this.app),
      banners(page, this.hits.length),
      this.list,
      this.foot,
      limitations(page),
    );
    this.append(this.hits, 0);
  }

  /** Appends the cards of hits. Returns the first button among them. */
  append(hits, from) {
    const all = this.hits;
    const last = all.findLastIndex((hit) => !hit.below_floor);
    const rated = all.some((hit) => hit.relevance !== null);
    const items = [];
    hits.forEach((hit, number) => {
      rememberLabel(hit.id, titleOf(hit));
      if (rated && !this.drawnFloor && from + number === last + 1 && last >= 0) {
        this.drawnFloor = true;
        items.push(floorLine());
      }
      items.push(this.card(hit, { eager: from + number < 8 }));
    });
    this.list.append(...items);
    this.drawFoot();
    return items.map((item) => item.querySelector("button")).find(Boolean);
  }

  card(hit, options = {}) {
    return card(hit, {
      terms: this.terms,
      onOpen: (opened, opener) => {
        this.chose(opened);
        this.app.open(opened, { opener, play: true });
      },
      onLike: (liked) => this.app.more(liked),
      onUnlike: this.app.state.words || this.app.state.said || this.app.state.image || this.app.state.frame || this.app.state.like.length ? (unliked) => this.app.less(unliked) : null,
      explain: (explained) => this.explain(explained),
      thumbs: thumbs(wordsAlone(this.app.state), [hit], this.hits),
      ...options,
    });
  }

  /** Tells the server which hit was opened, if words alone were searched for. */
  chose(hit) {
    const words = wordsAlone(this.app.state);
    if (words) chose(words, hit, this.hits);
  }

  drawFoot() {
    const cursor = this.pages.at(-1)?.next_cursor;
    fill(this.foot, cursor ? button("More results", { className: "button", on: () => this.next(cursor) }) : null);
  }

  async next(cursor) {
    const more = this.foot.querySelector("button");
    more.disabled = true;
    more.textContent = "Searching …";
    const address = this.app.address();
    try {
      const page = await post("v1/search", this.request({ cursor }), { signal: this.running?.signal });
      const from = this.hits.length;
      this.pages = [...this.pages, page];
      this.keep(address);
      const first = this.append(page.hits, from);
      announce(page.hits.length ? `${plural(page.hits.length, "further result")}` : "There are no further results");
      first?.focus({ preventScroll: true });
      if (page.changed) this.foot.append(h("p", { className: "hint" }, "The index changed meanwhile. Search again for the newest order."));
    } catch (error) {
      if (aborted(error)) return;
      more.disabled = false;
      more.textContent = "More results";
      showProblem(error, error.status === 410 || error.status === 400 ? () => this.app.again() : () => this.next(cursor));
    }
  }

  /** Returns the hit with its explanation. All of a page are explained by one request. */
  explain(hit) {
    const number = this.pages.findIndex((page) => page.hits.some((other) => other.id === hit.id));
    if (number < 0) return Promise.resolve(null);
    if (!this.explained.has(number)) {
      const cursor = number === 0 ? {} : { cursor: this.pages[number - 1].next_cursor };
      this.explained.set(number, post("v1/search", this.request({ explain: true, ...cursor })));
    }
    return this.explained.get(number).then((page) => page.hits.find((other) => other.id === hit.id) ?? null);
  }
}

const took = (milliseconds) => (milliseconds < 1 ? "under 1 ms" : `${Math.round(milliseconds)} ms`);

/** Returns the words that a page of results is marked by. */
export function termsOf(page, state) {
  return new Terms(page.query?.used ?? wordsOf(state), page.query?.rewritten, page.transcript, ...Object.values(page.query?.synonyms ?? {}).flat());
}

/** Returns what has to be known before the hits are looked at. */
function banners(page, count) {
  const shown = [];
  if (page.partial) {
    const late = Object.entries(page.missing).map(([channel, reason]) => `${channel}: ${reason}`);
    shown.push(notice("warn", "Some of the index did not answer", ["Better results may be missing.", late.join("; ")]));
  }
  if (count === 0) shown.push(notice("info", "Nothing was found", [page.why ? `The reason: ${page.why}.` : null, "Fewer or other words, more kinds, or another tenant may help."]));
  else if (page.nothing_found) shown.push(notice("info", "Nothing here fits well", ["These are the nearest there are."]));
  return shown.length ? h("div", { className: "notices" }, shown) : null;
}

/** Returns what limits these results: of the models, and what the store does not offer. */
function limitations(page) {
  const absent = page.partial ? [] : Object.entries(page.missing).map(([channel, reason]) => `${channel}: ${reason}`);
  const lines = [...page.notices, ...absent];
  if (lines.length === 0) return null;
  return h("div", { className: "limits" }, icon("info", "icon tiny"), h("div", {}, lines.map((line) => h("p", {}, foreign(line)))));
}
