// What the pages know of the cluster: this node's own view, asked for while somebody looks, and what changed in it.
import { get } from "./api.js";

const EVERY_MS = 1000;
const EVENTS_MAX = 100;

/** `status` and `members` as the API tells them; `silentSince` once the node does not answer; `events` newest first. */
export const picture = { status: null, members: [], silentSince: null, trouble: null, events: [] };
const listeners = new Set();

export function onPicture(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Every node by its name, as this node sees it. `behind`: entries that it lacks, where that is known here. */
export function nodesOf({ status, members }) {
  if (!status) return [];
  const peers = new Map(status.peers.map((peer) => [peer.id, peer]));
  const known = status.mode === "quorum" && status.members ? status.members : members;
  const listed = known.length ? known : [{ id: status.node }, ...status.peers];
  return listed.filter((one) => one.state !== "left").map((member) => {
    const isSelf = member.id === status.node;
    const peer = peers.get(member.id) || {};
    const leads = member.id === status.leader;
    const index = isSelf ? status.applied_index : peer.match_index;
    const isKnown = status.mode === "raft" && (isSelf || (status.role === "leader" && peer.match_index !== null));
    return {
      ...member, isSelf, leads, http: member.http || peer.http, misfit: isSelf ? status.misfit : peer.misfit,
      reachable: isSelf || Boolean(peer.reachable), clock: peer.clock_ahead_s,
      role: leads ? "leader" : isSelf ? status.role : member.state === "learner" ? "learner" : "follower",
      behind: isKnown && index !== undefined ? Math.max(0, status.commit_index - index) : null,
    };
  }).sort((a, b) => a.id < b.id ? -1 : 1);
}

/** What `live.js` does not tell: nodes know it of themselves only. */
function noted(before, now) {
  const found = [];
  if (before.mode === "quorum" && before.ring !== now.ring) found.push("the ring has changed: keys move to their new places");
  if (before.ready !== now.ready) found.push(now.ready ? `${now.node} is ready again` : `${now.node} is not ready: ${now.reason}`);
  return found;
}

export function note(text) {
  picture.events = [{ at: new Date(), text }, ...picture.events].slice(0, EVENTS_MAX);
}

async function look() {
  try {
    const options = { signal: AbortSignal.timeout(3000) };
    const [status, members] = await Promise.all([get("/status", {}, options), get("/cluster/members", {}, options)]);
    if (picture.silentSince) note(`${status.node} answers again`);
    else if (picture.status) noted(picture.status, status).forEach(note);
    Object.assign(picture, { status, members: members.members, silentSince: null, trouble: null });
  } catch (error) {
    if (error.status === 401) return;
    if (!picture.silentSince && picture.status) note(`${picture.status.node} does not answer`);
    picture.silentSince ||= new Date();
    picture.trouble = error.status ? error.sentence : null;
  }
  listeners.forEach((listener) => listener());
}

let timer = null;

/** Begin, and go on as long as somebody looks. */
export async function follow() {
  clearTimeout(timer);
  if (document.hidden) return;
  await look();
  clearTimeout(timer);
  timer = setTimeout(follow, EVERY_MS);
}

document.addEventListener("visibilitychange", follow);
