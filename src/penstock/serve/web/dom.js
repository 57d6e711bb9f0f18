// Builds elements. Whatever comes from the index or from a user is set as text here, and never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Returns the element with this id, which index.html has. */
export const byId = (id) => document.getElementById(id);

/**
 * Returns an element.
 * @param {string} tag
 * @param {object} options `on` has listeners by event; `data` the dataset; a property of the element, such as
 *   `className` or `value`, is set as one; every other name is an attribute. Null and false leave a name out.
 * @param {...(Node|string|null|Array)} children strings become text
 */
export function h(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (/^aria[A-Z]/.test(name)) element.setAttribute(`aria-${name.slice(4).toLowerCase()}`, String(value));
    else if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...nodes(children));
  return element;
}

/** Returns nodes and strings without what is null or false. */
function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** Returns an icon of the sprite in index.html. */
export function icon(name, className = "icon") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Returns text of a user, whose direction of writing does not leak into its surroundings. */
export function foreign(text, className = null) {
  return h("bdi", { className }, text);
}

/** Returns a button. */
export function button(label, { icon: name = null, className = "button", on, ...options }) {
  return h("button", { type: "button", className, on: { click: on }, ...options }, name && icon(name), label);
}

let said = null;

/**
 * Announces a sentence to screen readers, by the page's status, or by that of a modal dialog, outside which nothing is
 * read. The same sentence twice is announced twice.
 */
export function announce(sentence) {
  const status = document.querySelector("dialog:modal > [role=status]") ?? byId("status");
  said = said === sentence ? `${sentence}\u00a0` : sentence;
  status.textContent = said;
}

/** Returns 0:07 for 7,300 ms, and 1:02:03 above an hour. */
export function clock(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const tail = `${String(rest).padStart(2, "0")}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${tail}` : `${minutes}:${tail}`;
}

/** Returns "0:07–0:11". */
export const range = (startMs, endMs) => `${clock(startMs)}–${clock(Math.max(startMs, endMs))}`;

/** Returns "1 result" or "5 results". */
export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Returns what is stored under a key of this browser; null if storage is forbidden. */
export function remembered(key) {
  try {
    return localStorage.getItem(`penstock.${key}`);
  } catch {
    return null;
  }
}

/** Stores a choice of the user in this browser, where that is allowed. */
export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(`penstock.${key}`);
    else localStorage.setItem(`penstock.${key}`, value);
  } catch {
    // The choice holds until the page is left.
  }
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
