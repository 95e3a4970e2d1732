// What the pages know of the cluster: this node's own view, which it tells while somebody looks, and what changed in it.
import { get, stream } from "./api.js";
import { live, take } from "./live.js";
import { setClock } from "./page.js";
import { counted, forget } from "./samples.js";

const EVERY_MS = 1000;
const SILENT_MS = 3000;
const EVENTS_MAX = 100;

/** `status` and `members` as a node tells them, `hasProxy` if by way of one; `silentSince` once it does not answer; `events` newest first. */
export const picture = { status: null, members: [], hasProxy: false, silentSince: null, trouble: null, events: [] };
const listeners = new Set();

export function onPicture(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Every node by its name, as this node sees it. `behind`: entries that it lacks, and `queued` bytes on their way to it, as the leader says. */
export function nodesOf({ status, members }) {
  if (!status) return [];
  const peers = new Map(status.peers.map((peer) => [peer.id, peer]));
  const known = status.mode === "quorum" && status.members ? status.members : members;
  const frame = live.frames.at(-1);
  const sent = new Map((frame?.nodes.get(status.leader)?.peers || []).map((peer) => [peer.id, peer]));
  const agreed = frame?.nodes.get(status.leader)?.commit_index;
  const listed = known.length ? known : [{ id: status.node }, ...status.peers];
  return listed.filter((one) => one.state !== "left").map((member) => {
    const isSelf = member.id === status.node;
    const peer = peers.get(member.id) || {};
    const leads = member.id === status.leader;
    const index = leads ? agreed : sent.get(member.id)?.match_index;
    return {
      ...member, isSelf, leads, http: member.http || peer.http, misfit: isSelf ? status.misfit : peer.misfit,
      reachable: isSelf || Boolean(peer.reachable), clock: peer.clock_ahead_s,
      role: leads ? "leader" : isSelf ? status.role : member.state === "learner" ? "learner" : "follower",
      behind: index === undefined || agreed === undefined ? null : Math.max(0, agreed - index), queued: sent.get(member.id)?.outstanding_bytes || 0,
    };
  }).sort((a, b) => a.id < b.id ? -1 : 1);
}

/** What `live.js` does not tell: nodes know it of themselves only. */
function noted(before, now) {
  const found = [];
  if (before.mode === "quorum" && before.ring !== now.ring) found.push("the ring has changed: keys move to their new places");
  if (before.ready !== now.ready) found.push(now.ready ? `${now.node} is ready` : `${now.node} is not ready: ${now.reason}`);
  return found;
}

export function note(text) {
  picture.events = [{ at: new Date(), text }, ...picture.events].slice(0, EVENTS_MAX);
}

// -- one stream for the page; where there is none to be had, the node is asked for the same from time to time

function know(status, members) {
  if (picture.status && picture.status.node !== status.node) {
    note(`the proxy asks ${status.node} now`);
    forget();
  } else if (picture.silentSince) note(`${status.node} answers again`);
  else if (picture.status) noted(picture.status, status).forEach(note);
  Object.assign(picture, { status, members, silentSince: null, trouble: null });
}

function miss(trouble) {
  if (!picture.silentSince && picture.status) note(`${picture.status.node} does not answer`);
  picture.silentSince ||= new Date();
  picture.trouble = trouble;
}

async function look() {
  try {
    const options = { signal: AbortSignal.timeout(SILENT_MS) };
    const [status, members] = await Promise.all([get("/status", {}, options), get("/cluster/members", {}, options)]);
    picture.hasProxy = status.role === "proxy"; // which node it asks, and how that stands, the stream says
    if (!picture.hasProxy) know(status, members.members);
  } catch (error) {
    if (error.status !== 401) miss(error.status ? error.sentence : null);
  }
  tell();
}

const tell = () => listeners.forEach((listener) => listener());

let silence = null;

function hear(told) {
  if (told.sights) {
    const own = told.sights[0];
    silence = told.silence;
    if (own && !silence) setClock(own.at_ms);
    take(told);
  } else if (told.traffic) counted(told.traffic);
  else if (told.status) know(told.status, told.members);
  else if (told.status === null) miss(silence ? `${silence[0].toUpperCase()}${silence.slice(1)}.` : null);
}

let turn = null;

async function listen() {
  let heardAt = Date.now();
  const stopped = turn.stopped = new AbortController();
  const watching = setInterval(() => {
    if (Date.now() - heardAt < SILENT_MS) return;
    miss(null);
    stopped.abort();
  }, EVERY_MS);
  try {
    for await (const told of stream("/cluster/live", { standing: 1, traffic: 1 }, stopped.signal)) {
      heardAt = Date.now();
      if (told.code) break;
      hear(told);
    }
  } catch { /* what is asked next says what there is to say of it */ }
  clearInterval(watching);
}

let isWanted = false;

function stop() {
  turn?.stopped?.abort();
  turn = null;
}

/** Ask nothing more. */
export function rest() {
  isWanted = false;
  stop();
  Object.assign(picture, { silentSince: null, trouble: null });
  tell();
}

/** Begin, and go on as long as somebody looks; what there is to show at first is there when this is done. */
export async function follow() {
  stop();
  isWanted = true;
  if (document.hidden) return;
  const mine = turn = {};
  await look();
  (async () => {
    while (turn === mine) {
      await listen();
      if (turn === mine) await look();
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  })();
}

document.addEventListener("visibilitychange", () => document.hidden ? stop() : isWanted && follow());
setInterval(() => document.hidden || tell(), EVERY_MS);
