// Elements, numbers in words, dialogs. Text is set as text and never parsed: what a key says stays what it says.
const DRAWN = new Set(["svg", "g", "circle", "line", "path", "text", "title", "polyline"]);

/** An element, "tag.class.class"; in its properties "on…" are handlers; undefined, null and false are left out. */
export function h(what, ...children) {
  const [tag, ...classes] = what.split(".");
  const el = DRAWN.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  el.handlers = {};
  if (classes.length) el.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(children[0]?.constructor === Object ? children.shift() : {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) el[name] = el.handlers[name] = value;
    else if (name === "value") el.value = value;
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...nodes(children));
  return el;
}

const nodes = (children) => children.flat(9).filter((one) => one !== undefined && one !== null && one !== false && one !== "")
  .map((one) => one instanceof Node ? one : document.createTextNode(one));

/** Let `place` hold just `children`, changing no more than differs: focus, scrolling and what was typed stay. */
export function fill(place, ...children) {
  const wanted = nodes(children);
  const kept = new Set(wanted);
  wanted.forEach((now, at) => {
    const old = place.childNodes[at];
    if (old === undefined) place.append(now);
    else if (kept.has(old) && old !== now) old.before(now); // it is still to come: not what is made over
    else if (old !== now) change(old, now);
  });
  while (place.childNodes.length > wanted.length) place.lastChild.remove();
}

// Not `one.id`: of a form with a field of that name it is the field, which differs each time.
const idOf = (one) => one.getAttribute?.("id");

function change(old, now) {
  if (old.nodeName !== now.nodeName || idOf(old) !== idOf(now) || now.isConnected) return old.replaceWith(now);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== now.data) old.data = now.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of now.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name in old.handlers) old[name] = null;
  Object.assign(old, now.handlers, { handlers: now.handlers });
  if (old.nodeName !== "TEXTAREA") fill(old, ...now.childNodes);
}

// -- words

const whole = new Intl.NumberFormat("en");
export const count = (n, one, many = one + "s") => `${whole.format(n)} ${n === 1 ? one : many}`;
export const number = (n) => whole.format(n);

export function bytes(n) {
  let at = 0;
  for (; n >= 1024 && at < 4; at += 1) n /= 1024;
  return `${at ? n.toPrecision(3) : n} ${["bytes", "KiB", "MiB", "GiB", "TiB"][at]}`;
}

export function time(s) {
  if (s < 0) return `${time(-s)} ago`;
  if (s < 1) return `${s < 0.01 ? +(s * 1000).toFixed(1) : Math.round(s * 1000)} ms`;
  if (s < 90) return `${s < 10 ? +s.toFixed(1) : Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} hours` : `${Math.round(s / 86400)} days`;
}

let ahead = 0;

/** It is `ms` at the node that serves this page: how long ago something was counts from there, not from a clock that is wrong. */
export function setClock(ms) {
  ahead = Math.abs(ms - Date.now()) > 2000 ? ms - Date.now() : 0;
}

export const now = () => Date.now() + ahead;

/** The day and the time, to the second. */
export const exactly = (ms) => new Date(ms).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** How long ago that was, "5 min ago"; the time itself stands behind it (style.css shows it to whoever has no mouse). */
export function ago(ms) {
  const s = Math.max(0, (now() - ms) / 1000);
  return h("time", { datetime: new Date(ms).toISOString(), title: exactly(ms) }, s < 1 ? "just now" : `${time(Math.floor(s))} ago`);
}

export const clock = (date) => date.toLocaleTimeString("en-GB");

/** Text as it is, but for what cannot be seen or turns others round. */
export const visible = (text) => text.replace(
  /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\udc80-\udcff\ufeff]/gu,
  (one) => one >= "\udc80" && one <= "\udcff" ? `\\x${(one.charCodeAt(0) - 0xdc00).toString(16)}` : `\\u{${one.codePointAt(0).toString(16)}}`);

/** What is to be said of an error. */
export const why = (error) => error.sentence || `${error.message || error}.`;

export const keyed = (key) => h("bdi.key", visible(key));

// -- telling and asking

/** Say something in passing: shown for a while, and read out. */
export function say(text, isBad) {
  document.getElementById("said").textContent = text;
  const toast = h("p", { class: isBad ? "toast bad" : "toast" }, text);
  document.getElementById("toasts").append(toast);
  setTimeout(() => toast.remove(), isBad ? 12000 : 5000);
}

/** Ask before something is done. `content` says what it would do; true if it is to be done. */
export function confirmed(title, content, action, isHarm) {
  const yes = h("button", { class: isHarm ? "harm" : "main", value: "yes" }, action);
  const dialog = h("dialog", { "aria-label": title },
    h("form", { method: "dialog" }, h("h2", title), content,
      h("div.row.end", h("button", { value: "" }, "Cancel"), yes)));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    };
  });
}

export const facts = (...pairs) => h("dl.facts", pairs.filter(Boolean).map(([name, ...what]) =>
  h("div", h("dt", name), h("dd", ...what))));

/** On a phone each row is a card, whose cells say their heads (style.css); the roles are what that would take away. */
export const table = (label, heads, rows) => h("div.scroll", { tabindex: 0, role: "region", "aria-label": label },
  h("table.cards", { role: "table" }, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map((one) => h("th", { scope: "col", role: "columnheader" }, one)))),
    h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, row.map((cell, at) => h("td", { role: "cell", "data-head": heads[at] || null }, cell)))))));
