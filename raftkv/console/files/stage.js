// The moving picture: who leads, who votes for whom, entries on their way, writes kept for others; and the same again.
import { live, onFrame, takeFrom } from "./live.js";
import { clock, count, fill, h, number } from "./page.js";

export const SIZE = 440;
export const MIDDLE = SIZE / 2;
export const FLIGHT_MS = 600;
const RADIUS = 148;
const NODE = 36;
const SILENT_MS = 1500;

const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Where that is: `turn` is 0 to 1 round the circle, from the top. */
export function spot(turn, radius) {
  const angle = 2 * Math.PI * turn - Math.PI / 2;
  return [MIDDLE + radius * Math.cos(angle), MIDDLE + radius * Math.sin(angle)];
}

export const spots = (names, radius = RADIUS) => new Map(names.map((name, at) => [name, spot(at / names.length, radius)]));

export const isSilent = (sight) => !sight || (sight.heard_ago_ms || 0) > SILENT_MS;
const reaches = (sight, other) => !isSilent(sight) && (sight.peers || []).some((peer) => peer.id === other && peer.reachable);

/** Every name that is told of, heard or not. */
export function names({ nodes }) {
  const all = new Set(nodes.keys());
  for (const sight of nodes.values()) for (const peer of sight.peers || []) all.add(peer.id);
  return [...all].sort();
}

/** The node that leads in the highest term, as it says itself. */
function leaderOf({ nodes }) {
  return [...nodes.values()].filter((one) => one.role === "leader" && !isSilent(one))
    .sort((a, b) => (b.term || 0) - (a.term || 0))[0];
}

function caption(name, sight, leader) {
  if (!sight) return "not heard";
  if (isSilent(sight)) return `silent for ${Math.round(sight.heard_ago_ms / 1000)} s`;
  if (sight.misfit) return "takes no part";
  if (sight.mode === "quorum") return sight.hints_pending ? `keeps ${number(sight.hints_pending)} for others` : "up to date";
  if (sight.role === "candidate") return "asks for votes";
  if (!leader) return sight.voted_for && sight.voted_for !== name ? `voted for ${sight.voted_for}` : "waits";
  const behind = name === leader.node ? 0 : (leader.commit_index || 0) - (matched(leader, name) || 0);
  return behind > 0 ? `behind by ${count(behind, "entry", "entries")}` : "up to date";
}

/** So far outwards the captions of many nodes stand, to touch neither each other nor the words in the middle. */
const aside = (nodes) => nodes < 5 ? 0 : 26;

const matched = (leader, name) => (leader.peers || []).find((peer) => peer.id === name)?.match_index;

export function between(a, b, frame) {
  const there = reaches(frame.nodes.get(a), b);
  const back = reaches(frame.nodes.get(b), a);
  return there && back ? "both" : there || back ? "half" : "none";
}

function drawn(frame) {
  const all = names(frame);
  const at = spots(all);
  const leader = leaderOf(frame);
  const first = [...frame.nodes.values()][0];
  const isRing = first?.mode === "quorum";
  const pairs = all.flatMap((a, index) => all.slice(index + 1).map((b) => [a, b]));
  const lines = [
    pairs.map(([a, b]) => {
      const [[x1, y1], [x2, y2]] = [at.get(a), at.get(b)];
      return h("line", { x1, y1, x2, y2, class: `reach ${between(a, b, frame)}` });
    }),
    h("text", { x: MIDDLE, y: MIDDLE - 4, class: "centre" }, isRing ? count(all.length, "node") : leader ? `term ${number(leader.term)}` : "nobody leads"),
    h("text", { x: MIDDLE, y: MIDDLE + 18, class: "under" }, isRing ? "none leads, all answer"
      : leader ? `${count(leader.commit_index || 0, "entry", "entries")} agreed` : "writes wait"),
  ];
  const nodes = all.map((name) => {
    const sight = frame.nodes.get(name);
    const [x, y] = at.get(name);
    const kind = `node${leader?.node === name ? " leads" : ""}${isSilent(sight) || sight.misfit ? " lost" : ""}${sight?.role === "candidate" ? " stands" : ""}`;
    return h("g", { class: kind }, h("circle", { cx: x, cy: y, r: NODE }),
      h("text", { x, y: y + 1, class: "id" }, name.length > 8 ? `${name.slice(0, 7)}…` : name),
      h("text", { x, y: y + 15, class: "role" }, isRing ? "replica" : isSilent(sight) ? "" : sight.role),
      h("text", { x: x + aside(all.length) * Math.sign(Math.round(x - MIDDLE)), y: y + 55, class: "state" }, caption(name, sight, leader)));
  });
  const lowest = Math.max(...[...at.values()].map(([, y]) => y));
  const label = all.map((name) => `${name}: ${caption(name, frame.nodes.get(name), leader)}`).join("; ");
  return { lines, nodes, label, at, box: `${-aside(all.length)} ${MIDDLE - RADIUS - NODE - 8} ${SIZE + 2 * aside(all.length)} ${lowest + NODE + 40 - (MIDDLE - RADIUS - NODE - 8)}` };
}

/** A dot from one node to another, as something travels; `what` is its colour. */
function fly(layer, from, to, what, size, after) {
  const dot = h("circle", { r: size, class: `dot ${what}` });
  layer.append(dot);
  const way = dot.animate(
    [{ transform: `translate(${from[0]}px, ${from[1]}px)` }, { transform: `translate(${to[0]}px, ${to[1]}px)` }],
    { duration: FLIGHT_MS, delay: after, easing: "ease-in-out", fill: "both" });
  way.onfinish = () => dot.remove();
}

function fliesOf(frame, before) {
  const found = [];
  const leader = leaderOf(frame);
  for (const [name, sight] of frame.nodes) {
    const was = before.nodes.get(name);
    if (isSilent(sight) || !was) continue;
    const isNewTerm = (sight.term || 0) > (was.term || 0);
    if (sight.role === "candidate" && isNewTerm) {
      for (const peer of sight.peers || []) found.push([name, peer.id, "asks", 6]);
    } else if (sight.voted_for && sight.voted_for !== name && (isNewTerm || sight.voted_for !== was.voted_for)) {
      found.push([name, sight.voted_for, "votes", 6]);
    }
    for (const member of sight.mode === "quorum" ? sight.members || [] : []) {
      const kept = (was.members || []).find((one) => one.id === member.id)?.hints || 0;
      if ((member.hints || 0) < kept) found.push([name, member.id, "entries", sizeOf(kept - (member.hints || 0))]);
    }
  }
  const was = leader && before.nodes.get(leader.node);
  const grown = was ? (leader.last_index || 0) - (was.last_index || 0) : 0;
  for (const peer of leader && was ? leader.peers || [] : []) {
    if (grown > 0 && peer.reachable) found.push([leader.node, peer.id, "entries", sizeOf(grown)]);
    const got = (peer.match_index || 0) - (matched(was, peer.id) || 0);
    if (got > 0) found.push([peer.id, leader.node, "acks", sizeOf(got), FLIGHT_MS / 2]);
  }
  return found;
}

export const sizeOf = (entries) => Math.min(11, 4 + Math.log2(1 + entries));

const plain = { drawn, fliesOf };

/**
 * The picture in `place`; gives what ends it. `over(at)` draws over it, given where each node is; views come from `source`.
 * `act` draws a frame, and says what flies from where to where.
 */
export function stage(place, { over, source, act = plain } = {}) {
  const lines = h("g", {});
  const nodes = h("g", {});
  const flights = h("g", { "aria-hidden": "true" });
  const above = h("g", {});
  const svg = h("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "ring stage", role: over ? "group" : "img" }, lines, flights, nodes, above);
  const when = h("output", { class: "quiet small" });
  const slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Look at an earlier moment", oninput: () => look(+slider.value) });
  const again = h("button", { onclick: replay }, "Play again");
  const newest = h("button", { onclick: toNow }, "Now");
  let shown = null; // the place of the frame that is looked at; null: the newest
  let playing = null;

  function show(frame, before) {
    const now = act.drawn(frame);
    const { under = [], above: touched = [] } = over?.(now.at) || {};
    const [links, ...middle] = now.lines;
    fill(lines, links, under, ...middle);
    fill(nodes, ...now.nodes);
    fill(above, ...touched);
    svg.setAttribute("viewBox", now.box);
    svg.setAttribute("aria-label", now.label);
    if (before && !isStill()) {
      for (const [from, to, what, size, after = 0] of act.fliesOf(frame, before)) {
        if (now.at.has(from) && now.at.has(to)) fly(flights, now.at.get(from), now.at.get(to), what, size, after);
      }
    }
    const ago = Math.round((Date.now() - frame.at) / 1000);
    fill(when, shown === null ? "now" : `${clock(new Date(frame.at))}, ${count(ago, "second")} ago`);
    again.disabled = live.frames.length < 2;
    newest.disabled = shown === null;
  }

  function look(at) {
    shown = at;
    show(live.frames[at], live.frames[at - 1]);
  }

  function toNow() {
    clearInterval(playing);
    shown = null;
    slider.value = slider.max;
    if (live.frames.length) show(live.frames.at(-1));
  }

  function replay() {
    clearInterval(playing);
    if (shown === null || shown >= live.frames.length - 1) shown = Math.max(0, live.frames.length - 120);
    playing = setInterval(() => {
      if (shown === null || shown >= live.frames.length - 1) return toNow();
      slider.value = shown + 1;
      return look(shown + 1);
    }, 250);
  }

  act.onChange?.(() => live.frames.length && show(live.frames[shown ?? live.frames.length - 1]));
  fill(place, svg, h("div", { class: "row film" }, slider, again, newest, when));
  const end = onFrame((frame, before) => {
    slider.max = live.frames.length - 1;
    if (shown === null) {
      slider.value = slider.max;
      show(frame, before);
    }
  });
  const endSource = source && takeFrom(source);
  if (live.frames.length) show(live.frames.at(-1));
  return () => {
    clearInterval(playing);
    end();
    endSource?.();
  };
}
