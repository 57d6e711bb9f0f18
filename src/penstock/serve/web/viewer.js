// Shows one hit whole: a text at its quote, an image, a video or a recording at its moment. Beside the results where
// there is room, above them where there is not.

import { aborted, showImage, text as fetchText } from "./api.js";
import { Boxer } from "./boxer.js";
import { announce, button, byId, fill, foreign, h, icon } from "./dom.js";
import { kindLine, kindOf, mediaAddress, nameOf, imageEntryOf, pageAddress, pageOf, relevanceMark, hitThumbnail, timesOf, titleOf, wordsOfHit } from "./hits.js";
import { Player } from "./player.js";
import { marked, unitOf } from "./words.js";

const WIDE = "(min-width: 1120px)";
const LONGEST_TEXT_BYTES = 400_000;
const PAGE_PX = 800; // of the stored images of pages

/** The viewer. `app` has `more`, `less`, `searchBox`, `momentsOf`, `closed` and `terms`. */
export class Viewer {
  constructor(app) {
    this.app = app;
    this.dialog = byId("viewer");
    this.status = this.dialog.querySelector("[role=status]");
    this.hit = null;
    this.player = null;
    this.opener = null;
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.dismiss();
    });
    this.dialog.addEventListener("keydown", (event) => this.pressed(event));
    matchMedia(WIDE).addEventListener("change", () => this.dialog.open && this.place());
  }

  get isOpen() {
    return this.dialog.open;
  }

  /**
   * Shows a hit.
   * @param {object} options
   *   opener: where the focus returns to; play: whether to play it, as the user chose it just now;
   *   quote: {quote, start_char, end_char, start_ms, end_ms} of an answer's source; focus: whether it takes the focus
   */
  async show(hit, { opener = null, play = false, quote = null, focus = true } = {}) {
    this.leave();
    this.hit = hit;
    this.opener = opener ?? this.opener;
    const current = (this.reading = new AbortController());
    document.querySelectorAll(".card[data-open]").forEach((card) => delete card.dataset.open);
    const shown = document.querySelector(`.card[data-id="${hit.id}"]`);
    if (shown) shown.dataset.open = "";
    const title = h("h2", { id: "viewer-title", tabIndex: -1 }, foreign(titleOf(hit)));
    const stage = h("div", { className: "stage" });
    this.hold(
      h("div", { className: "head" }, h("div", {}, kindLine(hit), title), button("", { icon: "close", className: "tool", ariaLabel: "Close", on: () => this.dismiss() })),
      h("div", { className: "body" }, stage, h("div", { className: "facts" }, relevanceMark(hit)), this.deeds(hit), origin(hit)),
    );
    const before = document.activeElement;
    this.place();
    if (!focus && !this.dialog.matches(":modal")) before?.focus({ preventScroll: true });
    if (focus) title.focus({ preventScroll: true });
    announce(`Opened ${nameOf(hit)}`);
    if (timesOf(hit)) await this.showMoment(stage, hit, { play, quote, current });
    else if (hit.collection === "image") this.showImage(stage, hit);
    else if (hit.page) this.showPage(stage, hit, quote);
    else await this.showText(stage, hit, quote, current.signal);
  }

  /** Opens the dialog: beside the results, or above them on narrow pages. */
  place() {
    if (this.dialog.open) this.dialog.close();
    document.body.dataset.viewer = "open";
    if (matchMedia(WIDE).matches) this.dialog.show();
    else this.dialog.showModal();
  }

  /** Closes by the wish of the user; the address changes with it. */
  dismiss() {
    this.close();
    this.app.closed();
  }

  close() {
    if (!this.dialog.open) return;
    this.leave();
    const { opener, hit } = this;
    const elsewhere = !this.dialog.contains(document.activeElement) && document.activeElement !== document.body;
    this.hit = this.opener = null;
    this.dialog.close();
    delete document.body.dataset.viewer;
    const card = document.querySelector(`.card[data-id="${hit?.id}"]`);
    if (card) delete card.dataset.open;
    const target = opener?.isConnected ? opener : (card?.querySelector("button") ?? byId("words"));
    if (!elsewhere) target.focus({ preventScroll: true });
    this.hold();
  }

  /** Fills the dialog, all but its status: one that is put in anew is not read out. */
  hold(...parts) {
    while (this.dialog.firstChild !== this.status) this.dialog.firstChild.remove();
    this.status.before(...parts);
  }

  leave() {
    this.reading?.abort();
    this.player?.close();
    this.player = null;
    this.boxer?.close();
    this.boxer = null;
  }

  deeds(hit) {
    const media = pageAddress(hit) ?? mediaAddress(hit);
    return h(
      "div",
      { className: "deeds" },
      button("More like this", { icon: "plus", className: "button small", on: () => this.app.more(hit) }),
      this.app.canAvoid && button("Less like this", { icon: "minus", className: "button small", on: () => this.app.less(hit) }),
      media && h("a", { className: "button small", href: media, target: "_blank", rel: "noopener" }, pageAddress(hit) ? `Open at page ${hit.page}` : "The original"),
    );
  }

  // --- text ---

  async showText(stage, hit, quote, signal) {
    const passage = hit.text ?? "";
    this.drawText(stage, passage, quote, 0, null);
    if (!hit.mime?.startsWith("text/plain") || mediaAddress(hit) === null) return;
    let whole;
    try {
      whole = await fetchText(hit.media_url, { longest: LONGEST_TEXT_BYTES, signal });
    } catch {
      return; // the passage stands, and it is what was found
    }
    const at = whole?.indexOf(passage) ?? -1;
    if (at < 0 || whole.trim() === passage.trim()) return;
    this.drawText(stage, whole, quote, at, passage.length);
  }

  /** Draws a text with its passage shaded, and the quote, or the words of the question, marked; scrolls to them. */
  drawText(stage, whole, quote, at, length) {
    const end = length === null ? whole.length : at + length;
    const passage = whole.slice(at, end);
    let ranges = this.app.terms.find(passage);
    const quoted = quote && quoteRange(passage, quote);
    if (quoted) ranges = [quoted];
    const inside = marked(passage, ranges, quoted ? { className: "quoted" } : {});
    const block = h("div", { className: "reading", tabIndex: 0, role: "group", ariaLabel: "Text" });
    if (length === null) block.append(h("bdi", {}, inside));
    else block.append(h("bdi", { className: "around" }, whole.slice(0, at)), h("bdi", { className: "found" }, inside), h("bdi", { className: "around" }, whole.slice(end)));
    fill(stage, block);
    const target = block.querySelector("mark") ?? block.querySelector(".found");
    if (target) block.scrollTop = Math.max(0, target.offsetTop - block.clientHeight / 3);
  }

  // --- documents ---

  /** Shows the page as it looks, or an image on it, and the passage below. */
  showPage(stage, hit, quote) {
    const words = h("div", {});
    if (hit.text) this.drawText(words, hit.text, quote, 0, null);
    if (!imageEntryOf(hit)) {
      fill(stage, words);
      return;
    }
    const image = h("img", { className: "sheet", alt: hit.figure ? `Image on ${pageOf(hit)}` : `The whole of ${pageOf(hit)}` });
    showImage(image, hitThumbnail(hit, PAGE_PX));
    const surface = h("div", { className: "surface" }, image);
    const screen = h("div", { className: "screen still page", tabIndex: 0, role: "group", ariaLabel: "Page" }, surface);
    fill(stage, screen, hit.collection === "page" && h("div", { className: "undertools" }, this.boxStart(hit, surface)), words);
  }

  // --- images ---

  showImage(stage, hit) {
    const media = mediaAddress(hit);
    const image = h("img", { className: "whole", alt: hit.text ? `Image with the words: ${hit.text}` : `Image: ${titleOf(hit)}` });
    showImage(image, hitThumbnail(hit, 640));
    if (media) {
      const large = new Image();
      large.onload = () => {
        image.src = media;
      };
      large.src = media;
      image.addEventListener("error", () => {
        if (image.src !== media) image.src = media;
      });
    }
    const surface = h("div", { className: "surface" }, image);
    fill(stage, h("div", { className: "screen still" }, surface), h("div", { className: "undertools" }, this.boxStart(hit, surface)), hit.text && h("p", { className: "caption-words" }, h("bdi", {}, marked(hit.text, this.app.terms.find(hit.text)))));
  }

  /** Returns the button that starts a box in an image. */
  boxStart(hit, surface) {
    const start = button("Search by a part of it", { icon: "box", className: "button small", on: () => {
      this.boxer?.close();
      this.boxer = new Boxer(surface, {
        search: (region) => this.app.searchBox({ frame: hit.id, region }),
        closed: () => start.focus(),
      });
    } });
    return start;
  }

  // --- video and sound ---

  async showMoment(stage, hit, { play, quote, current }) {
    const times = quote?.start_ms != null ? { startMs: quote.start_ms, endMs: quote.end_ms ?? quote.start_ms } : timesOf(hit);
    const media = mediaAddress(hit);
    if (media === null) {
      this.showElsewhere(stage, hit);
      return;
    }
    this.player = new Player(stage, {
      hit,
      media,
      video: kindOf(hit) === "video",
      terms: this.app.terms,
      quote: quote?.quote ?? null,
      searchFrame: (choice) => this.app.searchBox(choice),
      renewed: async () => mediaAddress((await this.app.fresh(hit)) ?? {}),
    });
    this.player.playRange(times, { play });
    try {
      const moments = await this.app.momentsOf(hit, current.signal);
      if (!current.signal.aborted) this.player.setMoments(moments, times);
    } catch (error) {
      if (!aborted(error)) this.player.setMoments([hit], times);
    }
  }

  showElsewhere(stage, hit) {
    const web = /^https?:\/\//.test(hit.uri ?? "");
    const still = h("img", { className: "whole", alt: "" });
    if (imageEntryOf(hit)) showImage(still, hitThumbnail(hit, 640));
    fill(
      stage,
      imageEntryOf(hit) ? h("div", { className: "screen still" }, still) : null,
      h("p", { className: "hint" }, "This recording is not kept here.", ...(hit.uri ? [" It is at ", web ? h("a", { href: hit.uri, target: "_blank", rel: "noopener noreferrer" }, foreign(hit.uri)) : foreign(hit.uri), "."] : [])),
      wordsOfHit(hit) && h("p", { className: "caption-words" }, h("bdi", {}, marked(wordsOfHit(hit), this.app.terms.find(wordsOfHit(hit))))),
    );
  }

  pressed(event) {
    if (event.key === "Escape" && !event.defaultPrevented) {
      event.preventDefault();
      event.stopPropagation();
      this.dismiss();
      return;
    }
    if (event.target.matches("input, textarea, .boxer *") || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (this.player && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      event.preventDefault();
      this.player.step(event.key === "ArrowRight" ? 1 : -1);
    }
    if (this.player && event.key === " " && !event.target.matches("button, a, summary")) {
      event.preventDefault();
      this.player.toggle();
    }
  }
}

/** Returns the range of a quote in a passage: by its place, which counts characters, or by its words. */
export function quoteRange(passage, { quote, start_char: start, end_char: end }) {
  if (start != null && end != null && end > start) {
    const range = [unitOf(passage, start), unitOf(passage, end)];
    if (!quote || passage.slice(...range) === quote) return range;
  }
  const at = quote ? passage.indexOf(quote) : -1;
  return at < 0 ? null : [at, at + quote.length];
}

/** Returns where a hit comes from, closed at first. */
function origin(hit) {
  const when = (time) => new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
  const rows = [
    ["Key", hit.key],
    ["Topic", hit.topic],
    ["Tenant", hit.tenant],
    ["Happened", when(hit.event_time)],
    ["Indexed", when(hit.indexed_at)],
    ["Type", hit.mime],
    ["Position", `${hit.origin.topic}, partition ${hit.origin.partition}, offset ${hit.origin.offset}`],
    ...Object.entries(hit.attributes ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
  return h(
    "details",
    { className: "origin" },
    h("summary", {}, icon("info", "icon tiny"), "Where it comes from"),
    h("dl", {}, rows.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, foreign(name)), h("dd", {}, foreign(value))))),
  );
}
