// Answers that the server has not acknowledged. They survive reloads, lost networks and ended sessions, and are
// sent once: the key is made when the question is shown, and the server knows it again.
import { api } from "../api.js";
import { t } from "../texts.js";

const STORE = "answers";
let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("heedful", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function transact(mode, work) {
  const db = await database();
  return new Promise((resolve, reject) => {
    const transaction = db.transaction(STORE, mode, { durability: "strict" });
    const request = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

export const put = (entry) => transact("readwrite", (store) => store.put(entry));
export const remove = (key) => transact("readwrite", (store) => store.delete(key));
export const all = async (rater) =>
  (await transact("readonly", (store) => store.getAll())).filter((e) => e.rater === rater).sort((a, b) => a.at - b.at);

// A session may have ended and begun again in another tab: then the page's CSRF token is an old one.
export async function renew(rater) {
  const me = await api("GET", "/api/me");
  if (me.rater !== rater) throw { status: 401, error: t("Somebody else is signed in now.") };
  let meta = document.querySelector('meta[name="csrf"]');
  if (!meta) {
    meta = document.head.appendChild(document.createElement("meta"));
    meta.name = "csrf";
  }
  meta.content = me.csrf;
}

async function send(entry) {
  const path = `/api/assignments/${encodeURIComponent(entry.assignment)}/judgments`;
  const post = () => api("POST", path, entry.body, { "Idempotency-Key": entry.key });
  try {
    return await post();
  } catch (problem) {
    if (problem.status !== 403) throw problem;
    await renew(entry.rater);
    return await post();
  }
}

const hopeless = (status) => [400, 404, 409, 413, 422].includes(status);

// Sends what waits, one tab at a time. Returns {waiting, problem, refused, sent}.
export async function flush(rater) {
  const work = async () => {
    let problem = null;
    let sent = 0;
    for (const entry of await all(rater)) {
      if (entry.refused) continue;
      try {
        await send(entry);
        await remove(entry.key);
        sent += 1;
      } catch (error) {
        if (hopeless(error.status)) await put({ ...entry, refused: error.error });
        else {
          problem = error;
          break;
        }
      }
    }
    const left = await all(rater);
    return { waiting: left.filter((e) => !e.refused).length, refused: left.filter((e) => e.refused), problem, sent };
  };
  return navigator.locks ? navigator.locks.request("heedful-outbox", work) : work();
}
