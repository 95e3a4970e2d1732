// What each node holds of one key, side by side, where nodes may differ about it: on the page of the key and beside the ring.
import { answer, coded, get, keyPath } from "./api.js";
import { bytes, count, fill, h, say, table, time, visible, why } from "./page.js";

const EVERY_MS = 1000;
const HEAD = 40;

const path = (key) => `/cluster/ring/${coded(key)}`;
const at = (microseconds) => {
  const when = new Date(microseconds / 1000);
  return `${when.toLocaleTimeString("en-GB")}.${String(when.getMilliseconds()).padStart(3, "0")}`;
};
const writer = (actor) => actor.split("~")[0];

function standing(one) {
  if (one.fate === "silent") return h("span.bad", "gave no answer");
  if (one.fate === "lost") return h("span.bad", "not reached");
  if (one.fate === "declined") return h("span.bad", one.reason || "did not say");
  if (one.part === "other") return "only keeps it for others";
  if (one.behind) return h("span.warn", one.versions.length ? "behind" : "lacks it");
  if (!one.versions.length) return "holds nothing";
  return h("span.good", one.versions_count > 1 ? `${one.versions_count} values side by side` : "has the newest");
}

function shown(version) {
  if (version.value === null) return h("i", "deleted");
  const text = typeof version.value === "string" ? visible(version.value) : "no text";
  const isCut = text.length > HEAD || version.bytes > 256;
  return h("span.key", isCut ? `${text.slice(0, HEAD)}… (${bytes(version.bytes)})` : text || "(empty)");
}

const lines = (one, each) => one.versions.length ? one.versions.map((version) => h("div", each(version))) : "–";

function rows(told) {
  const wanted = told.nodes.filter((one) => one.part !== "other" || one.versions.length || one.hints?.length);
  return wanted.map((one) => [
    h("b", one.id), lines(one, shown),
    [standing(one), one.part === "moving" && " (moves here or away)", Object.keys(one.seen).length > 0 && h("div.quiet.small", "has seen ",
      Object.entries(one.seen).map(([actor, counter]) => `${writer(actor)} up to ${at(counter)}`).join(", "))],
    one.hints === null ? one.fate === "holds" ? "does not tell" : "–" : one.hints.length ? h("span.warn", `for ${one.hints.map((hint) => hint.target).join(", ")}`) : "–",
    lines(one, (version) => `${at(version.revision)} through ${writer(version.node)}${version.ttl_left === undefined ? "" : `, ends in ${time(version.ttl_left)}`}`),
  ]);
}

/** The table in `place`, told anew as long as somebody looks; `onTold` hears each. Gives what ends it. */
export function replicasOf(place, key, onTold = () => {}) {
  const ending = new AbortController();
  let told = null;
  let trouble = null;

  async function look() {
    try {
      told = await get(path(key), {}, { signal: ending.signal });
      trouble = null;
      onTold(told);
    } catch (error) {
      if (ending.signal.aborted) return;
      trouble = why(error);
    }
    draw();
  }

  async function mend() {
    const reached = told.nodes.filter((one) => one.part === "replica" && one.fate === "holds").length;
    try {
      await answer("GET", `${keyPath(key)}?r=${Math.max(1, reached)}`, { headers: { Accept: "application/json" } });
      say("All that answer were read; whoever lacked something was sent it.");
    } catch (error) {
      say(error.status === 404 ? "All that answer were read: none has a value." : why(error), error.status !== 404);
    }
    look();
  }

  function draw() {
    if (ending.signal.aborted) return;
    const behind = told ? told.nodes.filter((one) => one.behind && one.fate === "holds").length : 0;
    fill(place, trouble && h("p.note.bad", { role: "alert" }, trouble), !told && !trouble && h("p.quiet", "Asking every node…"),
      told && [table("What each node holds", ["Node", "Holds", "State", "Keeps it", "Written"], rows(told)),
        behind > 0 && h("div.row", h("button", { onclick: mend }, "Read all replicas"), h("span.quiet.small", `${count(behind, "node is", "nodes are")} behind: a read of all of them sends each what it lacks.`))]);
  }

  draw();
  look();
  const ticking = setInterval(() => document.hidden || look(), EVERY_MS);
  return () => {
    ending.abort();
    clearInterval(ticking);
  };
}

/** A field that asks for a key, and what becomes of it beside the ring. */
export function finder(place, onTold) {
  let end = () => {};
  const held = h("div");
  const name = h("input", { id: "where", spellcheck: "false", autocapitalize: "off", placeholder: "a key" });
  const find = (event) => {
    event.preventDefault();
    end();
    end = () => {};
    onTold(null);
    fill(held);
    if (name.value) end = replicasOf(held, name.value, onTold);
  };
  fill(place, h("h2", "Where does a key lie?"), h("form.row.where", { onsubmit: find }, h("label.unseen", { for: "where" }, "Key"), name, h("button", "Find")), held);
  return () => {
    end();
    onTold(null);
  };
}
