// The node's own API, with the rights of whoever signed in: everything that is done here is done by it.

/** What the API refused, or what did not come back; `applied` is "no", "unknown", or undefined. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `status ${status}`);
    this.status = status;
    this.code = problem.code;
    this.applied = problem.applied;
    this.problem = problem;
  }

  get sentence() {
    const more = { no: " Nothing was changed.", unknown: " Whether it was done is not known: look before you try again." };
    const isName = signedIn() && this.message.startsWith(`${signedName()} `); // a name is written as it is
    return this.message.replace(/^./, (one) => isName ? one : one.toUpperCase()).replace(/[^.]$/, "$&.") + (more[this.applied] || "");
  }
}

export const signedIn = () => sessionStorage.getItem("raftkv-token");

/** Who has signed in here. */
export const signedName = () => signedIn() && sessionStorage.getItem("raftkv-user");

export function signIn(token, user) {
  sessionStorage.setItem("raftkv-token", token);
  sessionStorage.setItem("raftkv-user", user);
}

export const signOff = () => ["raftkv-token", "raftkv-user"].forEach((name) => sessionStorage.removeItem(name));

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as text: each that is no UTF-8 is the half of a surrogate pair, which no text has (Python's way: PEP 383). */
function carried(all) {
  let text = "";
  for (let at = 0; at < all.length;) {
    const length = all[at] < 0xe0 ? (all[at] < 0x80 ? 1 : 2) : all[at] < 0xf0 ? 3 : 4;
    try {
      text += strict.decode(all.subarray(at, at + length));
      at += length;
    } catch {
      text += String.fromCharCode(0xdc00 + all[at]);
      at += 1;
    }
  }
  return text;
}

/** A key as the API tells it, text or {base64}, as text. */
export const keyOf = (told) => typeof told === "string" ? told : carried(Uint8Array.from(atob(told.base64), (one) => one.charCodeAt(0)));

/** A key in an address, and back. */
export const coded = (key) => String(key).replace(/[\udc80-\udcff]|[^\udc80-\udcff]+/gu, (one) =>
  /^[\udc80-\udcff]$/u.test(one) ? `%${(one.charCodeAt(0) - 0xdc00).toString(16)}` : encodeURIComponent(one));
export const decoded = (text) => text.replace(/(%[\da-f]{2})+/gi, (all) =>
  carried(Uint8Array.from(all.slice(1).split("%"), (one) => parseInt(one, 16))));

export const at = (path, query) => {
  const chosen = Object.entries(query || {}).filter(([, value]) => value !== undefined && value !== "");
  return chosen.length ? `${path}?${chosen.map(([name, value]) => `${name}=${coded(value)}`).join("&")}` : path;
};

export const keyPath = (key) => `/kv/${coded(key)}`;

const GIVE_UP_MS = 20000;

function headed(headers) {
  const token = signedIn();
  return { ...headers, "Raftkv-Page": "1", ...(token && { Authorization: `Bearer ${token}` }) };
}

/** The raw answer; raises `Refusal` for every other status than 2xx and 300. */
export async function answer(method, path, { body, headers = {}, signal } = {}) {
  const isRead = method === "GET";
  let response;
  try {
    response = await fetch(path, {
      // Without credentials of the browser's own: a challenge would let it ask for a password itself, and wait.
      method, body, headers: headed(headers), cache: "no-store", credentials: "omit", signal: signal || AbortSignal.timeout(GIVE_UP_MS),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, { detail: "the node does not answer", code: "unreachable", applied: isRead ? undefined : "unknown" });
  }
  if (response.ok || response.status === 300) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch { /* no problem in JSON: its status has to do */ }
  if (response.status === 401) dispatchEvent(new CustomEvent("unauthenticated", { detail: { path, said: problem.detail } }));
  if (isRead) delete problem.applied;
  throw new Refusal(response.status, problem);
}

/** The JSON of an answer. */
export async function ask(method, path, json, options = {}) {
  const sent = json === undefined ? options : {
    ...options, body: JSON.stringify(json), headers: { "Content-Type": "application/json", ...options.headers },
  };
  sent.headers = { Accept: "application/json", ...sent.headers };
  return (await answer(method, path, sent)).json();
}

export const get = (path, query, options) => ask("GET", at(path, query), undefined, options);

/** Every message of an endless answer, one JSON a line, until `signal` ends it. (EventSource could not sign in.) */
export async function* stream(path, query, signal) {
  const response = await answer("GET", at(path, query), { headers: { Accept: "application/x-ndjson" }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) yield JSON.parse(line);
  }
}
