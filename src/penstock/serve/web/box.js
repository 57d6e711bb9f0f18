// The search box: words with suggestions, images and recordings that are typed, dropped, pasted, chosen or recorded.

import { aborted, get, showImage } from "./api.js";
import { announce, button, byId, fill, foreign, h, icon } from "./dom.js";
import { labelOf, thumbnailAddress } from "./hits.js";
import { notice } from "./notices.js";
import { imageAddress, keepImage, keptImage, UnusableFileError } from "./images.js";
import { partsOf, searchable } from "./state.js";
import { Voice } from "./voice.js";

const PAUSE_MS = 60; // between letters of a fast typist

/** The search box. `app` has `state`, `navigate` and `again`. */
export class Box {
  constructor(app) {
    this.app = app;
    this.words = byId("words");
    this.listbox = byId("suggestions");
    this.options = [];
    this.active = -1;
    this.voice = new Voice(app, (said) => this.heard(said));
    this.connect();
  }

  connect() {
    byId("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(false);
    });
    byId("ask").addEventListener("click", () => this.submit(true));
    byId("pick").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", (event) => {
      this.take([...event.target.files]);
      event.target.value = "";
    });
    byId("record").addEventListener("click", () => this.voice.toggle());
    byId("kinds").addEventListener("change", () => this.filtersChanged());
    byId("tenant").addEventListener("change", () => this.filtersChanged());
    this.words.addEventListener("input", () => this.soon());
    this.words.addEventListener("keydown", (event) => this.pressed(event));
    this.words.addEventListener("blur", () => this.close());
    this.listbox.addEventListener("mousedown", (event) => event.preventDefault()); // the box keeps the focus
    document.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      this.take(files);
    });
    this.connectDrop();
  }

  connectDrop() {
    const drop = byId("drop");
    const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      drop.hidden = false;
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) drop.hidden = true;
    });
    document.addEventListener("drop", (event) => {
      drop.hidden = true;
      if (!holdsFiles(event)) return;
      event.preventDefault();
      const files = [...event.dataTransfer.files];
      if (this.app.add.isOpen) this.app.add.take(files);
      else this.take(files);
    });
  }

  /** Shows a state in the box. */
  show(state) {
    this.words.value = state.words;
    byId("tenant").value = state.tenant;
    for (const kind of byId("kinds").querySelectorAll("input")) kind.checked = state.kinds.includes(kind.value);
    this.close();
    this.drawChips(state);
  }

  focus() {
    this.words.focus();
    this.words.select();
  }

  /** The words as they stand in the fields, which may differ from those that were searched for. */
  typed() {
    return { words: this.words.value, said: byId("said")?.value ?? this.app.state.said };
  }

  submit(ask) {
    this.close();
    const changes = { ...this.typed(), ask, tenant: byId("tenant").value };
    const next = { ...this.app.state, ...changes };
    if (!searchable(next)) {
      this.words.focus();
      announce("Type what to search for, or add an image or a recording");
      return;
    }
    // What was done with other words says nothing about these.
    if (changes.words !== this.app.state.words) changes.literal = [];
    this.app.navigate(changes);
  }

  filtersChanged() {
    const kinds = [...byId("kinds").querySelectorAll("input:checked")].map((kind) => kind.value);
    const changes = { kinds, tenant: byId("tenant").value };
    if (searchable(this.app.state)) this.app.navigate({ ...changes, ...this.typed() });
    else this.app.keep(changes);
  }

  /** Takes images and recordings in. */
  async take(files) {
    const image = files.find((file) => file.type.startsWith("image/"));
    const audio = files.find((file) => file.type.startsWith("audio/"));
    if (image) {
      try {
        const key = await keepImage(image);
        announce("The image was added");
        this.app.navigate({ image: key, region: null, frame: null, ...this.typed(), ask: false });
      } catch (error) {
        if (!(error instanceof UnusableFileError)) throw error;
        this.refuse(error.message);
      }
    } else if (audio) this.voice.transcribe(audio);
    else this.refuse("Only images and recordings can be searched by.", files);
  }

  refuse(message, files = []) {
    const deeds = files.length > 0 && this.app.add.allowed ? [button("Add to the index", { className: "button small", on: () => this.app.add.open(files) })] : [];
    fill(byId("notices"), notice("bad", "This file cannot be searched by", [message], deeds));
    announce(message);
  }

  heard(said) {
    this.app.keep({ said });
    const field = byId("said");
    field.focus();
    field.select();
    announce(`Heard: ${said}. Change it if it is wrong, then search.`);
  }

  // --- chips ---

  drawChips(state) {
    const chips = byId("chips");
    const several = partsOf(state).length > 1;
    const items = [];
    if (state.said) items.push(this.saidChip(state));
    if (state.image) items.push(this.imageChip(state));
    if (state.frame) items.push(this.frameChip(state));
    for (const id of state.like) items.push(this.entryChip("like", id, state));
    for (const id of state.not) items.push(this.entryChip("not", id, state));
    const { control } = chips.contains(document.activeElement) ? document.activeElement.dataset : {};
    chips.hidden = items.length === 0;
    fill(chips, items, several ? this.weights(state) : null);
    if (control) (chips.querySelector(`[data-control="${control}"]`) ?? chips.querySelector("[type=range]") ?? this.words).focus({ preventScroll: true });
  }

  chip(kind, children, removal, label) {
    return h(
      "li",
      { className: "chip", data: { kind } },
      children,
      button("", { icon: "close", className: "remove", ariaLabel: `Remove ${label}`, on: () => {
        this.words.focus();
        this.app.remove(removal);
      } }),
    );
  }

  saidChip(state) {
    const field = h("input", { id: "said", data: { control: "said" }, className: "said", type: "text", value: state.said, ariaLabel: "What was heard; change it if it is wrong", size: Math.min(48, Math.max(12, state.said.length)) });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        this.submit(event.ctrlKey || event.metaKey);
      }
    });
    return this.chip("said", [icon("voice", "icon tiny"), field], { said: "" }, "the spoken words");
  }

  imageChip(state) {
    const known = keptImage(state.image) !== null;
    const shown = known
      ? h("img", { src: imageAddress(state.image), alt: "", width: 32, height: 32 })
      : icon("alert", "icon tiny");
    const name = known ? (state.region ? "Part of your image" : "Your image") : "An image that only the tab had it came from";
    return this.chip("image", [shown, h("span", {}, name)], { image: null, region: null }, "the image");
  }

  frameChip(state) {
    const shown = h("img", { alt: "", width: 32, height: 32 });
    showImage(shown, thumbnailAddress(state.frame, state.tenant, 96));
    const title = labelOf(state.frame);
    return this.chip("frame", [shown, h("span", {}, state.region ? "Box in " : "Like the image ", title ? foreign(title) : "a frame")], { frame: null, region: null }, "the frame");
  }

  entryChip(name, id, state) {
    const title = labelOf(id) ?? "an entry";
    const words = name === "like" ? "More like " : "Less like ";
    return this.chip(name, [icon(name === "like" ? "plus" : "minus", "icon tiny"), h("span", {}, words, foreign(title))], { [name]: state[name].filter((other) => other !== id) }, words.toLowerCase() + title);
  }

  /** Returns the sliders by which parts count more or less than others. */
  weights(state) {
    const names = { text: "Words", image: "Image", frame: "Frame", like: "More like", not: "Less like" };
    const sliders = partsOf(state).map((part) => {
      const value = state.weights[part] ?? (part === "not" ? 0.5 : 1);
      return h(
        "label",
        { className: "weight" },
        names[part],
        h("input", { type: "range", data: { control: part }, min: "0", max: "1", step: "0.1", value: String(value), ariaLabel: `Weight of: ${names[part]}`, on: { change: (event) => this.app.navigate({ ...this.typed(), weights: { ...state.weights, [part]: Number(event.target.value) } }) } }),
      );
    });
    const weighed = Object.keys(state.weights).length > 0;
    return h("li", { className: "weights" }, h("span", { className: "hint" }, "Weights"), sliders, weighed && button("Reset", { className: "plain", data: { control: "reset" }, on: () => this.app.navigate({ ...this.typed(), weights: {} }) }));
  }

  // --- suggestions ---

  soon() {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.suggest(), PAUSE_MS);
  }

  async suggest() {
    this.asking?.abort();
    const typed = this.words.value;
    if (!typed.trim() || typed.length > 200) {
      this.close();
      return;
    }
    this.asking = new AbortController();
    const query = new URLSearchParams({ q: typed, limit: "8" });
    const tenant = byId("tenant").value.trim();
    if (tenant) query.set("tenant", tenant);
    try {
      const { suggestions } = await get(`v1/suggest?${query}`, { signal: this.asking.signal });
      if (document.activeElement === this.words && this.words.value === typed) this.offer(suggestions.filter(({ text }) => text !== typed));
    } catch (error) {
      if (!aborted(error)) this.close(); // the search itself says what is wrong; one that was given up has a successor
    }
  }

  offer(suggestions) {
    this.active = -1;
    this.options = suggestions.map(({ text, kind, count }, number) =>
      h(
        "li",
        { id: `suggestion-${number}`, role: "option", ariaSelected: "false", data: { text }, on: { click: () => this.choose(number) } },
        icon(kind === "title" ? "text" : "search", "icon tiny"),
        foreign(text),
        h("span", { className: "hint" }, kind === "title" ? "title" : count.toLocaleString("en")),
      ),
    );
    fill(this.listbox, this.options);
    const some = suggestions.length > 0;
    this.listbox.hidden = !some;
    this.words.ariaExpanded = String(some);
    this.words.removeAttribute("aria-activedescendant");
  }

  close() {
    clearTimeout(this.pause);
    this.asking?.abort();
    this.offer([]);
  }

  choose(number) {
    this.words.value = this.options[number].dataset.text;
    this.submit(false);
  }

  move(step) {
    const count = this.options.length;
    this.active = (this.active + step + count + 1) % (count + 1);
    this.options.forEach((option, number) => {
      option.ariaSelected = String(number === this.active);
    });
    if (this.active < count) {
      this.words.setAttribute("aria-activedescendant", this.options[this.active].id);
      this.options[this.active].scrollIntoView({ block: "nearest" });
    } else {
      this.active = -1;
      this.words.removeAttribute("aria-activedescendant");
    }
  }

  pressed(event) {
    const open = !this.listbox.hidden;
    if (event.isComposing) return;
    if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      this.move(event.key === "ArrowDown" ? 1 : this.active < 0 ? this.options.length : -1);
    } else if (open && event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (open && this.active >= 0) this.words.value = this.options[this.active].dataset.text;
      this.submit(event.ctrlKey || event.metaKey);
    }
  }
}
