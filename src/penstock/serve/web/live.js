// The stream as it arrives: what was just indexed, and how fresh it was.

import { aborted, events, Problem } from "./api.js";
import { announce, button, byId, fill, foreign, h, icon, remember, remembered } from "./dom.js";
import { sentence } from "./notices.js";

const ROWS = 20;
const LONGEST_WAIT_MS = 30_000;
const SHOWN = ["frame", "page"]; // what an asset is, where it has words too
const KINDS = { text: "text", image: "image", speech: "audio", frame: "video", sound: "audio", page: "document" };

/** The panel of the stream. `app` has `state` and `open`. */
export class Live {
  constructor(app) {
    this.app = app;
    this.panel = byId("stream");
    this.toggleButton = byId("stream-toggle");
    this.rows = [];
    this.waiting = [];
    this.paused = false;
    this.toggleButton.addEventListener("click", () => this.set(this.panel.hidden, true));
    document.addEventListener("visibilitychange", () => this.panel.hidden || this.connect());
  }

  /** Opens the panel where the user left it open, or on the first visit of a wide page. */
  start() {
    const chosen = remembered("stream");
    this.set(chosen === null ? matchMedia("(min-width: 1120px)").matches : chosen === "open", false);
  }

  set(open, chosen) {
    this.panel.hidden = !open;
    this.toggleButton.ariaExpanded = String(open);
    document.body.toggleAttribute("data-stream", open);
    if (chosen) {
      remember("stream", open ? "open" : "closed");
      if (open) this.panel.scrollIntoView({ block: "nearest" });
    }
    if (open) this.follow();
    else this.running?.abort();
  }

  /** Follows the stream again where it is shown, after a sign-in. */
  resume() {
    if (!this.panel.hidden) this.follow();
  }

  /** Begins again, for another tenant. */
  restart() {
    if (this.panel.hidden || this.tenant === this.app.state.tenant.trim()) return;
    this.follow();
  }

  /** Follows the stream from now on. */
  follow() {
    this.tenant = this.app.state.tenant.trim();
    this.rows = [];
    this.waiting = [];
    this.paused = false;
    this.lastEventId = null;
    this.draw();
    this.connect();
  }

  /** Follows the stream from where it was left, while the page is seen: six open tabs would take all connections. */
  async connect() {
    this.running?.abort();
    if (document.hidden) return;
    const controller = (this.running = new AbortController());
    let wait = 1000;
    while (!controller.signal.aborted) {
      try {
        const query = this.tenant ? `?${new URLSearchParams({ tenant: this.tenant })}` : "";
        for await (const event of events(`v1/live${query}`, { lastEventId: this.lastEventId, signal: controller.signal })) {
          wait = 1000;
          if (event.id !== null) this.lastEventId = event.id;
          this.take(event);
        }
      } catch (error) {
        if (aborted(error)) return;
        if (!(error instanceof Problem)) throw error;
        if (error.status === 401) {
          this.say("Sign in to see the stream.");
          return;
        }
        if (error.status === 404 || error.status === 400 || error.status === 403) {
          this.say("This server does not show its stream.");
          return;
        }
        if (error.retryAfterS) wait = error.retryAfterS * 1000;
        this.say(error.offline ? "Waiting for the server …" : sentence(error.detail || error.title));
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
      wait = Math.min(LONGEST_WAIT_MS, wait * 2);
    }
  }

  take({ event, data }) {
    if (event === "feed") this.say(data.available ? "" : "No news of the index arrives at the moment.");
    else if (event === "missed") this.say(data.changes ? `${data.changes} changes came too fast to show.` : "Some changes were missed.");
    else if (event === "indexed") {
      (this.paused ? this.waiting : this.rows).unshift(data);
      this.rows.length = Math.min(ROWS, this.rows.length);
      this.waiting.length = Math.min(ROWS, this.waiting.length);
      if (!this.scheduled) {
        this.scheduled = true;
        requestAnimationFrame(() => {
          this.scheduled = false;
          this.drawRows();
        });
      }
    }
  }

  draw() {
    this.pauseButton = button("Pause", { icon: "pause", className: "plain", ariaPressed: "false", on: () => this.pause() });
    this.note = h("p", { className: "hint" }, "Waiting for the next event …");
    this.list = h("ol", { className: "rows", ariaLabel: "What was just indexed, the newest first" });
    fill(this.panel, h("div", { className: "head" }, icon("stream"), h("h2", { id: "stream-title" }, "The stream"), this.pauseButton), this.note, this.list);
    this.drawRows();
  }

  pause() {
    this.paused = !this.paused;
    this.pauseButton.ariaPressed = String(this.paused);
    fill(this.pauseButton, icon(this.paused ? "play" : "pause"), this.paused ? "Continue" : "Pause");
    if (!this.paused) {
      this.rows = [...this.waiting, ...this.rows].slice(0, ROWS);
      this.waiting = [];
      this.drawRows();
    }
  }

  say(words) {
    this.note.textContent = words;
    this.note.hidden = words === "";
  }

  drawRows() {
    if (this.rows.length) this.say("");
    const known = new Map([...this.list.children].map((row) => [row.dataset.key, row]));
    const shown = this.rows.map((change) => {
      const key = `${change.topic}\n${change.key}\n${change.indexed_at}`;
      return known.get(key) ?? this.row(change, key);
    });
    // Only what is new is put in, and what is old is taken out: the row that has the focus stays.
    for (const row of [...this.list.children]) if (!shown.includes(row)) row.remove();
    shown.forEach((row, place) => {
      if (this.list.children[place] !== row) this.list.insertBefore(row, this.list.children[place] ?? null);
    });
  }

  row(change, key) {
    const [collection = "text"] = Object.keys(change.counts).sort((a, b) => Number(SHOWN.includes(b)) - Number(SHOWN.includes(a)));
    const title = change.title || change.key;
    const kind = KINDS[collection] ?? "text";
    const time = new Date(change.indexed_at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    const fresh = change.deleted ? "deleted" : `searchable after ${seconds(change.fresh_ms)}`;
    const words = [icon(change.deleted ? "close" : kind, "icon tiny"), h("span", { className: "name" }, foreign(title)), h("span", { className: "hint" }, `${time} · ${fresh}${change.complete ? "" : ", more follows"}`)];
    const inside = change.deleted ? h("div", { className: "row" }, words) : h("button", { type: "button", className: "row", on: { click: (event) => this.see(change, event.currentTarget) } }, words);
    return h("li", { data: { key } }, inside);
  }

  /** Opens what was indexed: its best hit for its own title. */
  async see(change, opener) {
    try {
      const hit = await this.app.fresh(change);
      if (hit) this.app.open(hit, { opener, play: true });
      else this.say("It is not there any more.");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.say("It cannot be shown at the moment.");
      announce("It cannot be shown at the moment");
    }
  }
}

/** Returns "0.4 s", "12 s" or "3 min". */
function seconds(milliseconds) {
  if (milliseconds < 9_950) return `${(milliseconds / 1000).toFixed(1)} s`;
  if (milliseconds < 120_000) return `${Math.round(milliseconds / 1000)} s`;
  return `${Math.round(milliseconds / 60_000)} min`;
}
