// What this node does, second by second, as it counts itself: told while somebody looks, kept by this page.
import { fill, h, number, time } from "./page.js";
import { EVERY_S, KEPT, onSample, samples } from "./samples.js";

const FIRST = 30;
const [WIDE, HIGH] = [600, 120];

/** Below which value so large a part of what came between two samples lay: the upper bound of its bucket. */
function percentile(before, after, part) {
  const bounds = Object.keys(after).map((le) => [le === "+Inf" ? Infinity : Number(le), after[le] - (before[le] || 0)]).sort(([a], [b]) => a - b);
  const all = bounds.at(-1)?.[1];
  if (!all) return null;
  let [low, below] = [0, 0];
  for (const [bound, seen] of bounds) {
    if (seen >= part * all) return bound === Infinity ? low : low + (bound - low) * (part * all - below) / Math.max(1, seen - below);
    [low, below] = [bound, seen];
  }
  return low;
}

function chart(title, lines, show) {
  const top = Math.max(...lines.flatMap(({ points }) => points).filter((one) => one !== null), 0) || 1;
  const span = Math.max(FIRST, samples.length) - 2;
  const x = (at) => WIDE - (samples.length - 2 - at) * WIDE / span;
  const y = (value) => HIGH - value / top * (HIGH - 8);
  const last = lines.map(({ name, points }) => `${name ? `${name} ` : ""}${points.at(-1) === null || points.at(-1) === undefined ? "–" : show(points.at(-1))}`);
  return h("section.card", h("h2", title),
    h("p.now", lines.map(({ name }, at) => h("span", { class: `line${at}` }, last[at], " "))),
    h("div.plot", h("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "chart", role: "img", "aria-label": `${title}: ${last.join(", ")}; at most ${show(top)} in the last minutes` },
      [0, 0.5, 1].map((part) => h("line", { x1: 0, x2: WIDE, y1: y(part * top), y2: y(part * top), class: "grid" })),
      lines.map(({ points }, at) => {
        const runs = points.map((one, place) => one === null ? " " : `${x(place).toFixed(1)},${y(one).toFixed(1)}`).join(" ").split(/ {2,}/);
        return runs.map((run) => h("polyline", { points: run.trim(), class: `line${at}` }));
      })), h("span.quiet.small", { "aria-hidden": "true" }, show(top))), h("p.quiet.small.ends", h("span", `${time(span * EVERY_S)} ago`), h("span", "now")));
}

export function traffic(place) {
  function draw() {
    const pairs = samples.slice(1).map((after, at) => [samples[at], after]);
    const each = (what) => pairs.map(([before, after]) => what(before, after, after.at_s - before.at_s));
    const parts = (from) => [[0.5, "half within"], [0.9, "90 %"], [0.99, "99 %"]].map(([part, name]) =>
      ({ name, points: each((before, after) => percentile(before[from], after[from], part)) }));
    const rate = (n) => `${n < 10 ? n.toFixed(1) : number(Math.round(n))} a second`;
    const codes = [...new Set(samples.flatMap((one) => Object.keys(one.errors)))].sort();
    fill(place, h("h1", "Traffic"), h("p.lead", `What this node was asked in the ${time(KEPT * EVERY_S)} behind you, as far as this page was open. What pages like this one ask is left out.`),
      pairs.length === 0 ? h("p.quiet", "The first numbers come in a moment.") : h("div.columns",
        chart("Requests", [{ name: "", points: each((before, after, s) => (after.requests - before.requests) / s) }], rate),
        chart("How long answers took", parts("took"), time),
        chart("How long the disk took to keep a write", parts("disk"), time),
        chart("Refusals and failures", codes.length ? codes.slice(0, 4).map((code) => ({ name: `${code} ${WORDS[code] || ""}`.trim() + ":", points: each((before, after, s) => ((after.errors[code] || 0) - (before.errors[code] || 0)) / s) }))
          : [{ name: "", points: each(() => 0) }], rate)),
      samples.length > 0 && h("p.quiet", `Open streams: ${number(samples.at(-1).streams)}.`));
  }
  draw();
  return { end: onSample(draw) };
}

const WORDS = { 400: "bad request", 401: "not signed in", 403: "not allowed", 404: "not found", 409: "held by another", 412: "changed meanwhile", 413: "too large", 429: "too busy", 503: "cannot serve now", 504: "outcome not known" };
