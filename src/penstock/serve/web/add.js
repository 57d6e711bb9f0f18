// Adds files to the index, for those who may: each goes to the server as an event, and is found seconds later.

import { address, Problem, sendForm } from "./api.js";
import { authorization } from "./credentials.js";
import { announce, button, byId, fill, foreign, h, icon, plural } from "./dom.js";

const FOLDER = "uploads/"; // before the names of files, in their keys
const TRIES = 4;
const WORDS = { waiting: "Waiting", sending: "Sending …", accepted: "Accepted", failed: "Not accepted" };

/** The dialog that adds files. `app` has `state`. */
export class Add {
  constructor(app) {
    this.app = app;
    this.dialog = byId("add");
    this.toggle = byId("add-toggle");
    this.limits = null;
    this.rows = [];
    this.running = null;
    this.toggle.addEventListener("click", () => this.open());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.offer();
  }

  /** Shows the button to those who may add files. Asked again after a sign-in. */
  async offer() {
    try {
      // Without a sign-in where it is refused: nobody has asked for anything yet.
      const response = await fetch(address("v1/events"), { credentials: "same-origin", headers: authorization() });
      this.limits = response.ok ? await response.json() : null;
    } catch {
      this.limits = null;
    }
    this.toggle.hidden = this.limits === null;
  }

  get allowed() {
    return this.limits !== null;
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Opens the dialog, with files that are sent immediately. */
  open(files = []) {
    if (!this.allowed) return;
    if (!this.isOpen) {
      this.draw();
      this.dialog.showModal();
    }
    this.take(files);
  }

  draw() {
    const picker = h("input", { id: "add-files", type: "file", multiple: true, hidden: true, tabIndex: -1, ariaLabel: "Files to add", on: { change: (event) => {
      this.take([...event.target.files]);
      event.target.value = "";
    } } });
    this.list = h("ul", { className: "added", ariaLabel: "Files" });
    fill(
      this.dialog,
      h("div", { className: "head" }, h("h2", { id: "add-title" }, "Add to the index"), button("", { icon: "close", className: "tool", ariaLabel: "Close", on: () => this.dialog.close() })),
      h("div", { className: "target" }, icon("plus"), h("p", {}, "Drop files here, or"), button("Choose files", { className: "button primary", on: () => picker.click() })),
      picker,
      this.list,
      h("p", { className: "hint" }, `Everybody who may read ${this.tenant ? "this tenant" : "the index"} can find them. A file of the same name replaces the one before.`),
      h("div", { className: "quiet", role: "status" }),
    );
    this.drawRows();
  }

  get tenant() {
    return this.app.state.tenant.trim();
  }

  /** Takes files, and sends them one after the other. */
  take(files) {
    if (files.length === 0) return;
    const tenant = this.tenant;
    this.rows = [...this.rows.filter((row) => row.state === "waiting" || row.state === "sending"), ...files.map((file) => ({ file, tenant, state: "waiting", detail: "" }))];
    this.drawRows();
    this.running ??= this.sendAll().finally(() => (this.running = null));
  }

  async sendAll() {
    let accepted = 0;
    for (let row; (row = this.rows.find((each) => each.state === "waiting")); ) {
      this.change(row, "sending");
      try {
        await this.send(row);
        accepted += 1;
        this.change(row, "accepted");
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        this.change(row, "failed", error.detail || error.title);
      }
    }
    const failed = this.rows.filter((row) => row.state === "failed").length;
    announce(`${plural(accepted, "file")} accepted${failed ? `, ${failed} not` : ""}`);
  }

  /** Sends one file. One that the server cannot take now is sent again, and counts once. */
  async send({ file, tenant }) {
    if (file.size > this.limits.max_event_bytes) throw new Problem({ status: 413, title: "Too large", detail: `It has more than ${Math.floor(this.limits.max_event_bytes / 1e6)} MB` });
    const headers = crypto.randomUUID ? { "Idempotency-Key": crypto.randomUUID() } : {};
    for (let attempt = 1; ; attempt += 1) {
      const form = new FormData();
      form.append("event", JSON.stringify({ prefix: FOLDER, ...(tenant ? { tenant } : {}) }));
      form.append("file", file, file.name);
      try {
        return await sendForm("v1/events", form, { headers });
      } catch (error) {
        if (!(error instanceof Problem) || !error.passing || attempt === TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, (error.retryAfterS ?? 2 ** attempt) * 1000));
      }
    }
  }

  change(row, state, detail = "") {
    Object.assign(row, { state, detail });
    this.drawRows();
  }

  drawRows() {
    if (!this.list) return;
    fill(
      this.list,
      this.rows.map(({ file, state, detail }) =>
        h("li", { data: { state } }, foreign(file.name, "name"), h("span", { className: "outcome" }, WORDS[state], detail && `: ${detail}`)),
      ),
    );
  }
}
