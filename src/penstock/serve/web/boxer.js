// A box on an image, drawn with a pointer or moved with the arrow keys, to search by what is in it.

import { announce, button, h } from "./dom.js";

const STEP = 0.02;
const SMALLEST = 0.06;

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** A box over a surface that shows an image. Regions are [x, y, width, height] in shares of its sides. */
export class Boxer {
  /**
   * @param {Element} surface as large as the image
   * @param {object} options search(region), closed(): called when the box is given up
   */
  constructor(surface, { search, closed }) {
    Object.assign(this, { surface, search, closed });
    this.region = [0.25, 0.25, 0.5, 0.5];
    this.box = h("div", { className: "box", tabIndex: 0, role: "group", ariaLabel: "Box to search by", ariaDescription: "Arrow keys move it, with Shift they change its size, Enter searches, Escape gives up" });
    this.go = button("Search this", { className: "button small primary", on: () => this.finish() });
    this.stop = button("Cancel", { className: "button small", on: () => this.cancel() });
    this.layer = h("div", { className: "boxer" }, this.box, h("div", { className: "boxdoing" }, this.go, this.stop));
    this.layer.addEventListener("pointerdown", (event) => this.begin(event));
    this.layer.addEventListener("keydown", (event) => this.pressed(event));
    surface.append(this.layer);
    this.draw();
    this.box.focus({ preventScroll: true });
    announce("Draw a box, or move this one with the arrow keys, and press Enter");
  }

  close() {
    this.layer.remove();
  }

  cancel() {
    this.close();
    this.closed();
  }

  finish() {
    const { region } = this;
    this.close();
    this.search(region);
  }

  draw() {
    const [x, y, width, height] = this.region;
    const { style } = this.box;
    style.insetInlineStart = style.left = `${x * 100}%`;
    style.top = `${y * 100}%`;
    style.width = `${width * 100}%`;
    style.height = `${height * 100}%`;
  }

  place(event) {
    const { left, top, width, height } = this.layer.getBoundingClientRect();
    return [clamp((event.clientX - left) / width, 0, 1), clamp((event.clientY - top) / height, 0, 1)];
  }

  begin(event) {
    if (event.target.closest(".boxdoing") || event.button !== 0) return;
    event.preventDefault();
    const [x, y] = this.place(event);
    const moves = event.target === this.box;
    const before = [...this.region];
    this.layer.setPointerCapture(event.pointerId);
    const drag = (move) => {
      const [toX, toY] = this.place(move);
      if (moves) this.set([before[0] + toX - x, before[1] + toY - y, before[2], before[3]]);
      else this.set([Math.min(x, toX), Math.min(y, toY), Math.max(Math.abs(toX - x), SMALLEST), Math.max(Math.abs(toY - y), SMALLEST)]);
    };
    const end = () => {
      this.layer.removeEventListener("pointermove", drag);
      this.layer.removeEventListener("pointerup", end);
      this.layer.removeEventListener("pointercancel", end);
      this.go.focus({ preventScroll: true });
    };
    this.layer.addEventListener("pointermove", drag);
    this.layer.addEventListener("pointerup", end);
    this.layer.addEventListener("pointercancel", end);
  }

  set([x, y, width, height]) {
    const wide = clamp(width, SMALLEST, 1);
    const high = clamp(height, SMALLEST, 1);
    this.region = [clamp(x, 0, 1 - wide), clamp(y, 0, 1 - high), wide, high];
    this.draw();
  }

  pressed(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.cancel();
      return;
    }
    if (event.target !== this.box) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.finish();
      return;
    }
    const [dx, dy] = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key] ?? [0, 0];
    if (dx === 0 && dy === 0) return;
    event.preventDefault();
    event.stopPropagation();
    const [x, y, width, height] = this.region;
    this.set(event.shiftKey ? [x, y, width + dx, height + dy] : [x + dx, y + dy, width, height]);
    const [left, top, wide, high] = this.region.map((share) => Math.round(share * 100));
    announce(`Box ${wide} by ${high} percent, ${left} percent from the left, ${top} from the top`);
  }
}
