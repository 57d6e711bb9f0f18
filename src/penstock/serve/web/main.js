// Holds the page together: the state in the address, and who shows what of it.

import { Add } from "./add.js";
import { Answer } from "./answer.js";
import { aborted, post } from "./api.js";
import { Box } from "./box.js";
import { announce, byId, fill, h } from "./dom.js";
import { rememberLabel, titleOf } from "./hits.js";
import { connectTheme, Keys } from "./keys.js";
import { Live } from "./live.js";
import { clearNotices } from "./notices.js";
import { keptImage } from "./images.js";
import { Results } from "./results.js";
import { SignIn, takeBack } from "./sign-in.js";
import { Start } from "./start.js";
import { emptyState, readState, requestOf, searchable, wordsOf, writeState } from "./state.js";
import { Viewer } from "./viewer.js";
import { Terms } from "./words.js";

class App {
  constructor() {
    this.state = readState(location.search);
    this.box = new Box(this);
    this.results = new Results(this);
    this.answer = new Answer(this);
    this.viewer = new Viewer(this);
    this.live = new Live(this);
    this.start = new Start(this);
    this.keys = new Keys(this);
    this.add = new Add(this);
    this.signIn = new SignIn(this);
    connectTheme();
    history.scrollRestoration = "manual";
    addEventListener("popstate", () => this.wentBack());
    byId("home").addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.navigate({ ...emptyState(), tenant: this.state.tenant, kinds: this.state.kinds });
      this.box.focus();
    });
    document.addEventListener("scroll", () => {
      clearTimeout(this.scrolled);
      this.scrolled = setTimeout(() => this.noteScroll(), 150);
    }, { passive: true });
    this.drawFoot();
    this.box.show(this.state);
    this.live.start();
    this.run({ scroll: history.state?.scroll ?? 0 });
    if (!searchable(this.state) && matchMedia("(min-width: 700px)").matches) this.box.words.focus();
  }

  // --- the state ---

  /** The address of the search of this page, without what is open of it. */
  address(state = this.state) {
    return writeState(state, { open: false });
  }

  /** Goes to a changed state, as a step that "back" takes back. */
  navigate(changes) {
    const before = this.address(readState(location.search));
    this.noteScroll();
    this.state = { ...this.state, open: null, ...changes };
    const url = writeState(this.state) || location.pathname;
    if (this.address() === before) history.replaceState({ scroll: 0 }, "", url);
    else history.pushState({ scroll: 0 }, "", url);
    this.forget();
    this.viewer.close();
    this.box.show(this.state);
    this.live.restart();
    this.run({ scroll: 0 });
  }

  /** Notes a change that searches nothing by itself. */
  keep(changes) {
    const words = this.box.words.value;
    this.state = { ...this.state, ...changes };
    this.box.show(this.state);
    this.box.words.value = words;
    this.live.restart();
    if ("tenant" in changes && document.body.dataset.view === "empty") this.start.show();
    if (!searchable({ ...this.state, words: "", said: "" }) && "kinds" in changes) history.replaceState(history.state, "", writeState({ ...this.state, words: "" }) || location.pathname);
  }

  /** Takes a part of the search away. */
  remove(changes) {
    this.navigate({ ...this.box.typed(), ...changes });
  }

  /** Searches for the same again. */
  again() {
    this.forget();
    this.run({ scroll: null });
  }

  /** Forgets what this search found before: the index may have more by now. Only "back" shows it again. */
  forget() {
    this.results.kept.delete(this.address());
    this.answer.kept.delete(this.address());
  }

  noteScroll() {
    history.replaceState({ ...history.state, scroll: Math.round(scrollY) }, "");
  }

  wentBack() {
    const before = this.address();
    this.state = readState(location.search);
    if (this.address() !== before) {
      this.viewer.close();
      this.box.show(this.state);
      this.live.restart();
      this.run({ scroll: history.state?.scroll ?? 0 });
    } else this.reopen();
  }

  /** Shows what the state says. */
  async run({ scroll }) {
    const { state } = this;
    const asked = searchable(state);
    const asks = asked && state.ask && wordsOf(state) !== "";
    document.body.dataset.view = !asked ? "empty" : asks ? "answer" : "results";
    document.title = asked ? `${wordsOf(state) || "Search"} – Penstock` : "Penstock";
    if (asked) this.start.hide();
    if (!asks) this.answer.clear();
    if (asks || !asked) this.results.clear();
    if (!asked) {
      clearNotices();
      this.start.show();
    }
    const shown = !asked ? null : asks ? this.answer.run(this.address()) : this.results.run(this.address());
    if (scroll === 0) scrollTo(0, 0);
    await shown;
    if (scroll) scrollTo(0, scroll);
    if (asked && this.state === state) this.reopen();
  }

  // --- what is open ---

  get hits() {
    return this.state.ask ? this.answer.hits : this.results.hits;
  }

  get terms() {
    if (document.body.dataset.view === "empty") return new Terms(this.viewer.hit?.title ?? "");
    return this.state.ask ? this.answer.terms : this.results.terms;
  }

  /** Whether "less like this" has anything to search for besides. */
  get canAvoid() {
    return searchable(this.state) && !this.state.ask;
  }

  /** Opens a hit, as a step that "back" takes back. */
  open(hit, options) {
    const was = this.state.open;
    this.state = { ...this.state, open: hit.id };
    const url = writeState(this.state);
    if (was) history.replaceState(history.state, "", url);
    else {
      this.noteScroll();
      history.pushState({ scroll: Math.round(scrollY), opened: true }, "", url);
    }
    this.viewer.show(hit, options);
  }

  /** The viewer was closed by the user: the address is that of before. */
  closed() {
    if (!this.state.open) return;
    this.state = { ...this.state, open: null };
    if (history.state?.opened) history.back();
    else history.replaceState(history.state, "", writeState(this.state) || location.pathname);
  }

  /** Opens or closes what the address says, after "back", "forward" or a reload. Nothing plays by itself. */
  reopen() {
    const { open } = this.state;
    if (open === (this.viewer.hit?.id ?? null)) return;
    const hit = open && this.hits.find(({ id }) => id === open);
    if (hit) this.viewer.show(hit, { play: false, focus: false });
    else this.viewer.close();
  }

  // --- searches that begin at a hit ---

  more(hit) {
    rememberLabel(hit.id, titleOf(hit));
    const { like, words, said, image, frame, ask } = this.state;
    const further = like.length > 0 && !words && !said && !image && !frame && !ask;
    this.navigate({ ...this.withoutParts(), like: further ? [...new Set([...like, hit.id])] : [hit.id], not: further ? this.state.not.filter((id) => id !== hit.id) : [] });
    this.box.words.focus({ preventScroll: true });
  }

  less(hit) {
    rememberLabel(hit.id, titleOf(hit));
    this.navigate({ not: [...new Set([...this.state.not, hit.id])], like: this.state.like.filter((id) => id !== hit.id), ask: false });
    this.box.words.focus({ preventScroll: true });
  }

  /** Searches by a part of an image: {frame|image, region}. */
  searchBox({ frame = null, image = null, region = null }) {
    if (frame && this.viewer.hit) rememberLabel(frame, titleOf(this.viewer.hit));
    announce("Searching by the box");
    this.navigate({ ...this.withoutParts(), frame, image, region });
    this.box.words.focus({ preventScroll: true });
  }

  withoutParts() {
    const { words, said, image, frame, region, like, not, weights, ask, filter, literal } = emptyState();
    return { words, said, image, frame, region, like, not, weights, ask, filter, literal };
  }

  /** Returns the moments that this search finds in the video or recording of a hit. */
  async momentsOf(hit, signal) {
    const { state } = this;
    if (!searchable(state)) return [hit];
    const own = [{ topic: hit.topic }, { key: hit.key }];
    const filter = { and: state.filter ? [state.filter, ...own] : own };
    const body = requestOf({ ...state, kinds: [], filter, tenant: hit.tenant }, state.image && keptImage(state.image), { limit: 20 });
    try {
      const { hits } = await post("v1/search", body, { signal });
      const fitting = hits.filter((other) => !other.below_floor || other.id === hit.id);
      return fitting.length > 1 ? fitting : hits.slice(0, 6);
    } catch (error) {
      if (aborted(error)) throw error;
      return [hit];
    }
  }

  /** Returns the best hit of an asset for its own title, with addresses of now; null if it is gone. */
  async fresh({ title, key, topic, tenant }) {
    const understand = { spelling: "off", synonyms: false, rewrite: false };
    const body = { text: title || key, tenant, limit: 1, group_by: "asset", filter: { and: [{ topic }, { key }] }, understand };
    const { hits } = await post("v1/search", body);
    return hits[0] ?? null;
  }

  drawFoot() {
    fill(byId("foot"), h("p", {}, h("a", { href: "docs" }, "API"), " · ", "Everything on this page stays between this browser and its server."));
  }
}

await takeBack();
new App();
