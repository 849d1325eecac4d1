// A file that the server makes, with its manifest in a header.
import { el, link } from "../api.js";

const csrf = () => document.querySelector('meta[name="csrf"]')?.content ?? "";

export async function raw(method, path, body, headers = {}) {
  let response;
  try {
    response = await fetch(link(path), { method, body, headers: { ...headers, "X-CSRF-Token": csrf() }, credentials: "same-origin" });
  } catch {
    const readable = !(body instanceof Blob) || (await body.slice(0, 1).arrayBuffer().catch(() => null)); // not after somebody has written to it
    throw { status: 0, error: readable ? "The server cannot be reached." : "The file has been changed since it was chosen: choose it again." };
  }
  if (response.ok) return response;
  const failure = await response.json().catch(() => ({}));
  throw { status: response.status, error: failure.error ?? response.statusText };
}

// Saves it under `name`; the manifest.
export async function download(method, path, name, body) {
  const response = await raw(method, path, body && JSON.stringify(body), body ? { "Content-Type": "application/json" } : {});
  const anchor = el("a", { href: URL.createObjectURL(await response.blob()), download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 60_000); // some browsers begin to read it after the click
  return JSON.parse(response.headers.get("X-Heedful-Manifest"));
}
