// What a hit is, in words: its kind, title, times, relevance, and the addresses of its images and media.

import { address, showImage } from "./api.js";
import { h, icon, foreign, range } from "./dom.js";

const MEDIA = /^\/?v1\/media\/[0-9a-f]{64}(\?[\w.~%=&-]*)?$/;
const PAGE = /^\/?v1\/media\/[0-9a-f]{64}(\?[\w.~%=&-]*)?#page=\d+$/;
const CAPTIONS = /^\/?v1\/media\/[0-9a-f]{64}\/captions\.vtt\?[\w.~%=&-]*$/;
const THUMBNAIL = /^\/?v1\/entries\/[\w.~%-]+\/thumbnail\?[\w.~%=&-]*$/;
const GOOD = 0.6; // of the estimated probability that it answers the question

const KINDS = {
  text: { icon: "text", label: "Text" },
  image: { icon: "image", label: "Image" },
  audio: { icon: "audio", label: "Audio" },
  video: { icon: "video", label: "Video" },
  document: { icon: "document", label: "Document" },
};

/** Returns text, image, audio, video or document. */
export function kindOf(hit) {
  if (hit.page) return "document";
  if (hit.collection === "text" || hit.collection === "image") return hit.collection;
  if (hit.collection === "frame" || hit.moment?.frame || hit.mime?.startsWith("video/")) return "video";
  return "audio";
}

export const kindLabel = (hit) => KINDS[kindOf(hit)].label;
export const kindIcon = (hit, className = "icon tiny") => icon(KINDS[kindOf(hit)].icon, className);

/** Returns the title of a hit, or the end of its key where it has none. */
export const titleOf = (hit) => hit.title || hit.key.split("/").filter(Boolean).pop() || hit.key;

/** The range of a moment in milliseconds; null for what has no times. */
export function timesOf(hit) {
  if (hit.moment) return { startMs: hit.moment.start_ms, endMs: hit.moment.end_ms };
  if (kindOf(hit) === "audio" || kindOf(hit) === "video") return { startMs: hit.start_ms, endMs: hit.end_ms };
  return null;
}

/** The page of a hit in a document, in words, with its label and the number of pages; null for other media. */
export function pageOf(hit) {
  if (!hit.page) return null;
  const count = hit.attributes?.page_count;
  const place = Number.isInteger(count) ? `${hit.page} of ${count}` : String(hit.page);
  return hit.page_label ? `page ${hit.page_label} (${place})` : `page ${place}`;
}

/** The words of a hit: its passage, or what is said in its moment. */
export const wordsOfHit = (hit) => hit.moment?.transcript || hit.text || "";

/** The address of stored media; null if Penstock does not store them. What is no address of the API is refused. */
export function mediaAddress(hit) {
  return MEDIA.test(hit.media_url ?? "") ? address(hit.media_url) : null;
}

/** The address of a document at the page of a hit; null where a browser cannot open it there. */
export function pageAddress(hit) {
  return PAGE.test(hit.page_url ?? "") ? address(hit.page_url) : null;
}

/** The path of the words of a recording; null if there is none. */
export function captionsPath(hit) {
  return CAPTIONS.test(hit.captions_url ?? "") ? hit.captions_url : null;
}

/** The entry of a hit that has an image; null for what has none. */
export function imageEntryOf(hit) {
  if (hit.collection === "image") return hit.id;
  if (hit.page) return hit.thumbnail_url ? hit.id : null;
  return hit.moment?.frame?.id ?? (kindOf(hit) === "video" ? hit.id : null);
}

/** The address of the small image of an entry. */
export function thumbnailAddress(id, tenant, width = 480) {
  const query = new URLSearchParams({ w: String(width) });
  if (tenant) query.set("tenant", tenant);
  return address(`v1/entries/${encodeURIComponent(id)}/thumbnail?${query}`);
}

/** The address of the small image of a hit that has one, signed if its answer was. */
export function hitThumbnail(hit, width = 480) {
  const signed = THUMBNAIL.test(hit.thumbnail_url ?? "");
  return signed ? address(`${hit.thumbnail_url}&w=${width}`) : thumbnailAddress(imageEntryOf(hit), hit.tenant, width);
}

/** Returns the <img> of a hit with its size set, which tries the stored media where there is no thumbnail. */
export function thumbnail(hit, { width = 480, alt = "", eager = false } = {}) {
  const addresses = [hitThumbnail(hit, width)];
  const stored = hit.collection === "image" ? hit.media_url : hit.moment?.frame?.thumbnail_url;
  if (MEDIA.test(stored ?? "")) addresses.push(address(stored));
  const image = h("img", { alt, width: 4, height: 3, loading: eager ? "eager" : "lazy", decoding: "async", className: "thumb" });
  const next = () => {
    const source = addresses.shift();
    if (source) showImage(image, source);
    else image.replaceWith(h("span", { className: "nothumb" }, kindIcon(hit, "icon")));
  };
  image.addEventListener("error", next);
  next();
  return image;
}

/** Returns good, fair or weak; null where the relevance is not known. */
export function relevanceOf(hit) {
  if (hit.relevance === null || hit.relevance === undefined) return null;
  if (hit.below_floor) return "weak";
  return hit.relevance >= GOOD ? "good" : "fair";
}

const MATCHES = { good: "Good match", fair: "Fair match", weak: "Weak match" };

/** Returns the relevance in words and in a shape of three bars; null where it is not known. */
export function relevanceMark(hit) {
  const relevance = relevanceOf(hit);
  if (relevance === null) return null;
  const percent = `${Math.round(hit.relevance * 100)} %`;
  const bars = h("span", { className: "bars", ariaHidden: "true" }, h("i"), h("i"), h("i"));
  return h("span", { className: "relevance", data: { relevance }, title: `Estimated to answer it with ${percent}` }, bars, MATCHES[relevance]);
}

/** Returns the kind of a hit with an icon, and the times of a moment unless they are shown elsewhere. */
export function kindLine(hit, { timed = true } = {}) {
  const times = timed ? timesOf(hit) : null;
  return h("span", { className: "kind" }, kindIcon(hit), kindLabel(hit), pageOf(hit) && h("span", { className: "times" }, foreign(pageOf(hit))), times && h("span", { className: "times" }, range(times.startMs, times.endMs)));
}

/** Returns the name of a hit for buttons and lists of screen readers. */
export function nameOf(hit) {
  const times = timesOf(hit);
  const place = times ? range(times.startMs, times.endMs) : pageOf(hit);
  return `${titleOf(hit)}, ${kindLabel(hit).toLowerCase()}${place ? `, ${place}` : ""}`;
}

/** Returns the title of a hit as text of a user. */
export const titleText = (hit) => foreign(titleOf(hit));

const labels = new Map();

/** Remembers the title of an entry, for the chips of "more like this". It lasts as long as the tab. */
export function rememberLabel(id, title) {
  labels.set(id, title);
  try {
    sessionStorage.setItem(`label.${id}`, title);
  } catch {
    // Chips have no title after a reload.
  }
}

/** Returns the remembered title of an entry; null if there is none. */
export function labelOf(id) {
  if (labels.has(id)) return labels.get(id);
  try {
    return sessionStorage.getItem(`label.${id}`);
  } catch {
    return null;
  }
}
