// Shows what was made of the words of a search, and takes each of it back.

import { button, byId, foreign, h, icon } from "./dom.js";

const KINDS = { text: "texts", image: "images", speech: "speech", frame: "video frames", sound: "sounds", page: "pages" };

/** Returns the lines about a page's query; null where it was searched exactly as written. */
export function understood(page, app) {
  const query = page.query;
  if (!query) return null;
  const lines = [spelling(query, app), rewriting(query, app), synonyms(query, app), route(query, app), filter(query, app), literal(app), filtered(app)].filter(Boolean);
  const because = query.because.length ? h("details", { className: "because" }, h("summary", {}, "What was done, and why"), h("ul", {}, query.because.map((reason) => h("li", {}, foreign(reason))))) : null;
  if (lines.length === 0 && because === null) return null;
  return h("div", { className: "understood" }, lines, because);
}

const line = (...parts) => h("p", {}, ...parts);

/** Returns a button that searches again, by which it vanishes: the focus goes to the search box. */
function asLink(label, act) {
  return button(label, { className: "link", on: () => {
    act();
    byId("words").focus({ preventScroll: true });
  } });
}

/** Adds one of the choices by which words are taken as they are. */
function keepLiteral(app, choice) {
  app.navigate({ literal: [...new Set([...app.state.literal, choice])] });
}

function spelling(query, app) {
  const applied = query.spelling.filter((word) => word.applied);
  if (query.did_you_mean) {
    return line("Did you mean ", asLink(foreign(query.did_you_mean), () => app.navigate({ words: query.did_you_mean, said: "" })), "?");
  }
  if (applied.length === 0) return null;
  const words = applied.flatMap((word, number) => [number ? ", " : "", h("del", {}, foreign(word.from)), " → ", h("strong", {}, foreign(word.to))]);
  return line("Spelling: ", ...words, ". ", asLink("Search exactly what I wrote", () => keepLiteral(app, "spelling")));
}

function rewriting(query, app) {
  if (!query.rewritten) return null;
  return line("Understood as “", h("strong", {}, foreign(query.rewritten)), "”. ", asLink("Search exactly what I wrote", () => keepLiteral(app, "rewrite")));
}

function synonyms(query, app) {
  const pairs = Object.entries(query.synonyms);
  if (pairs.length === 0) return null;
  const words = pairs.flatMap(([word, others], number) => [number ? "; " : "", foreign(others.join(", ")), " for ", foreign(word)]);
  return line("Also searched: ", ...words, ". ", asLink("Without these", () => keepLiteral(app, "synonyms")));
}

/** Says which kinds count most, where the question's words decided on that. */
function route(query, app) {
  if (app.state.literal.includes("route") || !query.because.length) return null;
  const weights = new Map();
  for (const [channel, weight] of Object.entries(query.route)) {
    const collection = channel.split(".")[0];
    if (collection in KINDS) weights.set(collection, Math.max(weight, weights.get(collection) ?? 0));
  }
  const most = Math.max(...weights.values());
  const first = [...weights].filter(([, weight]) => weight === most).map(([collection]) => KINDS[collection]);
  if (weights.size === 0 || first.length === weights.size) return null;
  return line("Looked first at ", h("strong", {}, first.join(" and ")), ". ", asLink("Look at all kinds alike", () => keepLiteral(app, "route")));
}

function filter(query, app) {
  const proposed = query.proposed_filter;
  if (!proposed || app.state.filter) return null;
  return line("Only with ", h("code", {}, foreign(filterWords(proposed))), "? ", asLink("Filter by it", () => app.navigate({ filter: proposed })));
}

function filtered(app) {
  if (!app.state.filter) return null;
  return line(icon("filter", "icon tiny"), " Only with ", h("code", {}, foreign(filterWords(app.state.filter))), ". ", asLink("Remove the filter", () => app.navigate({ filter: null })));
}

const filterWords = (filter) => Object.entries(filter).map(([name, value]) => `${name} = ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");

function literal(app) {
  if (app.state.literal.length === 0) return null;
  return line("Searched exactly as written. ", asLink("Correct and widen it again", () => app.navigate({ literal: [] })));
}
