// The search as it stands in the address, so that it can be kept, sent and gone back to.

const KINDS = ["text", "image", "audio", "video", "document"];
const PARTS = ["text", "image", "frame", "like", "not"];
const CHOICES = ["spelling", "synonyms", "rewrite", "route"];
const ID = /^[0-9a-f]{32}$/;

/** Returns the state of a page on which nothing was entered. */
export function emptyState() {
  return {
    words: "", // typed
    said: "", // transcript of a spoken question
    ask: false, // whether an answer is wanted, rather than hits
    kinds: [], // none: all of them
    tenant: "",
    image: null, // key of an image that images.js keeps
    frame: null, // id of an indexed image
    region: null, // [x, y, w, h] of it, or of the image
    like: [],
    not: [],
    weights: {}, // by part
    literal: [], // of CHOICES: what is not to be done with the words
    filter: null, // as the API takes it
    open: null, // id of the hit that is shown
  };
}

/** Reads a state from an address; what cannot be read is left out. */
export function readState(search) {
  const parameters = new URLSearchParams(search);
  const state = emptyState();
  const ids = (name) => parameters.getAll(name).filter((id) => ID.test(id));
  state.words = parameters.get("q") ?? "";
  state.said = parameters.get("said") ?? "";
  state.ask = parameters.get("ask") === "1";
  state.kinds = KINDS.filter((kind) => (parameters.get("kinds") ?? "").split(",").includes(kind));
  state.tenant = parameters.get("tenant") ?? "";
  state.image = /^[0-9a-z-]{1,64}$/.test(parameters.get("image") ?? "") ? parameters.get("image") : null;
  [state.frame = null] = ids("frame");
  state.region = readRegion(parameters.get("region"));
  state.like = ids("like");
  state.not = ids("not");
  for (const part of PARTS) {
    const weight = Number.parseFloat(parameters.get(`w.${part}`) ?? "");
    if (weight >= 0 && weight <= 1) state.weights[part] = weight;
  }
  state.literal = CHOICES.filter((choice) => (parameters.get("literal") ?? "").split(",").includes(choice));
  state.filter = readFilter(parameters.get("filter"));
  [state.open = null] = ids("open");
  return state;
}

function readRegion(text) {
  const numbers = (text ?? "").split(",").map(Number);
  const valid = numbers.length === 4 && numbers.every((number) => number >= 0 && number <= 1) && numbers[2] > 0 && numbers[3] > 0;
  return valid ? numbers : null;
}

function readFilter(text) {
  try {
    const filter = JSON.parse(text);
    return typeof filter === "object" ? filter : null;
  } catch {
    return null;
  }
}

/** Returns the address of a state: `?…`, or the bare page for an empty one. */
export function writeState(state, { open = true } = {}) {
  const parameters = new URLSearchParams();
  const set = (name, value) => value && parameters.set(name, value);
  set("q", state.words.trim());
  set("said", state.said.trim());
  set("ask", state.ask && "1");
  set("kinds", state.kinds.join(","));
  set("tenant", state.tenant.trim());
  set("image", state.image);
  set("frame", state.frame);
  set("region", state.region?.map((number) => number.toFixed(4)).join(","));
  for (const name of ["like", "not"]) for (const id of state[name]) parameters.append(name, id);
  for (const [part, weight] of Object.entries(state.weights)) parameters.set(`w.${part}`, String(weight));
  set("literal", state.literal.join(","));
  set("filter", state.filter && JSON.stringify(state.filter));
  if (open) set("open", state.open);
  const query = parameters.toString();
  return query ? `?${query}` : "";
}

/** The words of a state: those that were typed and those that were spoken. */
export const wordsOf = (state) => [state.words, state.said].map((words) => words.trim()).filter(Boolean).join(" ");

/** The words of a state that searches by nothing besides; empty for every other one. */
export const wordsAlone = (state) => (state.image || state.frame || state.like.length ? "" : wordsOf(state));

/** The parts of a state that say what to search for, in their order on the page. */
export function partsOf(state) {
  const parts = [];
  if (wordsOf(state)) parts.push("text");
  if (state.image) parts.push("image");
  if (state.frame) parts.push("frame");
  if (state.like.length) parts.push("like");
  if (state.not.length) parts.push("not");
  return parts;
}

/** Whether there is anything to search for. */
export const searchable = (state) => partsOf(state).some((part) => part !== "not");

/**
 * Returns the body of `POST /v1/search` for a state.
 * @param {object} extra further fields, such as `cursor`
 * @param {string|null} image base64 of the image
 */
export function requestOf(state, image, extra = {}) {
  const body = { ...extra };
  const words = wordsOf(state);
  const parts = partsOf(state);
  if (words) body.text = words;
  const byImage = Boolean(state.image && image);
  if (byImage) body.image = image;
  if (state.frame) body.frame = { id: state.frame };
  if (state.region && (state.frame || byImage)) {
    const [x, y, w, h] = state.region;
    body.region = { x, y, w: Math.min(w, 1 - x), h: Math.min(h, 1 - y) };
  }
  if (state.like.length) body.like = state.like;
  if (state.not.length) body.not = { like: state.not };
  if (state.kinds.length) body.modalities = state.kinds;
  if (state.tenant.trim()) body.tenant = state.tenant.trim();
  if (state.filter) body.filter = state.filter;
  const weighed = parts.filter((part) => part in state.weights);
  if (weighed.length && parts.length > 1) body.compose = Object.fromEntries(weighed.map((part) => [part, state.weights[part]]));
  if (state.literal.includes("route")) body.route = "all";
  const understand = {};
  if (state.literal.includes("spelling")) understand.spelling = "off";
  if (state.literal.includes("synonyms")) understand.synonyms = false;
  if (state.literal.includes("rewrite")) understand.rewrite = false;
  if (Object.keys(understand).length) body.understand = understand;
  return body;
}
