// Calls the HTTP API of the query plane this page comes from. Every failure is a `Problem` with words for people.

import { authorization, credential, forgetCredential } from "./credentials.js";

/** The address of a path of the API, also where a proxy serves the page below a folder. */
export const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI).href;

let feedback = false;

/** A request that failed: by a problem document (RFC 9457), or because nobody answered. */
export class Problem extends Error {
  constructor({ status, title, detail, field = null, type = "", retryAfterS = null }) {
    super(detail || title);
    Object.assign(this, { status, title, detail, field, type, retryAfterS });
  }

  /** Whether the server could not be reached at all. */
  get offline() {
    return this.status === 0;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.offline || this.status === 429 || this.status === 503;
  }
}

export const aborted = (error) => error instanceof DOMException && error.name === "AbortError";

async function send(path, options) {
  let response;
  try {
    response = await fetch(address(path), { credentials: "same-origin", ...options, headers: { ...options.headers, ...authorization() } });
  } catch (error) {
    if (aborted(error)) throw error;
    throw new Problem({ status: 0, title: "The server cannot be reached", detail: "" });
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401 && path !== "v1/sign-in/token") {
      forgetCredential(); // it is not valid any more
      dispatchEvent(new Event("unauthenticated"));
    }
    throw problem;
  }
  if (path === "v1/search" || path === "v1/ask") feedback = response.headers.has("Penstock-Feedback");
  return response;
}

/** Whether the server takes what this caller chooses, as the answer to its last question said. */
export const takesFeedback = () => feedback;

async function problemOf(response) {
  let document = {};
  try {
    document = Object(await response.json());
  } catch (error) {
    if (aborted(error)) throw error;
    // A proxy answered, or nothing came: the status has to do.
  }
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  return new Problem({
    status: response.status,
    title: document.title ?? `The server answered ${response.status}`,
    detail: document.detail ?? "",
    field: document.field ?? null,
    type: document.type ?? "",
    retryAfterS: Number.isFinite(wait) ? wait : null,
  });
}

/** Returns the JSON of a response. */
async function jsonOf(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof SyntaxError) throw new Problem({ status: 502, title: "This is no answer of the server", detail: "What came is no answer of this server: a proxy between may have sent it" });
    throw brokenBy(error);
  }
}

/** Returns what to throw for an error while a body was read. */
function brokenBy(error) {
  return aborted(error) || error instanceof Problem ? error : new Problem({ status: 0, title: "The connection broke", detail: "" });
}

/** Returns the JSON of a GET. */
export async function get(path, { signal } = {}) {
  return jsonOf(await send(path, { signal }));
}

/** Returns the JSON of a POST. */
export async function post(path, body, { signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  return jsonOf(await send(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

/** Returns the JSON of a POST of a form, whose type the browser sets. */
export async function sendForm(path, form, { headers = {}, signal } = {}) {
  return jsonOf(await send(path, { method: "POST", headers, body: form, signal }));
}

/** Ends what the server does under a path. Nobody waits for the answer. */
export function cancel(path) {
  fetch(address(path), { method: "DELETE", credentials: "same-origin", keepalive: true, headers: authorization() }).catch(() => {});
}

/** Whether the browser may load an address by itself: no credential is needed, or its signature holds. */
export function opensByItself(source) {
  const expires = Number(new URL(source).searchParams.get("exp") ?? 0);
  return credential() === null || expires * 1000 > Date.now();
}

/** Shows an image of the API: by its address, or by its bytes where only this tab's credential may read it. */
export async function showImage(image, source) {
  if (opensByItself(source)) {
    image.src = source;
    return;
  }
  try {
    const response = await fetch(source, { headers: authorization() });
    if (!response.ok) throw new TypeError("no image");
    image.src = URL.createObjectURL(await response.blob());
    image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

/** Returns the text of stored media; null if it has more bytes than `longest`, of which no more are sent. */
export async function text(path, { longest, signal }) {
  const response = await send(path, { headers: { Range: `bytes=0-${longest - 1}` }, signal });
  const [, size] = (response.headers.get("Content-Range") ?? "").split("/");
  if (Number(size ?? response.headers.get("Content-Length")) > longest) {
    await response.body.cancel();
    return null;
  }
  try {
    return await response.text();
  } catch (error) {
    throw brokenBy(error);
  }
}

/**
 * Yields the server-sent events of a response as {id, event, data}, where data is parsed JSON.
 * @param {object} options `body` makes it a POST; `lastEventId` continues after that event.
 * @throws {Problem} of status 0 if the connection breaks.
 */
export async function* events(path, { body = null, lastEventId = null, signal } = {}) {
  const headers = { Accept: "text/event-stream" };
  if (body !== null) headers["Content-Type"] = "application/json";
  if (lastEventId !== null) headers["Last-Event-ID"] = lastEventId;
  const method = body === null ? "GET" : "POST";
  const response = await send(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store", signal });
  if (response.status === 204) return; // there is nothing more
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value.replaceAll("\r\n", "\n");
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event !== null) yield event;
      }
    }
  } catch (error) {
    throw brokenBy(error);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Returns the event of a block of lines; null for a comment. */
function parsed(block) {
  const event = { id: null, event: "message", data: null };
  const data = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (line.startsWith("data")) data.push(value);
    else if (line.startsWith("event")) event.event = value;
    else if (line.startsWith("id")) event.id = value;
  }
  if (data.length === 0) return null;
  event.data = JSON.parse(data.join("\n"));
  return event;
}
