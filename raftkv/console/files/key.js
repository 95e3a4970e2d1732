// One key: what it holds and held, how long it lives, and how it is changed without losing what others wrote.
import { answer, at, coded, get, keyOf, keyPath, stream } from "./api.js";
import { momentsOf } from "./moments.js";
import { ago, bytes, clock, confirmed, count, exactly, facts, fill, h, keyed, number, say, time, visible, why } from "./page.js";
import { picture } from "./picture.js";
import { replicasOf } from "./replicas.js";
import { bytesOf, difference, views } from "./value.js";

const HISTORY_MAX = 1000;
const WATCHED_MAX = 200;
const EDIT_MAX = 1 << 18;
const AGO_EVERY = 10;

const isRaft = () => picture.status?.mode !== "quorum";

export function keyPage(place, key, changed) {
  const ending = new AbortController();
  let found = null;      // {record} | {siblings, context} | {gone} | {trouble}
  let lease = null;
  let view = null;
  let draft = null;
  let history = [];
  let historyTrouble = null;
  const opened = new Set();
  const replicas = h("div");

  async function read() {
    try {
      const response = await answer("GET", keyPath(key), { headers: { Accept: "application/json" }, signal: ending.signal });
      const context = response.headers.get("Raftkv-Context");
      const told = await response.json();
      const ends = told.ttl_left === undefined ? null : Date.now() + told.ttl_left * 1000;
      found = told.siblings ? { siblings: told.siblings, context } : { record: told, ends, context };
      lease = told.lease ? await get(`/leases/${told.lease}`, {}, { signal: ending.signal }).then(
        (one) => ({ id: one.id, ends: Date.now() + one.left * 1000 }), () => null) : null;
    } catch (error) {
      if (ending.signal.aborted) return;
      found = error.status === 404 ? { gone: true } : { trouble: why(error) };
    }
    draw();
    if (found.record && isLate()) read();
  }

  /** Is what was read older than the last change that was told? */
  const isLate = () => history[0]?.revision > found?.record?.revision || (found?.gone && history[0]?.type === "put");

  /** The past of the key, and from then on whatever becomes of it: one stream of changes. */
  async function recall(oldest) {
    try {
      for await (const told of stream("/watch", { key, from_revision: oldest, progress_s: 1 }, ending.signal)) {
        if (told.code) throw Object.assign(new Error(told.detail), told);
        for (const change of told.changes || []) history.unshift({ ...change, time_ms: told.time_ms });
        history = history.slice(0, HISTORY_MAX);
        if (told.changes && isLate()) read();
        drawSoon();
      }
    } catch (error) {
      if (ending.signal.aborted) return;
      const first = error.problem?.compacted_revision ?? error.compacted_revision;
      if (error.code === "compacted" && first >= oldest) {
        const before = await get(keyPath(key), { revision: first }, { signal: ending.signal }).catch(() => null);
        history = before ? [{ ...before, type: "kept" }] : [];
        return recall(first + 1);
      }
      historyTrouble = error.sentence || error.message;
      if (!error.status) setTimeout(() => ending.signal.aborted || recall((history[0]?.revision || 0) + 1), 2000);
      draw();
    }
  }

  // -- changing

  const guard = () => isRaft() ? (draft.base ? { "If-Match": `"${draft.base.revision}"` } : { "If-None-Match": "*" })
    : draft.context ? { "Raftkv-Context": draft.context } : {};

  function edit(value) {
    const record = found.record;
    draft = {
      base: record, context: found.context, text: value, stage: "write", before: record?.value,
      ttl: found.ends ? String(Math.max(1, Math.ceil((found.ends - Date.now()) / 1000))) : "", lease: record?.lease,
    };
    draw();
    place.querySelector("textarea")?.focus();
  }

  async function save() {
    try {
      const query = draft.lease ? { lease: draft.lease } : { ttl: draft.ttl };
      await answer("PUT", at(keyPath(key), query), { body: draft.text, headers: guard() });
      draft = null;
      say("Saved.");
      changed();
      await read();
    } catch (error) {
      if (error.status === 412) {
        await read();
        Object.assign(draft, { base: found.record, before: found.record?.value, stage: "write",
          trouble: "Somebody changed the key while you were writing. Nothing was saved, and your text is still here: look at what differs now." });
      } else draft.trouble = why(error);
      draw();
    }
  }

  async function remove() {
    const record = found.record;
    const content = [h("p", keyed(key)), h("p", isRaft()
      ? `It is removed if it still stands at revision ${record.revision}; what it held can be read in the history for a while.`
      : "It is removed as you see it; what others write meanwhile stays.")];
    if (!await confirmed("Delete this key?", content, "Delete", true)) return;
    try {
      draft = { base: record, context: found.context };
      await answer("DELETE", keyPath(key), { headers: guard() });
      say("Deleted.");
      changed();
    } catch (error) {
      say(why(error), true);
    }
    draft = null;
    read();
  }

  // -- shown

  function editor() {
    const set = (name) => (event) => { draft[name] = event.target.value; };
    const trouble = draft.trouble && h("p", { role: "alert", class: "note bad" }, draft.trouble);
    if (draft.stage === "review") {
      return [h("h3", "What you change"), trouble, draft.before === draft.text ? h("p.quiet", "The value stays as it is.") : difference(draft.before, draft.text),
        !isRaft() && h("p.quiet.small", "This cluster has no leader: what another writes at this moment is not noticed before you save."),
        h("div.row.end", h("button", { onclick: () => { draft.stage = "write"; draw(); } }, "Back"),
          h("button.main", { onclick: save }, "Save"))];
    }
    return [trouble, h("label", { for: "value" }, "Value"),
      h("textarea", { id: "value", rows: 12, spellcheck: "false", value: draft.text, oninput: set("text") }),
      draft.lease ? h("p.quiet.small", `It stays with lease ${draft.lease}.`)
        : [h("label", { for: "ttl" }, "Lives for so many seconds (empty: for ever)"), h("input", { id: "ttl", inputmode: "numeric", value: draft.ttl, oninput: set("ttl") })],
      h("div.row.end", h("button", { onclick: () => { draft = null; draw(); } }, "Cancel"),
        h("button.main", { onclick: () => { Object.assign(draft, { stage: "review", trouble: null }); draw(); } }, "Review"))];
  }

  function shownValue(value) {
    const all = views(value);
    const name = all[view] ? view : Object.keys(all)[0];
    return [h("div.row.segments", { role: "group", "aria-label": "Shown as" }, Object.keys(all).map((one) =>
      h("button", { "aria-pressed": String(one === name), onclick: () => { view = one; draw(); } }, one)),
    h("span.quiet.small", bytes(bytesOf(value).length), typeof value !== "string" && ", no text")),
    h("pre.value", { tabindex: 0, "aria-label": "Value" }, all[name]())];
  }

  function body() {
    if (!found) return h("p.quiet", "Reading…");
    if (found.trouble) return h("p.note.bad", { role: "alert" }, found.trouble);
    if (draft) return editor();
    if (found.gone) return [h("p", "There is no such key now."), h("button", { onclick: () => edit("") }, "Write it")];
    if (found.siblings) {
      return [h("p.note", `${found.siblings.length} values stand side by side: their writers did not know of each other. Choose one, or join them; that replaces all you see here.`),
        found.siblings.map((one) => h("section.sibling", h("p.quiet.small", `written through ${one.node.split("~")[0]}, ${stamped(one.revision)}`),
          shownValue(one.value), typeof one.value === "string" && h("button", { onclick: () => edit(one.value) }, "Use this one…"))),
        h("button.main", { onclick: () => edit(found.siblings.map((one) => typeof one.value === "string" ? one.value : "").join("\n")) }, "Join all…")];
    }
    const { record, ends } = found;
    const isText = typeof record.value === "string" && record.value.length <= EDIT_MAX;
    return [h("div.row", h("button.main", { disabled: !isText, onclick: () => edit(record.value) }, "Edit"),
      h("button", { onclick: remove }, "Delete"), !isText && h("span.quiet.small", "Only text of up to 256 KiB is edited here.")),
    facts(isRaft() && history[0]?.revision === record.revision && history[0].time_ms && ["Written", ago(history[0].time_ms)],
      isRaft() ? ["Revision", number(record.revision)] : ["Written", `${stamped(record.revision)}, through ${(record.node || "").split("~")[0]}`],
      isRaft() && ["Changed", record.version === 1 ? "never: as it was made" : count(record.version - 1, "time")],
      isRaft() && ["Made at revision", number(record.create_revision)],
      ends && ["Time left", h("b", time(Math.max(0, (ends - Date.now()) / 1000)))],
      lease && [`Lease ${lease.id}`, `ends in ${time(Math.max(0, (lease.ends - Date.now()) / 1000))} unless it is kept alive`]),
    shownValue(record.value)];
  }

  function past() {
    if (!isRaft() || draft || found?.trouble) return null;
    return [h("h3", "History"), moments(found?.record?.value, history), historyTrouble && h("p.bad", historyTrouble),
      history.length ? h("ol.history", history.map((one, at) => {
        const before = history[at + 1]?.value;
        const what = one.type === "kept" ? "is the oldest that is kept" : one.type === "put" ? (one.version === 1 ? "made" : "changed") : one.expired ? "expired" : "deleted";
        return h("li", h("details", { open: opened.has(one.revision), ontoggle: (event) => {
          if (opened.has(one.revision) === event.target.open) return; // every one that is made open says so, which would go on for ever
          opened[event.target.open ? "add" : "delete"](one.revision);
          draw();
        } }, h("summary", h("b", `revision ${number(one.revision)}`), ` ${what}`, one.value !== undefined && `, ${bytes(bytesOf(one.value).length)}`,
          one.time_ms && [" ", h("span.quiet", ago(one.time_ms))]), opened.has(one.revision) && [one.time_ms && h("p.quiet.small", exactly(one.time_ms)), difference(before, one.value),
          typeof one.value === "string" && at > 0 && h("button", { onclick: () => edit(one.value) }, "Bring this back…")]));
      })) : h("p.quiet", "Nothing of its past is kept.")];
  }

  const moments = momentsOf(key, { signal: ending.signal, redraw: draw, shown: shownValue, restore: edit });

  function draw() {
    fill(place, h("h2.keyname", keyed(key)), body(), past(), !isRaft() && [h("h3", "What each node holds"), replicas]);
  }

  let drawing = 0;
  const drawSoon = () => {
    drawing ||= setTimeout(() => {
      drawing = 0;
      if (!ending.signal.aborted) draw();
    }, 50);
  };

  draw();
  read();
  if (isRaft()) recall(1);
  const endReplicas = isRaft() ? () => {} : replicasOf(replicas, key);
  let ticks = 0;
  const ticking = setInterval(() => {
    if (document.hidden || draft) return;
    ticks += 1;
    if (isRaft() && !lease) return (found?.ends || ticks % AGO_EVERY === 0) && draw();
    read();
  }, isRaft() ? 1000 : 3000);
  return { end: () => {
    ending.abort();
    endReplicas();
    clearInterval(ticking);
  } };
}

const stamped = (microseconds) => new Date(microseconds / 1000).toLocaleString("en-GB");

export function newKey(place) {
  const name = h("input", { id: "newkey", required: true, spellcheck: "false", autocapitalize: "off" });
  fill(place, h("form", { onsubmit: (event) => {
    event.preventDefault();
    location.hash = `#/keys/${coded(name.value)}`;
  } }, h("h2", "New key"), h("label", { for: "newkey" }, "Key; “/” makes folders"), name,
  h("div.row.end", h("button.main", "Next"))));
  name.focus();
  return { end() {} };
}

export function watchPage(place, prefix) {
  const ending = new AbortController();
  let told = [];
  let trouble = null;
  const draw = () => fill(place, h("h2", "Live: ", prefix ? ["keys that begin with ", keyed(prefix)] : "all keys"),
    trouble && h("p.note.bad", { role: "alert" }, trouble), !trouble && !told.length && h("p.quiet", "Waiting for something to change…"),
    h("ol.history", { role: "log", "aria-label": "Changes" }, told.map(({ at: when, change }) => h("li", h("span.quiet", clock(when), " "),
      change.type === "put" ? "set " : change.expired ? "expired " : "deleted ", h("a", { href: `#/keys/${coded(keyOf(change.key))}` }, keyed(keyOf(change.key))),
      typeof change.value === "string" && h("span.key.quiet", ` ${visible(change.value.slice(0, 80))}`)))));
  (async () => {
    try {
      for await (const message of stream("/watch", { prefix }, ending.signal)) {
        if (message.code) throw new Error(message.detail);
        told = [...(message.changes || []).map((change) => ({ at: new Date(message.time_ms ?? Date.now()), change })).reverse(), ...told].slice(0, WATCHED_MAX);
        draw();
      }
    } catch (error) {
      if (ending.signal.aborted) return;
      trouble = error.sentence || `It has ended: ${error.message}.`;
      draw();
    }
  })();
  draw();
  return { end: () => ending.abort() };
}
