// All keys, as a tree by "/" or flat; found by how they begin, or by what they or their values contain.
import { coded, decoded, get, keyOf } from "./api.js";
import { keyPage, newKey, watchPage } from "./key.js";
import { rowsIn } from "./list.js";
import { count, fill, h, number, visible, why } from "./page.js";

const PAGE = 1000;
const VALUES_PAGE = 200;
const FOUND_MAX = 10000;

export function keys(place, rest, who) {
  let how = "prefix";
  let text = "";
  let isFlat = localStorage.getItem("raftkv-keys") === "flat";
  let top = null;
  let search = new AbortController();
  let detail = null;
  let mine = null; // how keys begin that whoever signed in may read, where that is not all of them

  // -- what is loaded: `top` is a level {prefix, items, next, isLoading}; an open folder has one of its own

  async function load(level) {
    if (level.isLoading || level.next === null) return;
    level.isLoading = true;
    const signal = search.signal;
    try {
      await (how === "prefix" && !isFlat ? branch(level, signal) : plain(level, signal));
      level.trouble = null;
    } catch (error) {
      if (signal.aborted) return;
      level.trouble = why(error);
      level.next = null;
      if (error.status === 403 && !mine) offer();
    }
    level.isLoading = false;
    draw();
  }

  async function offer() {
    mine = [];
    const roles = await Promise.all((who.roles || []).map((one) => get(`/auth/roles/${encodeURIComponent(one)}`).catch(() => ({ permissions: [] }))));
    mine = roles.flatMap((role) => role.permissions).filter((one) => one.access !== "write" && one.prefix !== undefined).map((one) => keyOf(one.prefix));
    draw();
  }

  async function paged(query, signal) {
    const page = await get("/kv", query, { signal });
    for (const one of page.items) one.key = keyOf(one.key);
    return { items: page.items, next: page.next && keyOf(page.next) };
  }

  async function plain(level, signal) {
    const wanted = text.toLowerCase();
    do {
      const isValue = how === "value";
      const query = { prefix: how === "prefix" ? text : "", start: level.next, limit: isValue ? VALUES_PAGE : PAGE, keys_only: isValue ? 0 : 1 };
      const page = await paged(query, signal);
      level.seen += page.items.length;
      level.items.push(...page.items.filter((one) => how === "prefix"
        || (isValue ? typeof one.value === "string" && one.value.toLowerCase().includes(wanted) : one.key.toLowerCase().includes(wanted)))
        .map(({ key }) => ({ key, name: key })));
      level.next = page.next;
      draw();
    } while (how !== "prefix" && level.next !== null && level.items.length < FOUND_MAX);
  }

  /** One level of the tree: where a folder has more than a page, the next page begins behind it. */
  async function branch(level, signal) {
    const until = level.items.length + PAGE;
    while (level.next !== null && level.items.length < until) {
      const page = await paged({ prefix: level.prefix, start: level.next, limit: PAGE, keys_only: 1 }, signal);
      for (const { key } of page.items) {
        const cut = key.indexOf("/", level.prefix.length);
        const folder = cut < 0 ? null : key.slice(0, cut + 1);
        if (folder === null) level.items.push({ key, name: key.slice(level.base.length) });
        else if (level.items.at(-1)?.folder !== folder) level.items.push({ folder, name: folder.slice(level.base.length) });
      }
      const last = level.items.at(-1)?.folder;
      level.next = page.next !== null && last && page.next.startsWith(last) ? `${last.slice(0, -1)}0` : page.next;
    }
  }

  const levelOf = (prefix, base) => ({ prefix, base, items: [], next: "", seen: 0 });

  function restart() {
    search.abort();
    search = new AbortController();
    top = levelOf(how === "prefix" ? text : "", how === "prefix" ? text.slice(0, text.lastIndexOf("/") + 1) : "");
    load(top);
    draw();
  }

  function flattened(level, depth, into) {
    for (const one of level.items) {
      one.depth = depth;
      into.push(one);
      if (one.open) flattened(one.open, depth + 1, into);
    }
    if (depth && (level.isLoading || level.next !== null)) into.push({ depth, more: level, name: level.isLoading ? "…" : "more" });
    return into;
  }

  // -- what is shown

  const rows = rowsIn("Keys", (row) => [
    h("span.twig", row.folder ? (row.open ? "▾" : "▸") : ""),
    h("bdi", { class: row.more ? "quiet" : "key" }, visible(row.name) || "(the empty rest)")], (row) => {
    if (row.more) load(row.more);
    else if (row.folder) {
      row.open = row.open ? null : levelOf(row.folder, row.folder);
      if (row.open) load(row.open);
      draw();
    } else location.hash = `#/keys/${coded(row.key)}`;
  }, () => how === "prefix" && top && load(top));

  const told = h("p.quiet.small", { role: "status" });

  function draw() {
    const n = top.items.length;
    rows.set(flattened(top, 0, []));
    const scanned = how === "prefix" ? "" : ` of ${count(top.seen, "key")} searched`;
    fill(told, top.trouble ? [h("span.bad", top.trouble), mine?.length > 0 && h("span.row", "You may read keys that begin with", mine.map((prefix) => h("button", { onclick: () => begin(prefix) }, visible(prefix))))]
      : !n && top.isLoading && how === "prefix" ? "Loading…" : [how === "prefix" ? (isFlat ? count(n, "key") : count(n, "entry", "entries")) : `${number(n)} found`, scanned,
        top.next !== null && (how === "prefix" ? ", more below" : "…")]);
  }

  const input = h("input", { type: "search", "aria-label": "Search", placeholder: "Search (/)", spellcheck: "false", autocapitalize: "off", oninput: () => {
    clearTimeout(input.timer);
    input.timer = setTimeout(() => {
      text = input.value;
      restart();
    }, 250);
  } });
  const kind = h("select", { "aria-label": "What is searched", onchange: () => {
    how = kind.value;
    restart();
  } }, h("option", { value: "prefix" }, "Key begins with"), h("option", { value: "key" }, "Key contains"), h("option", { value: "value" }, "Value contains"));
  function begin(prefix) {
    how = kind.value = "prefix";
    text = input.value = prefix;
    restart();
  }
  const shape = h("button", { onclick: () => {
    isFlat = !isFlat;
    localStorage.setItem("raftkv-keys", isFlat ? "flat" : "tree");
    shape.textContent = isFlat ? "Show as tree" : "Show flat";
    restart();
  } }, isFlat ? "Show as tree" : "Show flat");

  const side = h("section.card.detail", { "aria-label": "Key" });
  const front = h("div.columns",
    h("section.card.finder", { "aria-label": "Find keys" }, h("div.row", kind, input),
      h("div.row", h("button.main", { onclick: () => enter(newKey) }, "New key"),
        h("button", { onclick: () => enter(watchPage, how === "prefix" ? text : "") }, "Watch live"), shape), told, rows.el),
    side);

  function enter(what, ...about) {
    detail?.end();
    side.replaceChildren(h("button.plain.back", { onclick: leave }, "‹ All keys"));
    const body = h("div");
    side.append(body);
    front.classList.add("opened");
    detail = what(body, ...about);
  }

  function leave() {
    if (location.hash === "#/keys") choose("");
    else location.hash = "#/keys";
  }

  function choose(rest) {
    const key = rest && decoded(rest);
    rows.choose(key);
    if (key) return enter(keyPage, key, restart);
    detail?.end();
    detail = null;
    front.classList.remove("opened");
    side.replaceChildren(h("p.quiet", "Choose a key to read it, to see what it was before, and to change it."));
  }

  function press(event) {
    if (event.key !== "/" || event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    input.focus();
  }

  fill(place, h("h1", "Keys"), front);
  restart();
  choose(rest);
  document.addEventListener("keydown", press);
  return { go: choose, end: () => {
    document.removeEventListener("keydown", press);
    search.abort();
    detail?.end();
  } };
}
