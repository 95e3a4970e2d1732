// Every operation of the last seconds as a mark, one row for each client, with what was broken behind them.
import { fill, h } from "/ui/page.js";
import { heard } from "/playground/playground.js";
import { FIELDS, reason } from "/playground/reads.js";

const { LANE, KEY, NODE, BEGAN, ENDED, OUTCOME, VALUE, SIBLINGS, BEHIND, HARM, NOTE } = FIELDS;
const SPAN_MS = 20000;
const ROW = 18;
const TOP = 24;

const KINDS = [["write", "write, acknowledged"], ["read", "read, answered"], ["refused", "refused"], ["unknown", "never told what became of it"], ["stale", "stale, and allowed"], ["broken", "stale, or lost, where fresh was promised"]];

function kindOf(mark, lane) {
  if (mark[HARM]) return mark[HARM];
  if (mark[OUTCOME] === "unknown") return "unknown";
  if (mark[OUTCOME] === "failed") return "refused";
  return lane.kind === "writes" ? "write" : "read";
}

function words(mark, lane) {
  const value = [mark[VALUE], ...mark[SIBLINGS]].map((one) => one ?? "nothing").join(" | ");
  const took = `${mark[ENDED] - mark[BEGAN]} ms`;
  const what = lane.kind === "writes" ? `${mark[KEY]} = ${value}` : `reads ${mark[KEY]}`;
  const came = mark[OUTCOME] === "failed" ? `refused (${reason(mark[NOTE])})` : mark[OUTCOME] === "unknown" ? "never told what became of it"
    : lane.kind === "writes" ? mark[OUTCOME] === "weak" ? "acknowledged by the leader alone" : "acknowledged" : `told ${value}${mark[BEHIND] ? `, ${mark[BEHIND]} behind` : ""}`;
  return `${lane.name} at ${mark[NODE]}: ${what}, ${came}, ${took}`;
}

export function timeline(place) {
  const canvas = h("canvas", { role: "img", "aria-label": "The operations of the last twenty seconds" });
  const said = h("output.quiet.small", "Point at a mark to read it.");
  const pens = canvas.getContext("2d");
  let drawn = [];
  let colours = {};
  fill(place, h("h2", "What clients did, the last 20 seconds"), h("div.time", canvas), said,
    h("p.legend.small", KINDS.map(([kind, name]) => h("span", h("i", { class: kind }), name))));

  function taint() {
    const style = getComputedStyle(document.documentElement);
    const probe = h("span", { class: "unseen" });
    document.body.append(probe);
    const of = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
    colours = { write: of("accent"), read: of("good"), refused: of("soft"), unknown: of("soft"), stale: of("amber"), broken: of("bad"), ink: of("ink"), soft: of("soft"), line: of("line"), wash: of("warn-wash"), font: style.fontFamily };
    probe.remove();
  }

  function draw() {
    requestAnimationFrame(draw);
    if (!heard.play || document.hidden) return;
    const lanes = heard.setup.lanes.map((lane, at) => ({ ...lane, at })).filter((lane) => lane.kind !== "looks");
    const wide = canvas.parentNode.clientWidth;
    const high = TOP + lanes.length * ROW + 4;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(wide * scale) || canvas.height !== Math.round(high * scale)) {
      canvas.width = Math.round(wide * scale);
      canvas.height = Math.round(high * scale);
      canvas.style.height = `${high}px`;
    }
    taint.at = taint.at || 0;
    if (performance.now() - taint.at > 500) { taint(); taint.at = performance.now(); }
    pens.setTransform(scale, 0, 0, scale, 0, 0);
    pens.clearRect(0, 0, wide, high);
    pens.font = `12px ${colours.font}`;
    const margin = wide < 500 ? 84 : 150;
    const now = heard.play.now_ms + (performance.now() - heard.at) - 300;
    const x = (ms) => margin + (wide - margin) * (1 - (now - ms) / SPAN_MS);
    pens.save();
    pens.beginPath();
    pens.rect(margin, 0, wide - margin, high);
    pens.clip();
    let level = 0;
    for (const band of heard.bands) {
      const [from, until] = [x(band.from), x(band.until ?? now)];
      if (until < margin) continue;
      pens.fillStyle = colours.wash;
      pens.fillRect(Math.max(margin, from), TOP - 4, until - Math.max(margin, from), high);
      pens.fillStyle = colours.soft;
      const at = Math.min(Math.max(margin + 2, from + 2), wide - pens.measureText(band.words).width - 2);
      if (level === 0 || at > level) { pens.fillText(band.words, at, 14); level = at + pens.measureText(band.words).width + 12; }
    }
    pens.restore();
    lanes.forEach((lane, row) => {
      const y = TOP + row * ROW;
      pens.fillStyle = colours.soft;
      pens.fillText(nameOf(lane, wide < 500), 0, y + 12);
      pens.fillStyle = colours.line;
      pens.fillRect(margin, y + ROW - 2, wide - margin, 1);
    });
    drawn = [];
    const rows = new Map(lanes.map((lane, row) => [lane.at, [lane, TOP + row * ROW]]));
    for (const mark of heard.marks) {
      if (!rows.has(mark[LANE]) || mark[ENDED] < now - SPAN_MS) continue;
      const [lane, y] = rows.get(mark[LANE]);
      const from = Math.max(margin, x(mark[BEGAN]));
      const until = Math.max(from + 3, x(mark[ENDED]));
      if (from > wide) continue;
      const kind = kindOf(mark, lane);
      pens.fillStyle = pens.strokeStyle = colours[kind];
      if (kind === "refused") { pens.fillRect(from, y + 7, until - from, 2); pens.fillRect(until - 2, y + 3, 2, 10); }
      else if (kind === "unknown") { pens.setLineDash([3, 3]); pens.strokeRect(from + .5, y + 3.5, until - from, 9); pens.setLineDash([]); }
      else pens.fillRect(from, kind === "stale" || kind === "broken" ? y + 1 : y + 3, until - from, kind === "stale" || kind === "broken" ? 14 : 10);
      drawn.push([from - 2, until + 2, y, mark, lane]);
    }
  }

  const nameOf = (lane, short) => lane.kind === "writes" ? lane.name : `${lane.node} ${short ? (lane.kind === "local" ? heard.setup.local : heard.play.fresh).slice(0, 6) : lane.kind === "local" ? heard.setup.local : heard.play.fresh}`;

  canvas.onpointermove = (event) => {
    const box = canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const found = drawn.findLast(([from, until, y]) => px >= from && px <= until && py >= y && py < y + ROW);
    if (found) said.textContent = words(found[3], found[4]);
  };
  requestAnimationFrame(draw);
  return () => canvas.setAttribute("aria-label", summary());
}

function summary() {
  const since = heard.play.now_ms - SPAN_MS;
  const last = heard.marks.filter((mark) => mark[ENDED] > since);
  const of = (test) => last.filter(test).length;
  const meanwhile = heard.bands.filter((band) => band.until === null || band.until > since).map((band) => band.words);
  return `The last 20 seconds: ${last.length} operations, ${of((one) => one[OUTCOME] === "failed")} refused, ${of((one) => one[OUTCOME] === "unknown")} unknown, ${of((one) => one[HARM] === "stale")} stale, ${of((one) => one[HARM] === "broken")} broken promises${meanwhile.length ? `; broken meanwhile: ${meanwhile.join(", ")}` : ""}`;
}
