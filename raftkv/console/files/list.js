// A list of any length, of which only the rows in sight exist. Arrow keys move, Enter opens.
import { fill, h } from "./page.js";

const ROW = 32;
const BEYOND = 8;

/** `draw(row)` gives a row's parts, `open(row)` is called for the one that is chosen, `more()` near the end. */
export function rowsIn(label, draw, open, more) {
  let rows = [];
  let at = 0;
  let chosen = null;
  const inner = h("div", { role: "presentation" });
  const outer = h("div", { role: "presentation" }, inner);
  const el = h("div.rows", { role: "tree", tabindex: 0, "aria-label": label, onscroll: paint, onkeydown: press,
    onclick: (event) => {
      const row = event.target.closest("[data-at]");
      if (row) choose(Number(row.dataset.at));
    } }, outer);
  new ResizeObserver(paint).observe(el);

  function paint() {
    const first = Math.max(0, Math.floor(el.scrollTop / ROW) - BEYOND);
    const last = Math.min(rows.length, Math.ceil((el.scrollTop + el.clientHeight) / ROW) + BEYOND);
    outer.style.height = `${rows.length * ROW}px`;
    inner.style.transform = `translateY(${first * ROW}px)`;
    fill(inner, rows.slice(first, last).map((row, offset) => h("div", {
      id: `row${first + offset}`, "data-at": first + offset, role: "treeitem", class: first + offset === at ? "row-one at" : "row-one",
      "aria-level": row.depth + 1, "aria-setsize": rows.length, "aria-posinset": first + offset + 1,
      "aria-expanded": row.folder && String(Boolean(row.open)), "aria-selected": String(row.key !== undefined && row.key === chosen),
    }, Array.from({ length: Math.min(row.depth, 12) }, () => h("i")), draw(row))));
    el.setAttribute("aria-activedescendant", `row${at}`);
    if (last >= rows.length - BEYOND) more();
  }

  function choose(place) {
    at = place;
    open(rows[at]);
    paint();
  }

  function press(event) {
    const row = rows[at];
    const page = Math.max(1, Math.floor(el.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length }[event.key];
    if (step) {
      at = Math.max(0, Math.min(rows.length - 1, at + step));
      if (at * ROW < el.scrollTop) el.scrollTop = at * ROW;
      if ((at + 1) * ROW > el.scrollTop + el.clientHeight) el.scrollTop = (at + 1) * ROW - el.clientHeight;
      paint();
    } else if (row && (event.key === "Enter" || (row.folder && event.key === (row.open ? "ArrowLeft" : "ArrowRight")))) choose(at);
    else return;
    event.preventDefault();
  }

  return {
    el,
    set(now) {
      rows = now;
      at = Math.max(0, Math.min(at, rows.length - 1));
      paint();
    },
    choose(key) {
      chosen = key;
      paint();
    },
  };
}
