// Plays a moment: from its start to its end, with the words said at the time, and steps to the others of the video.

import { address, get, opensByItself } from "./api.js";
import { Boxer } from "./boxer.js";
import { announce, button, calm, clock, fill, h, icon, range } from "./dom.js";
import { captionsPath, timesOf } from "./hits.js";
import { keepImage } from "./images.js";
import { marked } from "./words.js";

const EARLY_S = 0.02; // a frame that is drawn late must not show what follows the moment

/** A player in a stage of the viewer. */
export class Player {
  /**
   * @param {Element} stage its place
   * @param {object} options hit; media: its address; video: whether there are images; terms: words to mark;
   *   quote: words that an answer rests on, or null; searchFrame({frame|image, region}): searches by a box;
   *   renewed(): the address of the media with a signature of now
   */
  constructor(stage, { hit, media, video, terms, quote, searchFrame, renewed }) {
    Object.assign(this, { hit, video, terms, quote, searchFrame, renewed });
    this.moments = [];
    this.stopAt = null;
    this.own = false; // whether a seek is the player's own
    this.element = h(video ? "video" : "audio", { preload: "auto", playsInline: true, tabIndex: -1, disablePictureInPicture: true, controlsList: "nodownload" });
    this.caption = h("div", { className: "caption", ariaHidden: "true" });
    this.surface = h("div", { className: video ? "surface" : "surface sounding" }, this.element, video ? null : icon("audio", "icon large"));
    this.screen = h("div", { className: "screen" }, this.surface, this.caption);
    this.transcript = h("ol", { className: "transcript", ariaLabel: "What is said" });
    this.steps = h("div", { className: "steps" });
    this.figure = h("figure", { className: "player" }, this.screen, this.controls(), this.steps);
    fill(stage, this.figure, this.transcript);
    this.connect(media);
  }

  controls() {
    this.playButton = button("", { icon: "play", className: "tool", ariaLabel: "Play", on: () => this.toggle() });
    this.back = button("", { icon: "previous", className: "tool", ariaLabel: "The moment before", title: "The moment before (←)", disabled: true, on: () => this.step(-1) });
    this.forth = button("", { icon: "next", className: "tool", ariaLabel: "The next moment", title: "The next moment (→)", disabled: true, on: () => this.step(1) });
    this.again = button("", { icon: "again", className: "tool", ariaLabel: "Play the moment again", title: "Play the moment again", on: () => this.playRange(this.times, { play: true }) });
    this.seek = h("input", { type: "range", className: "seek", min: "0", max: "1", step: "0.05", value: "0", ariaLabel: "Position", on: { input: () => this.jump(Number(this.seek.value)) } });
    this.marks = h("span", { className: "marks", ariaHidden: "true" });
    this.time = h("span", { className: "times" }, "0:00");
    this.boxButton = this.video ? button("", { icon: "box", className: "tool", ariaLabel: "Search by a part of this frame", title: "Search by a part of this frame", on: () => this.box() }) : null;
    return h("div", { className: "controls" }, this.playButton, this.back, this.forth, this.again, h("span", { className: "track" }, this.marks, this.seek), this.time, this.boxButton);
  }

  connect(media) {
    const { element } = this;
    element.addEventListener("play", () => this.playing());
    element.addEventListener("pause", () => this.paused());
    element.addEventListener("timeupdate", () => this.tick());
    element.addEventListener("loadedmetadata", () => this.sized());
    element.addEventListener("click", () => this.toggle());
    element.addEventListener("error", () => this.failed());
    this.media = media;
    this.captions = captionsPath(this.hit); // its signature is for the entries of the hit's asset, too
    if (this.captions === null) {
      queueMicrotask(() => this.captionSelf()); // once the range to play is known
      return;
    }
    this.track = h("track", { kind: "captions", srclang: "en", label: "Words", src: address(this.captions) });
    this.track.addEventListener("load", () => this.captioned(this.track.track));
    this.track.addEventListener("error", () => this.captionSelf());
    element.append(this.track);
    this.track.track.mode = "hidden"; // they are drawn below, with the words of the question marked
  }

  /** Ends playing and downloading. */
  close() {
    cancelAnimationFrame(this.frame);
    this.boxer?.close();
    this.element.pause();
    this.element.removeAttribute("src");
    this.element.load();
  }

  sized() {
    const { videoWidth, videoHeight, duration } = this.element;
    if (videoWidth) {
      this.surface.style.aspectRatio = `${videoWidth} / ${videoHeight}`;
      this.surface.style.maxWidth = `calc(min(46vh, 25rem) * ${videoWidth / videoHeight})`;
    }
    if (Number.isFinite(duration)) this.seek.max = String(duration);
    this.drawMarks();
  }

  async failed() {
    if (!this.element.getAttribute("src")) return;
    if (!opensByItself(this.media)) {
      const seconds = this.element.currentTime || this.times.startMs / 1000;
      const media = await this.renewed().catch(() => null); // the link was made when the search was
      if (!this.element.getAttribute("src")) return;
      if (media && opensByItself(media)) {
        this.media = media;
        this.element.src = `${media}#t=${seconds.toFixed(3)}`;
        return;
      }
    }
    fill(this.caption, "This recording cannot be played here.");
    announce("This recording cannot be played here");
  }

  // --- playing ---

  /** Goes to the start of a range, and plays it to its end. */
  playRange(times, { play }) {
    this.times = times;
    const start = times.startMs / 1000;
    this.stopAt = times.endMs > times.startMs ? times.endMs / 1000 : null;
    if (this.element.getAttribute("src")) this.jump(start, { own: true });
    else this.element.src = `${this.media}#t=${start.toFixed(3)}`; // its data are fetched from there on
    this.drawSteps();
    if (play) this.element.play().catch(() => {}); // refused without a gesture: the button is there
  }

  jump(seconds, { own = false } = {}) {
    const { times } = this;
    this.element.currentTime = seconds;
    const inside = seconds >= times.startMs / 1000 - 0.3 && seconds < times.endMs / 1000;
    if (own) this.stopAt = times.endMs > times.startMs ? times.endMs / 1000 : null;
    else if (!inside) this.stopAt = null; // the user goes where they like
    this.tick();
  }

  toggle() {
    if (!this.element.paused) this.element.pause();
    else {
      this.boxer?.close();
      // At the end of its moment, play goes on into the video.
      if (this.stopAt !== null && this.element.currentTime >= this.stopAt - 2 * EARLY_S) this.stopAt = null;
      this.element.play().catch(() => {});
    }
  }

  playing() {
    fill(this.playButton, icon("pause"));
    this.playButton.ariaLabel = "Pause";
    const watch = () => {
      if (this.element.paused) return;
      this.tick();
      this.frame = requestAnimationFrame(watch);
    };
    this.frame = requestAnimationFrame(watch);
  }

  paused() {
    fill(this.playButton, icon("play"));
    this.playButton.ariaLabel = "Play";
  }

  tick() {
    const now = this.element.currentTime;
    if (this.stopAt !== null && !this.element.paused && now >= this.stopAt - EARLY_S) this.element.pause();
    this.seek.value = String(now);
    this.seek.ariaValueText = clock(now * 1000);
    this.time.textContent = clock(now * 1000);
    this.captionAt(now);
  }

  // --- the moments of the video ---

  /** Takes the moments that the search finds in this video, which the arrows step through. */
  setMoments(hits, times) {
    const moments = hits.map(timesOf).filter(Boolean);
    if (!moments.some((moment) => moment.startMs <= times.startMs && moment.endMs >= times.endMs)) moments.push(times);
    this.moments = moments.sort((a, b) => a.startMs - b.startMs);
    this.drawSteps();
    this.drawMarks();
  }

  get place() {
    return this.moments.findIndex((moment) => moment.startMs <= this.times.startMs && moment.endMs >= this.times.endMs);
  }

  step(step) {
    const place = this.place + step;
    if (place < 0 || place >= this.moments.length) {
      announce(step > 0 ? "This is the last moment" : "This is the first moment");
      return;
    }
    this.playRange(this.moments[place], { play: true });
    announce(`Moment ${place + 1} of ${this.moments.length}, ${range(this.times.startMs, this.times.endMs)}`);
  }

  drawSteps() {
    const { place, moments } = this;
    this.back.disabled = place <= 0;
    this.forth.disabled = place < 0 || place >= moments.length - 1;
    if (moments.length < 2) {
      fill(this.steps);
      return;
    }
    const focused = this.steps.contains(document.activeElement);
    fill(this.steps, moments.map((moment, number) => button(range(moment.startMs, moment.endMs), { className: "step", ariaCurrent: number === place ? "true" : null, on: () => this.playRange(moment, { play: true }) })));
    if (focused) this.steps.children[Math.max(0, place)]?.focus();
  }

  drawMarks() {
    const { duration } = this.element;
    if (!Number.isFinite(duration) || duration === 0) return;
    fill(this.marks, (this.moments.length ? this.moments : [this.times]).map((moment) => {
      const mark = h("i");
      mark.style.insetInlineStart = `${(moment.startMs / 10 / duration).toFixed(3)}%`;
      mark.style.inlineSize = `${Math.max(0.8, (moment.endMs - moment.startMs) / 10 / duration).toFixed(3)}%`;
      return mark;
    }));
  }

  // --- words ---

  captioned(track) {
    this.cues = [...(track.cues ?? [])];
    if (this.cues.length === 0) this.captionSelf();
    else this.drawTranscript();
  }

  /** Takes the words of the hit where there are no captions of the whole recording. */
  captionSelf() {
    const said = (this.hit.moment?.members ?? [this.hit]).filter((member) => member.text);
    this.cues = said.map((member) => new VTTCue(member.start_ms / 1000, Math.max(member.end_ms, member.start_ms + 1) / 1000, member.text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")));
    this.drawTranscript();
  }

  drawTranscript() {
    this.lines = this.cues.map((cue) => h("li", {}, button(h("span", { className: "times" }, clock(cue.startTime * 1000)), { className: "cue", on: () => this.jumpTo(cue) })));
    this.lines.forEach((line, number) => line.firstChild.append(h("bdi", {}, this.words(this.cues[number]))));
    fill(this.transcript, this.lines);
    this.shown = undefined;
    this.captionAt(this.element.currentTime);
    this.scrollTo(this.lines[this.cues.findIndex((cue) => cue.endTime > this.times.startMs / 1000)]);
  }

  /** Returns the words of a cue: the quote of an answer marked if it is in them, else the words of the question. */
  words(cue) {
    const text = cue.getCueAsHTML().textContent.replace(/\s+/g, " ").trim();
    const at = this.quote ? text.indexOf(this.quote) : -1;
    if (at >= 0) return marked(text, [[at, at + this.quote.length]]);
    if (this.quote?.includes(text)) return marked(text, [[0, text.length]]);
    return marked(text, this.terms.find(text));
  }

  jumpTo(cue) {
    this.stopAt = null;
    this.element.currentTime = cue.startTime;
    this.element.play().catch(() => {});
  }

  captionAt(now) {
    const number = (this.cues ?? []).findIndex((cue) => cue.startTime <= now && now < cue.endTime);
    if (number === this.shown) return;
    this.shown = number;
    this.lines?.forEach((line, other) => line.toggleAttribute("data-now", other === number));
    fill(this.caption, number < 0 ? null : h("bdi", {}, this.words(this.cues[number])));
    if (number >= 0 && !this.element.paused) this.scrollTo(this.lines[number]);
  }

  scrollTo(line) {
    if (!line) return;
    const list = this.transcript;
    list.scrollTo({ top: line.offsetTop - list.clientHeight / 3, behavior: calm() ? "auto" : "smooth" });
  }

  // --- a box on the frame ---

  /** Lets the user draw a box on the paused frame, and searches by it. */
  box() {
    this.element.pause();
    this.boxer?.close();
    this.boxer = new Boxer(this.surface, { search: (region) => this.searchBox(region), closed: () => this.boxButton.focus() });
  }

  /** Returns the indexed frame of the shot at a time; null if there is none. */
  async frameAt(now) {
    if (this.captions === null) return null;
    try {
      const { entries } = await get(`${this.captions.replace("/captions.vtt?", "/entries?")}&collection=frame`);
      return entries.find(({ start_ms: start, end_ms: end }) => start <= now && now < end) ?? null;
    } catch {
      return null;
    }
  }

  /** By the indexed frame of this shot if it is known, else by the pixels that are seen. */
  async searchBox(region) {
    const now = this.element.currentTime * 1000;
    const frame = await this.frameAt(now);
    if (frame) {
      this.searchFrame({ frame: frame.id, region });
      return;
    }
    const [x, y, width, height] = region;
    const { videoWidth, videoHeight } = this.element;
    const canvas = h("canvas", { width: Math.max(1, Math.round(width * videoWidth)), height: Math.max(1, Math.round(height * videoHeight)) });
    canvas.getContext("2d").drawImage(this.element, -x * videoWidth, -y * videoHeight, videoWidth, videoHeight);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    this.searchFrame({ image: await keepImage(blob), region: null });
  }
}
