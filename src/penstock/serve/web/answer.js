// Asks, and shows the answer as it is written and checked: sentence by sentence, with marks that open its sources.

import { aborted, cancel, events, post, Problem } from "./api.js";
import { card } from "./cards.js";
import { announce, button, byId, fill, foreign, h, icon, plural } from "./dom.js";
import { thumbs } from "./feedback.js";
import { nameOf, rememberLabel, titleOf } from "./hits.js";
import { clearNotices, notice, sentence as sentenceOf, showProblem, succeeded } from "./notices.js";
import { keptImage, missingImage } from "./images.js";
import { copyText, plainAnswer } from "./copy.js";
import { requestOf, wordsAlone, wordsOf } from "./state.js";
import { understood } from "./understood.js";
import { Terms, unitOf } from "./words.js";

const RESUMES = 5;
const KEPT = 6;
const WRITTEN_MARKS = /\s*\[[\d,;\s]*\]?/g; // of the generator, before the check

const VERDICTS = {
  supported: "its source says so",
  partly: "its source says most of it",
  contradicted: "its source says otherwise",
  unsupported: "no source says so",
};

/** The answer on the page. `app` has `state`, `open`, `again` and `navigate`. */
export class Answer {
  constructor(app) {
    this.app = app;
    this.section = byId("answer");
    this.kept = new Map();
    addEventListener("pagehide", () => this.stopQuietly()); // nobody will read the rest
    this.clear();
  }

  clear() {
    this.stopQuietly();
    this.explained = null;
    this.sources = new Map(); // of the answer, by number
    this.given = []; // sources of the prompt
    this.sentences = [];
    this.dropped = 0;
    this.tokens = "";
    this.checked = 0;
    this.whole = null;
    this.section.hidden = true;
    fill(this.section);
  }

  get hits() {
    return this.shownSources().map(({ hit }) => hit);
  }

  get terms() {
    return new Terms(this.query?.used ?? wordsOf(this.app.state));
  }

  /** Asks the question of the page's state, or shows the answer it got before. */
  async run(address) {
    this.clear();
    clearNotices();
    const missing = missingImage(this.app.state);
    if (missing && !this.kept.has(address)) {
      showProblem(missing, null);
      return;
    }
    this.draw();
    if (this.kept.has(address)) {
      this.finish(this.kept.get(address));
      return;
    }
    const controller = (this.running = new AbortController());
    this.setBusy(true);
    try {
      await this.stream(controller.signal);
      if (this.whole) {
        this.kept.set(address, this.whole);
        if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
      }
    } catch (error) {
      if (aborted(error) || controller !== this.running) return;
      this.broke(error);
    } finally {
      if (controller === this.running) this.setBusy(false);
    }
  }

  /** Follows the events of the answer, through broken connections. */
  async stream(signal) {
    const state = this.app.state;
    const { text: question, ...search } = requestOf(state, state.image && keptImage(state.image));
    const body = { ...search, stream: true, resumable: true };
    if (question) body.question = question;
    this.id = this.lastEventId = null;
    let source = events("v1/ask", { body, signal });
    for (let left = RESUMES; ; left -= 1) {
      try {
        for await (const event of source) {
          if (event.id !== null) this.lastEventId = event.id;
          left = RESUMES;
          this.take(event);
          if (this.ended) return;
        }
        throw new Problem({ status: 0, title: "The connection broke", detail: "" });
      } catch (error) {
        if (!(error instanceof Problem) || !error.offline || this.id === null || left <= 0) throw error;
        this.say("The connection broke. Reconnecting …");
        await pause(400 * 2 ** (RESUMES - left), signal);
        source = events(this.path(), { lastEventId: this.lastEventId, signal });
      }
    }
  }

  path() {
    const tenant = this.app.state.tenant.trim();
    return `v1/ask/${this.id}${tenant ? `?${new URLSearchParams({ tenant })}` : ""}`;
  }

  take({ event, data }) {
    this.say("");
    if (event === "search") this.found(data);
    else if (event === "token") this.wrote(data.text);
    else if (event === "sentence") this.checkedSentence(data);
    else if (event === "done") {
      this.ended = true;
      this.finish(data);
      announce(data.abstained ? `The sources do not answer this. ${data.answer}` : "The answer is complete");
    } else if (event === "error") throw new Problem({ status: data.status, title: data.title, detail: data.detail ?? "" });
  }

  // --- as it comes ---

  draw() {
    this.ended = false;
    this.drawnSources = null;
    this.text = h("p", { className: "prose" });
    this.pending = h("span", { className: "pending", ariaHidden: "true" });
    this.text.append(this.pending);
    this.note = h("p", { className: "note", hidden: true });
    this.tools = h("div", { className: "tools" });
    this.removed = h("p", { className: "removed", hidden: true });
    this.above = h("div", { className: "notices" });
    this.list = h("ol", { className: "cards sources" });
    this.sourceBox = h("div", { className: "sourcebox", hidden: true }, h("h3", {}, "Sources"), this.list);
    this.title = h("h2", {}, "Answer");
    this.understoodBox = h("div");
    this.body = h("div", { className: "paper" }, h("div", { className: "head" }, icon("ask"), this.title), this.text, this.removed, this.note, this.tools);
    this.section.hidden = false;
    fill(this.section, this.understoodBox, this.above, this.body, this.sourceBox);
    this.section.dataset.state = "searching";
    this.say("Searching for sources …");
  }

  found(data) {
    succeeded();
    this.id = data.answer_id;
    this.query = data.query;
    this.given = data.sources;
    this.section.dataset.state = "writing";
    fill(this.understoodBox, understood({ query: data.query }, this.app));
    this.warn(data);
    this.drawSources();
    announce(`${plural(data.sources.length, "source")} found. Writing the answer`);
    this.say(data.sources.length ? "Reading the sources …" : "");
  }

  warn(data) {
    if (!data.partial) return;
    const late = Object.entries(data.missing).map(([channel, reason]) => `${channel}: ${reason}`);
    fill(this.above, notice("warn", "This answer rests on a part of the index", [late.length ? "Some of it did not answer in time." : "It ended early.", late.join("; ")]));
  }

  wrote(text) {
    this.tokens += text;
    this.drawPending();
  }

  drawPending() {
    this.pending.textContent = this.tokens.slice(this.checked).replace(WRITTEN_MARKS, "");
  }

  checkedSentence(data) {
    const to = unitOf(this.tokens, data.replaces[1]);
    this.checked = Math.max(this.checked, to);
    for (const source of data.sources) this.sources.set(source.n, source);
    if (data.dropped) {
      this.dropped += 1;
      this.drawDropped([]);
    } else {
      this.sentences.push(data);
      this.pending.before(this.sentence(data), " ");
      announce(data.text);
      this.drawSources();
    }
    this.drawPending();
  }

  /** Returns a checked sentence with the marks of its sources. */
  sentence(data) {
    const verdict = data.support;
    const marks = data.citations.map((number) => this.mark(number, data));
    const alone = marks.length === 0 && (verdict === "unsupported" || verdict === "contradicted") ? h("span", { className: "nosource" }, VERDICTS[verdict]) : null;
    return h("span", { className: "sentence", data: { support: verdict } }, foreign(data.text), marks.length ? "\u00a0" : "", marks, alone);
  }

  mark(number, data) {
    const { hit } = this.sources.get(number) ?? {};
    const verdict = VERDICTS[data.support] ?? "";
    const name = hit ? nameOf(hit) : "";
    const mark = button(String(number), { className: "cite", data: { support: data.support, n: String(number) }, ariaLabel: `Source ${number}: ${name}. ${verdict}`, title: hit ? `${titleOf(hit)}: ${verdict}` : verdict, on: () => this.openSource(number, data, mark) });
    return mark;
  }

  openSource(number, data, opener) {
    const source = this.sources.get(number);
    if (!source) return;
    const quoted = data?.quotes?.find((quote) => quote.n === number);
    const quote = quoted ? { ...quoted, quote: quoted.text } : source.quote ? source : null;
    this.app.open(source.hit, { opener, play: true, quote });
  }

  // --- when it is complete ---

  /** Shows the whole answer, also where it was never streamed. */
  finish(data) {
    this.whole = data;
    this.query = data.query;
    this.sources = new Map([...data.sources, ...data.also].map((source) => [source.n, source]));
    this.sentences = data.sentences;
    this.dropped = data.dropped.length;
    this.section.dataset.state = data.abstained ? "abstained" : "done";
    this.title.textContent = data.abstained ? "The sources do not say" : "Answer";
    this.pending.remove();
    const focused = document.activeElement?.closest(".cite")?.dataset.n;
    if (data.abstained) fill(this.text, foreign(data.answer));
    else fill(this.text, data.sentences.flatMap((sentence) => [this.sentence(sentence), " "]));
    if (focused) this.text.querySelector(`.cite[data-n="${focused}"]`)?.focus({ preventScroll: true });
    this.drawDropped(data.dropped);
    fill(this.understoodBox, understood({ query: data.query }, this.app));
    fill(this.above);
    this.warn(data);
    this.drawNote(data);
    this.drawTools();
    this.drawSources();
    this.setBusy(false);
  }

  drawNote(data) {
    const lines = [];
    if (data.abstained && data.why) lines.push(sentenceOf(data.why));
    if (data.abstained) lines.push("The nearest sources are below. Other words, or more kinds, may lead to better ones.");
    else lines.push(data.generator === "extractive" ? "Quoted word by word from the sources." : `Written by ${data.generator}; each sentence was checked against its source.`);
    lines.push(...data.notices);
    this.note.hidden = false;
    fill(this.note, lines.join(" "));
  }

  drawDropped(dropped) {
    this.removed.hidden = this.dropped === 0;
    if (this.dropped === 0) return;
    const told = `${plural(this.dropped, "sentence")} removed: not in the sources`;
    if (dropped.length === 0) fill(this.removed, told);
    else fill(this.removed, h("details", {}, h("summary", {}, told), h("ul", {}, dropped.map((sentence) => h("li", {}, h("del", {}, foreign(sentence.text)), sentence.because ? h("span", { className: "hint" }, ` ${sentenceOf(sentence.because)}`) : null)))));
  }

  drawTools() {
    const copied = button("Copy with sources", { icon: "copy", className: "button small", on: async () => {
      const done = await copyText(plainAnswer(this.whole));
      copied.lastChild.textContent = done ? "Copied" : "Copying is not allowed here";
      announce(copied.lastChild.textContent);
    } });
    const all = button("All results", { icon: "search", className: "button small", on: () => this.app.navigate({ ask: false }) });
    const answered = this.whole && !this.whole.abstained;
    const cited = answered ? this.whole.sources.map(({ hit }) => hit) : [];
    const judging = thumbs(wordsAlone(this.app.state), cited, this.hits, { name: "the answer", className: "button small" });
    this.putTools(answered ? copied : null, all, judging);
  }

  /** Puts other tools in place; the first takes the focus over from one that had it. */
  putTools(...tools) {
    const focused = this.tools.contains(document.activeElement);
    fill(this.tools, ...tools);
    if (focused) this.tools.firstChild.focus({ preventScroll: true });
  }

  /** The sources to show: those of the answer, and the others that it could rest on. */
  shownSources() {
    if (this.whole) return [...this.whole.sources, ...this.whole.also];
    const cited = [...this.sources.values()].sort((a, b) => a.n - b.n);
    const ids = new Set(cited.map(({ hit }) => hit.id));
    return [...cited, ...this.given.filter(({ hit }) => !ids.has(hit.id))];
  }

  drawSources() {
    const cited = new Set(this.sentences.flatMap((sentence) => sentence.citations));
    const shown = this.shownSources();
    const key = shown.map(({ n, hit }) => `${cited.has(n) && this.sources.has(n) ? n : "-"}${hit.id}`).join();
    this.sourceBox.hidden = shown.length === 0;
    if (key === this.drawnSources) return;
    this.drawnSources = key;
    const focused = this.list.contains(document.activeElement) ? document.activeElement.closest(".card")?.dataset.id : null;
    fill(
      this.list,
      shown.map((source, place) => {
        const { hit } = source;
        rememberLabel(hit.id, titleOf(hit));
        const number = this.sources.get(source.n)?.hit.id === hit.id && cited.has(source.n) ? source.n : null;
        const item = card(hit, {
          terms: this.terms,
          number,
          eager: place < 4,
          onOpen: (_, opener) => (number === null ? this.app.open(hit, { opener, play: true }) : this.openSource(number, this.sentences.find((sentence) => sentence.citations.includes(number)), opener)),
          onLike: (liked) => this.app.more(liked),
          onUnlike: null,
          explain: (explained) => this.explain(explained),
          thumbs: thumbs(wordsAlone(this.app.state), [hit], this.hits),
        });
        if (number === null) item.firstChild.dataset.unused = "";
        return item;
      }),
    );
    if (focused) this.list.querySelector(`.card[data-id="${focused}"] button`)?.focus({ preventScroll: true });
  }

  /** Returns a source with its explanation, by the search that found it. */
  async explain(hit) {
    const { state } = this.app;
    this.explained ??= post("v1/search", requestOf(state, state.image && keptImage(state.image), { limit: 24, explain: true }));
    return (await this.explained).hits.find((other) => other.id === hit.id) ?? null;
  }

  // --- stopping and failing ---

  setBusy(busy) {
    this.section.ariaBusy = String(busy);
    if (busy) fill(this.tools, button("Stop", { icon: "stop", className: "button small", on: () => this.stop() }));
  }

  say(words) {
    this.note.hidden = words === "";
    this.note.textContent = words;
  }

  stopQuietly() {
    if (!this.running) return;
    this.running.abort();
    this.running = null;
    if (this.id && !this.ended) cancel(this.path());
  }

  stop() {
    this.stopQuietly();
    this.setBusy(false);
    this.pending.textContent = "";
    this.section.dataset.state = "stopped";
    this.say(this.sentences.length ? "Stopped. What was checked stays." : "Stopped.");
    const again = button("Ask again", { icon: "again", className: "button small", on: () => this.app.again() });
    fill(this.tools, again);
    again.focus();
    announce("Stopped");
  }

  broke(error) {
    this.pending.textContent = "";
    if (this.sentences.length === 0 && this.given.length === 0) {
      this.section.hidden = true;
      showProblem(error, () => this.app.again());
      return;
    }
    this.section.dataset.state = "stopped";
    this.say("The answer ended early. What was checked stays.");
    this.putTools(button("Ask again", { icon: "again", className: "button small", on: () => this.app.again() }));
    announce("The answer ended early");
  }
}

/** Waits, unless it is aborted. */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}
