// Keyboard shortcuts of single keys, which can be switched off, and the theme.

import { announce, button, byId, fill, h, icon, remember, remembered } from "./dom.js";

const SHORTCUTS = [
  ["/", "To the search box"],
  ["Enter", "Search"],
  ["Ctrl+Enter", "Ask"],
  ["j  k", "To the next or previous result"],
  ["w", "Why was this result found?"],
  ["m", "More like this result"],
  ["u  d", "Up or down: this result answers it, or does not"],
  ["←  →", "In a video: the moment before, or the next one"],
  ["Space", "In a video: play or pause"],
  ["s", "Show or hide the stream"],
  ["Esc", "Close what is open"],
  ["?", "This list"],
];
const ALWAYS = new Set(["Enter", "Ctrl+Enter", "←  →", "Space", "Esc"]);

/** The shortcuts and their list. `app` has `box`, `viewer` and `live`. */
export class Keys {
  constructor(app) {
    this.app = app;
    this.on = remembered("keys") !== "off";
    this.dialog = byId("keys");
    byId("keys-toggle").addEventListener("click", () => this.show());
    document.addEventListener("keydown", (event) => this.pressed(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
  }

  show() {
    const single = h("input", { type: "checkbox", checked: this.on, on: { change: (event) => {
      this.on = event.target.checked;
      remember("keys", this.on ? null : "off");
    } } });
    fill(
      this.dialog,
      h("div", { className: "head" }, h("h2", { id: "keys-title" }, "Keyboard"), button("", { icon: "close", className: "tool", ariaLabel: "Close", on: () => this.dialog.close() })),
      h("dl", { className: "keylist" }, SHORTCUTS.map(([keys, words]) => h("div", {}, h("dt", {}, keys.split("  ").map((key) => h("kbd", {}, key))), h("dd", {}, words)))),
      h("label", { className: "check" }, single, "Shortcuts of single keys"),
      h("p", { className: "hint" }, `Without them, ${[...ALWAYS].slice(0, 2).join(", ")}, Esc and the keys of videos still work.`),
    );
    this.dialog.showModal();
  }

  pressed(event) {
    if (event.key === "Escape" && this.app.viewer.isOpen && !event.defaultPrevented && !document.querySelector("dialog:modal")) {
      event.preventDefault();
      this.app.viewer.dismiss();
      return;
    }
    if (!this.on || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable], .boxer") || document.querySelector("dialog:modal")) return;
    const act = {
      "/": () => this.app.box.focus(),
      "?": () => this.show(),
      j: () => this.step(1),
      k: () => this.step(-1),
      s: () => byId("stream-toggle").click(),
      w: () => this.card()?.querySelector(".deeds button")?.click(),
      m: () => this.card()?.querySelector(".deeds button:nth-of-type(2)")?.click(),
      u: () => this.judge("up"),
      d: () => this.judge("down"),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  card() {
    return document.activeElement?.closest(".card");
  }

  /** Presses a thumb of the card with the focus; of the answer, where no card has it. */
  judge(name) {
    const place = this.card() ?? document.querySelector("#answer .tools");
    place?.querySelector(`[data-vote=${name}]`)?.click();
  }

  step(step) {
    const cards = [...document.querySelectorAll(".content .card .open")].filter((open) => open.offsetParent !== null);
    const place = cards.findIndex((open) => open.closest(".card") === this.card());
    cards[place < 0 ? 0 : Math.min(cards.length - 1, Math.max(0, place + step))]?.focus();
  }
}

const THEMES = { system: ["theme", "as the system"], light: ["light", "light"], dark: ["dark", "dark"] };

/** Connects the switch of light, dark and the system's theme. */
export function connectTheme() {
  const toggle = byId("theme-toggle");
  const names = Object.keys(THEMES);
  const current = () => document.documentElement.dataset.theme ?? "system";
  const draw = () => {
    const [name, words] = THEMES[current()];
    fill(toggle, icon(name));
    toggle.ariaLabel = `Colours: ${words}`;
    toggle.title = toggle.ariaLabel;
  };
  toggle.addEventListener("click", () => {
    const next = names[(names.indexOf(current()) + 1) % names.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    remember("theme", next === "system" ? null : next);
    draw();
    announce(toggle.ariaLabel);
  });
  draw();
}
