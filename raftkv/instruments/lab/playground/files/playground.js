// Puts the page together: what is heard of the playground, which part shows it, and what buttons ask for.
import { ask, signIn, signedIn, stream } from "/ui/api.js";
import { count, fill, h, number, say, time, why } from "/ui/page.js";
import { stage } from "/ui/stage.js";
import { cart } from "/playground/cart.js";
import { controls, over, words } from "/playground/faults.js";
import { lessons } from "/playground/lessons.js";
import { reads } from "/playground/reads.js";
import { timeline } from "/playground/timeline.js";
import { verdict } from "/playground/verdict.js";

const PAST_MS = 60000;

/** All that is known: `setup` never changes, `play` is the newest state, `view` what nodes show, `marks` the last minute. */
export const heard = { setup: null, play: null, view: { sights: [] }, marks: [], at: 0, isGone: false, bands: [] };
const listeners = new Set();

if (location.hash.length > 1) {
  signIn(location.hash.slice(1));
  history.replaceState(null, "", "/");
}

/** Ask for something to be done; what is refused is said. */
export async function order(what, content) {
  try {
    return await ask("POST", `/${what}`, content, { signal: AbortSignal.timeout(60000) });
  } catch (error) {
    say(why(error), true);
    return null;
  }
}

/** Who leads in the highest term, of those that are heard. */
export function leader() {
  const leads = heard.view.sights.filter((one) => one.role === "leader" && (one.heard_ago_ms || 0) < 1500);
  return leads.sort((a, b) => (b.term || 0) - (a.term || 0))[0] || null;
}

/** Does it run no more because somebody wanted that? */
export const isFelled = (node) => lasts("kill", node) || lasts("lose", node);

export const lasts = (kind, ...places) => heard.play?.faults.find((one) =>
  one.kind === kind && one.places.length === places.length && places.every((place) => one.places.includes(place)));

const band = (one) => ({ from: one.at_ms, until: one.until_ms, words: words(one) });

function bands() {
  const { now_ms: now, faults } = heard.play;
  const isOf = (band) => (one) => one.at_ms === band.from && words(one) === band.words;
  for (const one of heard.bands) if (one.until === null && !faults.some(isOf(one))) one.until = now;
  for (const one of faults) if (!heard.bands.some((known) => isOf(known)(one))) heard.bands.push(band(one));
  heard.bands = heard.bands.filter((one) => one.until === null || one.until > now - PAST_MS);
}

async function* source(signal) {
  for await (const line of stream("/live", {}, signal)) {
    if (line.setup) {
      const isNew = !heard.setup;
      Object.assign(heard, { setup: line.setup, marks: [], bands: line.past_faults.map(band) });
      if (isNew) build();
    }
    heard.marks.push(...line.marks);
    if (line.play) {
      Object.assign(heard, { play: line.play, view: line.view, at: performance.now(), isGone: false });
      heard.marks = heard.marks.filter((mark) => mark[4] > line.play.now_ms - PAST_MS);
      bands();
      listeners.forEach((listener) => listener());
      yield line.view;
    }
  }
}

// -- the page

const film = h("div");
const place = document.querySelector(".play");

function build() {
  const parts = [lessons, verdict, controls, reads, timeline, cart].map((part) => {
    const box = h("div");
    listeners.add(part(box));
    return box;
  });
  const [lessonBox, verdictBox, controlBox, readBox, timeBox, cartBox] = parts;
  place.replaceChildren(head,
    h("div.columns.top",
      h("section.card", { "aria-label": "The nodes" }, film, controlBox),
      h("div", h("section.card.try", lessonBox), h("section.card", verdictBox))),
    h("section.card", readBox), h("section.card", timeBox), h("section.card", cartBox),
    h("p.quiet.small", "All of it runs on this machine, and is gone when the command ends. What is saved stays."));
  listeners.add(top);
  listeners.add(corner);
}

const head = h("div");

function top() {
  const { setup, play } = heard;
  const led = leader();
  const broken = play.faults.length + play.down.filter((node) => !isFelled(node)).length;
  const isRaft = setup.mode === "raft";
  fill(head,
    h("div.row.headline", h("h1", isRaft ? led ? `${led.node} leads` : "Nobody leads" : "Nobody leads, all answer"),
      h("span.spread"),
      broken > 0 && h("button.main", { onclick: () => order("heal") }, "Heal all"),
      h("button", { onclick: save, disabled: saving }, saving ? "Saving …" : "Save this run")),
    h("p.lead", saidOf(setup, play, led, broken)));
}

function saidOf(setup, play, led, broken) {
  const majority = Math.floor(setup.nodes.length / 2) + 1;
  const what = setup.about ? ` ${setup.about}.` : "";
  const wrong = broken ? ` Broken now: ${[...play.faults.map(words), ...play.down.filter((node) => !isFelled(node)).map((node) => `${node} has ended`)].join(", ")}.` : " Nothing is broken.";
  if (setup.mode === "quorum") {
    const { n, r, w } = setup.quorum;
    return `Each key lies on ${count(n, "node")}: a write waits for ${w} of them, a read asks ${r}.${what}${wrong}`;
  }
  const how = led ? `In term ${led.term} a majority voted for it, and a write is done once ${majority} of ${setup.nodes.length} nodes have it.`
    : `A leader needs ${majority} of ${setup.nodes.length} votes. Until there is one, writes wait or are refused, and nothing is lost.`;
  return how + what + wrong;
}

let saving = false;

async function save() {
  saving = true;
  top();
  say("The clients pause, every key is looked at once more, and the report is drawn. It may take a minute.");
  const done = await order("save", {});
  saving = false;
  top();
  if (!done) return;
  const dialog = h("dialog", { "aria-label": "Saved", onclose: () => dialog.remove() }, h("form", { method: "dialog" },
    h("h2", "Saved"), h("p", "A run of the laboratory, in ", h("code", done.folder)),
    h("p", h("a", { href: done.report, target: "_blank", rel: "noopener" }, "Open its report")),
    h("p.quiet.small", "It stays there: ", h("code", `raftkv lab report ${done.folder}`), " draws it anew."),
    h("div.row.end", h("button.main", "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}

// -- the corner, and what is said when the command has ended

function isDark() {
  const root = document.documentElement;
  return root.dataset.theme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
}

function corner() {
  const { setup, play } = heard;
  fill(document.getElementById("corner"),
    setup && h("span.chip", `${setup.mode}, `, h("span", count(setup.nodes.length, "node"))),
    play && h("span.chip", { title: "the command ends by itself then" }, h("span", `ends in ${time(play.left_s)}`)),
    h("button.plain", { "aria-label": isDark() ? "Use light colours" : "Use dark colours", title: "light or dark (d)", onclick: turn }, isDark() ? "☀" : "☾"));
}

function turn() {
  localStorage.setItem("raftkv-theme", document.documentElement.dataset.theme = isDark() ? "light" : "dark");
  corner();
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "d") turn();
});

setInterval(() => {
  const silent = heard.play && performance.now() - heard.at > 3000 && !document.hidden;
  fill(document.getElementById("banner"), silent && h("p.bad", "The playground has ended, or does not answer. What you see is from before."));
}, 1000);

addEventListener("unauthenticated", () => fill(place, h("h1", "Which playground?"),
  h("p", "Open the address that ", h("code", "raftkv lab playground"), " printed, all of it: the word behind the # belongs to one start of it.")));

document.documentElement.dataset.theme = localStorage.getItem("raftkv-theme") || "";
corner();
if (signedIn()) stage(film, { over, source });
else dispatchEvent(new CustomEvent("unauthenticated"));
