// The ring of a leaderless cluster, moving: whose keys are whose, and what goes from node to node, some of it, as it does.
import { get } from "./api.js";
import { count, h } from "./page.js";
import { FLIGHT_MS, MIDDLE, SIZE, between, isSilent, names, sizeOf, spot, spots, stage } from "./stage.js";

const OUTER = 196;
const INNER = 120;
const NODE = 34;
const HUES = 6;
const BENT = 44;
const ASIDE = 0.28; // so far along a line past another node its words touch nothing
const FRESH_MS = 3000;
const FLIGHTS_MAX = 40;

let ring = null; // as the API tells it
let asked = null;
let marked = null; // the key that is looked for, as the API tells it
let changed = () => {};

/** Show where the key lies that the API told this of; null: none. */
export function mark(shown) {
  marked = shown;
  changed();
}

/** The ring again, if it is another. */
async function learn(digest) {
  if (!digest || asked === digest) return;
  asked = digest;
  try {
    ring = await get("/cluster/ring");
    changed();
  } catch {
    asked = null;
  }
}

export const hue = (name) => `h${Math.max(0, (ring?.nodes || []).indexOf(name)) % HUES}`;

const xy = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** One path for each node: all parts of the ring that it comes first for. */
function arcs(frame) {
  const parts = new Map(ring.nodes.map((name) => [name, []]));
  ring.tokens.forEach(([turn, place], at) => {
    const from = at ? ring.tokens[at - 1][0] : ring.tokens.at(-1)[0] - 1;
    parts.get(ring.nodes[place]).push(`M${xy(spot(from, OUTER))}A${OUTER} ${OUTER} 0 ${turn - from > 0.5 ? 1 : 0} 1 ${xy(spot(turn, OUTER))}`);
  });
  return [...parts].map(([name, d]) => h("path", { d: d.join(""), class: `arc ${hue(name)}${isSilent(frame.nodes.get(name)) ? " lost" : ""}` }));
}

/** What the others think of a node, as most of those that are heard have it. */
function stateOf(name, frame) {
  const said = [...frame.nodes.values()].filter((one) => one.node !== name && !isSilent(one))
    .map((one) => (one.members || []).find((member) => member.id === name)?.state).filter(Boolean).sort();
  return said[said.length >> 1] || (frame.nodes.get(name)?.members || []).find((member) => member.id === name)?.state || "";
}

function caption(name, frame) {
  const sight = frame.nodes.get(name);
  const state = stateOf(name, frame);
  if (!sight) return { down: "down", suspect: "suspected" }[state] || "not heard";
  if (isSilent(sight)) return state === "down" ? "down" : state === "suspect" ? "suspected" : `silent for ${Math.round(sight.heard_ago_ms / 1000)} s`;
  if (sight.misfit) return "takes no part";
  if (sight.can_read === false) return "fetches its data";
  return { joining: "joining", leaving: "leaving", suspect: "suspected", down: "taken for down" }[state] || "up";
}

const share = (name, frame) => Math.max(0, ...[...frame.nodes.values()].map((sight) => (sight.members || []).find((one) => one.id === name)?.share || 0));

/** A line between nodes, bent outwards so that its words have room, and those. */
function bond(from, to, what, text) {
  const [x, y] = [(from[0] + to[0]) / 2 - MIDDLE, (from[1] + to[1]) / 2 - MIDDLE];
  const far = Math.hypot(x, y);
  const [dx, dy] = far > 10 ? [x / far, y / far] : [(to[1] - from[1]) / 2 / INNER, (from[0] - to[0]) / 2 / INNER];
  const at = (by) => [MIDDLE + x + dx * by, MIDDLE + y + dy * by];
  const t = far < INNER / 2.5 ? ASIDE : 0.5;
  const bend = 4 * t * (1 - t) * BENT;
  const words = [0, 1].map((axis) => from[axis] + t * (to[axis] - from[axis]) + bend * [dx, dy][axis]);
  return [h("path", { d: `M${xy(from)}Q${xy(at(2 * BENT))} ${xy(to)}`, class: `bond ${what}` }),
    h("text", { x: words[0].toFixed(1), y: words[1].toFixed(1), class: `said ${what}` }, text)];
}

function bonds(frame, at) {
  const found = [];
  for (const [name, sight] of frame.nodes) {
    if (isSilent(sight)) continue;
    for (const member of sight.members || []) {
      if (member.hints && at.has(member.id)) found.push(bond(at.get(name), at.get(member.id), "hints", count(member.hints, "hint")));
    }
    const under = sight.work?.exchange;
    if (under && at.has(under.peer) && under.ranges) found.push(bond(at.get(name), at.get(under.peer), "compares", `${under.compared || 0} of ${count(under.ranges, "range")}`));
  }
  return found;
}

/** The key that is looked for: where it lies, and a line to each node that is to hold it. */
function markedOn(at) {
  if (!marked) return null;
  const [x, y] = spot(marked.turn, OUTER);
  return [marked.nodes.filter((one) => one.part !== "other" && at.has(one.id)).map((one) => {
    const [x2, y2] = at.get(one.id);
    return h("line", { x1: x, y1: y, x2, y2, class: `hold ${one.fate !== "holds" ? "unknown" : one.behind ? "behind" : "level"}` });
  }), h("circle", { cx: x, cy: y, r: 8, class: "mark" })];
}

function drawn(frame) {
  const all = names(frame);
  const at = spots(all, INNER);
  const status = [...frame.nodes.values()][0];
  learn(`${all.join()} ${(status?.members || []).map((one) => [one.id, one.state, one.share]).join()}`);
  const up = all.filter((name) => !isSilent(frame.nodes.get(name))).length;
  const pairs = all.flatMap((a, index) => all.slice(index + 1).map((b) => [a, b]));
  const lines = [
    ring ? arcs(frame) : [],
    pairs.map(([a, b]) => {
      const [[x1, y1], [x2, y2]] = [at.get(a), at.get(b)];
      return h("line", { x1, y1, x2, y2, class: `reach ${between(a, b, frame)}` });
    }),
    markedOn(at),
    h("text", { x: MIDDLE, y: MIDDLE - 4, class: "centre" }, `${up} of ${all.length}`), h("text", { x: MIDDLE, y: MIDDLE + 16, class: "under" }, "nodes answer"),
    bonds(frame, at),
  ];
  const nodes = all.map((name) => {
    const sight = frame.nodes.get(name);
    const [x, y] = at.get(name);
    return h("g", { class: `node ${hue(name)}${isSilent(sight) || sight.misfit ? " lost" : ""}` }, h("circle", { cx: x, cy: y, r: NODE }),
      h("text", { x, y: y - 1, class: "id" }, name.length > 8 ? `${name.slice(0, 7)}…` : name),
      h("text", { x, y: y + 14, class: "role" }, `${Math.round(100 * share(name, frame))} %`),
      h("text", { x, y: y + 50, class: "state" }, caption(name, frame)));
  });
  const edge = MIDDLE - OUTER - 14;
  const label = all.map((name) => `${name}: ${caption(name, frame)}`).join("; ");
  return { lines, nodes, label, at: new Map([...at, ["key", spot(0, OUTER)]]), box: `${edge} ${edge} ${SIZE - 2 * edge} ${SIZE - 2 * edge}` };
}

const LATE = FLIGHT_MS * 0.9;

/** What flies for one sample: the question out, and, of those that gave one, the answer back. */
function* fliesOfSample(name, one) {
  if (one.kind === "write" || one.kind === "read") {
    for (const to of one.asked || []) {
      if (to.node === name) continue;
      const took = ["holds", "behind", "answered"].includes(to.fate);
      yield [name, to.node, `${one.kind}s${to.stands_for ? " hints" : ""}${took || to.fate === "asked" ? "" : " gone"}`, sizeOf(one.count || 1)];
      if (took) yield [to.node, name, "acks", 4, LATE];
      if (to.fate === "behind") yield [name, to.node, "hints", 7, 2 * LATE];
    }
  } else if (one.kind === "hints") {
    for (const to of one.asked) yield [name, to.node, `hints${one.done ? "" : " gone"}`, sizeOf(one.count || 1)];
  } else if (one.kind === "exchange") {
    const [{ node }] = one.asked;
    if (one.sent) yield [name, node, "hints", sizeOf(one.sent)];
    if (one.received) yield [node, name, "hints", sizeOf(one.received), LATE];
    if (!one.sent && !one.received) yield [name, node, "compares", 4];
  }
}

function fliesOf(frame) {
  const found = [];
  for (const [name, sight] of frame.nodes) {
    if (isSilent(sight)) continue;
    for (const one of sight.work?.samples || []) {
      if (sight.at_ms - one.at_ms < FRESH_MS) found.push(...fliesOfSample(name, one));
    }
  }
  return found.slice(0, FLIGHTS_MAX);
}

/** The picture in `place`; gives what ends it. */
export function ringStage(place) {
  return stage(place, { act: { drawn, fliesOf, onChange: (redraw) => { changed = redraw; } } });
}
