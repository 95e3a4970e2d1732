// What all nodes show of themselves, as this one hears it (picture.js has the stream): the last minutes, to look at again.
import { count, number } from "./page.js";

const FRAMES_MAX = 1200; // five minutes
const HAPPENINGS_MAX = 300;
const AGAIN_MS = 1000;
const TOGETHER_MS = 60000;

/** `frames` are `{at, nodes}`, `nodes` the sights by name; `happenings` are `{at, node, ...}` in the order they came. */
export const live = { frames: [], happenings: [] };

const heard = new Map();
const listeners = new Set();
let hasBegun = false;

/** Keep what was told, and show it to whoever looks. */
export function take(view) {
  const before = live.frames.at(-1);
  const nodes = new Map();
  for (const { happenings = [], ...sight } of view.sights || []) {
    nodes.set(sight.node, sight);
    const place = `${sight.node}/${sight.life}`;
    for (const one of sight.work?.samples || []) {
      if (one.number <= (heard.get(`${place}/samples`) || 0)) continue;
      heard.set(`${place}/samples`, one.number);
      if (isTold(one)) live.happenings.push({ ...one, node: sight.node, at: one.at_ms });
    }
    for (const one of happenings) {
      if (one.number <= (heard.get(place) || 0)) continue;
      heard.set(place, one.number);
      live.happenings.push({ ...one, node: sight.node, at: one.at_ms });
    }
  }
  live.happenings.sort((a, b) => a.at - b.at);
  live.happenings = live.happenings.slice(-HAPPENINGS_MAX);
  const isFirst = !hasBegun;
  hasBegun = true;
  // The others are asked because somebody looks now: a moment of which only this node told is none to look at again.
  if (isFirst && nodes.size === 1 && [...nodes.values()][0].peers?.some((peer) => peer.reachable)) return;
  if (view.silence && before) live.frames.push({ ...before, at: Date.now() });
  else live.frames.push({ at: Date.now(), nodes });
  if (live.frames.length > FRAMES_MAX) live.frames.shift();
  for (const listener of listeners) listener(live.frames.at(-1), before);
}

/** Call `listener` with each frame as it comes, and the one before, until the function that this gives is called. */
export function onFrame(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Take what comes from `source(signal)` while somebody looks, and ask again when it ends, until the function that this gives is called. */
export function takeFrom(source) {
  const over = new AbortController();
  let listening = null;

  async function listen() {
    while (!over.signal.aborted && !document.hidden) {
      listening = new AbortController();
      try {
        for await (const view of source(listening.signal)) take(view);
      } catch { /* whoever has the source tells of it */ }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
    listening = null;
  }

  const turn = () => {
    if (document.hidden) listening?.abort();
    else if (!listening) listen();
  };
  document.addEventListener("visibilitychange", turn, { signal: over.signal });
  over.signal.addEventListener("abort", () => listening?.abort());
  listen();
  return () => over.abort();
}

/** Is that sample of what a node did worth a line? Reads and writes that went as usual are not. */
function isTold({ kind, done, asked, count = 1, received, sent }) {
  return (kind === "hints" && count > 0) || (kind === "exchange" && Boolean(received || sent))
    || (kind === "read" && asked.some((one) => one.fate === "behind")) || (kind === "write" && !done);
}

/** Did that node take part before it did not? One that has just been made never left. */
function hadPart({ node, at }) {
  const before = live.happenings.filter((one) => one.node === node && one.at < at);
  const left = before.findLastIndex((one) => one.kind === "misfit");
  return before.slice(0, Math.max(0, left)).some((one) => ["fits", "votes", "stands", "leads", "follows"].includes(one.kind));
}

const listed = (names) => names.length ? names.join(" and ") : "nobody";

/** The same for what leaderless nodes do. */
function workInWords({ node, kind, asked = [], count: keys = 1, ranges, differing, received, sent, needed }) {
  const other = asked[0]?.node;
  const withFate = (fate) => asked.filter((one) => one.fate === fate).map((one) => one.node);
  return {
    hints: () => `${node} handed ${count(keys, "write")} to ${other} that it had kept for it`,
    exchange: () => `${node} compared ${count(ranges || 0, "range")} with ${other}: ${number(differing || 0)} differed, ${count(received || 0, "key")} came, ${number(sent || 0)} went`,
    read: () => `a read through ${node} mended ${listed(withFate("behind"))}`,
    write: () => `a write through ${node} was not done: ${listed(withFate("holds"))} of ${needed} took it`,
  }[kind]?.() || null;
}

/** What happened, in words; null for what this page has no word for. */
function words(one) {
  const term = one.term ? `, term ${one.term}` : "";
  return {
    stands: `${one.node} asks for votes${term}`,
    votes: `${one.node} votes for ${one.subject}${term}`,
    leads: `${one.node} has a majority: it leads${term}`,
    follows: `${one.node} follows ${one.subject}${term}`,
    leaderless: one.subject === one.node ? `${one.node} leads no more` : `${one.node} hears nothing of ${one.subject} any more`,
    full: `the disk of ${one.node} is full`,
    roomy: `the disk of ${one.node} has room again`,
    misfit: `${one.node} takes no part: ${one.detail}`,
    fits: `${one.node} takes part${hadPart(one) ? " again" : ""}`,
    members: `the members are ${one.detail} now`,
    state: `${one.node} takes it that ${one.subject} is ${one.detail}`,
  }[one.kind] || workInWords(one);
}

/** Does somebody find another gone ("off"), or there ("on")? How surely, the worse the more: by its link, by suspicion, for certain. */
const turnOf = ({ kind, detail }) => ({ loses: ["off", 1], reaches: ["on", 1] }[kind] || (kind === "state" && { suspect: ["off", 2], down: ["off", 3], up: ["on", 2] }[detail]) || null);

function turnInWords({ turn, subject, sure, by, detail }) {
  const who = [...by].filter(([, one]) => one === sure).map(([name]) => name).sort();
  const seen = `as ${listed(who)} ${who.length > 1 ? "see" : "sees"} it`;
  if (turn === "on") return sure > 1 ? `${subject} is up, ${seen}` : `${listed(who)} ${who.length > 1 ? "reach" : "reaches"} ${subject}`;
  if (sure === 3) return `${subject} is down, ${seen}`;
  return sure === 2 ? `${listed(who)} ${who.length > 1 ? "suspect" : "suspects"} that ${subject} is down` : `${listed(who)} cannot reach ${subject}${detail ? `: ${detail}` : ""}`;
}

/** What happened, in words, oldest first: what several find of one node at about the same time is one line. */
export function story() {
  const found = [];
  const open = new Map();
  for (const one of live.happenings) {
    const [turn, sure] = turnOf(one) || [];
    if (!turn) {
      found.push({ at: one.at, text: words(one) });
      continue;
    }
    let told = open.get(one.subject);
    if (told?.turn !== turn || one.at - told.last > TOGETHER_MS) {
      told = { turn, at: one.at, subject: one.subject, by: new Map(), sure: 0 };
      open.set(one.subject, told);
      found.push(told);
    }
    told.by.set(one.node, Math.max(sure, told.by.get(one.node) || 0));
    Object.assign(told, { last: one.at, sure: Math.max(told.sure, sure), detail: told.detail || one.detail });
  }
  return found.map((one) => one.turn ? { at: one.at, text: turnInWords(one) } : one).filter((one) => one.text);
}
