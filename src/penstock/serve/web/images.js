// Images to search by: made small, and kept in this tab so that reload and back find them again.

import { Problem } from "./api.js";
import { h } from "./dom.js";

const LARGEST_PX = 1024; // encoders see a few hundred pixels; a region of them should still be sharp
const KEPT = 6; // some 200 kB each, of the 5 MB that a tab may keep
const memory = new Map();

/** A file that cannot be searched by. The message is for people. */
export class UnusableFileError extends Error {}

/**
 * Takes an image in, and returns its key.
 * @param {Blob} file
 * @throws {UnusableFileError}
 */
export async function keepImage(file) {
  let data;
  try {
    data = await shrunk(await createImageBitmap(file));
  } catch {
    throw new UnusableFileError("This image cannot be read here. JPEG, PNG and WebP can.");
  }
  const digest = [...data].reduce((sum, character) => (Math.imul(sum, 31) + character.charCodeAt(0)) | 0, 7);
  const key = `p${(digest >>> 0).toString(36)}-${data.length.toString(36)}`;
  memory.set(key, data);
  store(key, data);
  return key;
}

/** Returns the JPEG of an image as base64. */
async function shrunk(bitmap) {
  const scale = Math.min(1, LARGEST_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
  return base64(blob);
}

/** Returns the content of a blob as base64. */
export function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new UnusableFileError("This file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

function store(key, data) {
  try {
    const keys = JSON.parse(sessionStorage.getItem("images") ?? "[]").filter((other) => other !== key);
    for (const old of keys.splice(0, Math.max(0, keys.length + 1 - KEPT))) sessionStorage.removeItem(`image.${old}`);
    sessionStorage.setItem(`image.${key}`, data);
    sessionStorage.setItem("images", JSON.stringify([...keys, key]));
  } catch {
    // No room, or storage is forbidden: the image lasts until the page is left.
  }
}

/** Returns a kept image as base64; null if it was of another tab or is gone. */
export function keptImage(key) {
  if (memory.has(key)) return memory.get(key);
  try {
    return sessionStorage.getItem(`image.${key}`);
  } catch {
    return null;
  }
}

/** Returns what is wrong with a search by an image that is gone; null if it is here, or there is none. */
export function missingImage(state) {
  if (!state.image || keptImage(state.image) !== null) return null;
  return new Problem({ status: 400, title: "The image is not here", detail: "The image of this search was only in the tab that it came from: add it again" });
}

/** Returns the address of a kept image, for an <img>. */
export const imageAddress = (key) => `data:image/jpeg;base64,${keptImage(key)}`;
