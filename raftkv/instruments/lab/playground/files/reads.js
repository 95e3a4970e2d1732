// A local read beside a linearizable one of the same key, at every node: what each was told, and how old that was.
import { count, fill, h, time } from "/ui/page.js";
import { heard, order } from "/playground/playground.js";

const SILENT_MS = 2500;
let chosen = null;

const LANE = 0, KEY = 1, NODE = 2, BEGAN = 3, ENDED = 4, OUTCOME = 5, VALUE = 6, SIBLINGS = 7, BEHIND = 8, STALE_MS = 9, HARM = 10, NOTE = 11;
export const FIELDS = { LANE, KEY, NODE, BEGAN, ENDED, OUTCOME, VALUE, SIBLINGS, BEHIND, STALE_MS, HARM, NOTE };

const REASONS = {
  no_leader: "no leader is reached", quorum_unreachable: "too few nodes are reached", timeout: "no majority answers in time",
  unavailable: "it cannot serve now",
};
export const reason = (note) => REASONS[note] || (note.startsWith("not sent") ? "the node is not there" : note.startsWith("no answer") ? "no answer came" : note.replaceAll("_", " "));

function answered(mark) {
  if (!mark) return h("span.quiet", "not asked yet");
  const ago = heard.play.now_ms - mark[ENDED];
  if (ago > SILENT_MS && !heard.play.paused) return h("span.quiet", `no answer for ${time(Math.round(ago / 1000))}`);
  if (mark[OUTCOME] !== "ok") return h("span.refused", "refused", h("span.quiet.small", `: ${reason(mark[NOTE])}`));
  return h("span", { class: `told ${mark[HARM]}` }, [mark[VALUE], ...mark[SIBLINGS]].map((one) => one ?? "nothing").join(" | "));
}

function age(mark) {
  if (!mark || mark[OUTCOME] !== "ok" || (heard.play.now_ms - mark[ENDED] > SILENT_MS && !heard.play.paused)) return "";
  const ago = heard.play.now_ms - mark[BEGAN];
  if (!mark[HARM]) return h("span", h("span.good", "fresh"), ago > 1000 && h("span.quiet", ` ${time(ago / 1000)} ago`));
  return h("span", { class: mark[HARM] === "broken" ? "bad" : "warn" },
    `${count(mark[BEHIND], "version")} behind, overwritten ${time(mark[STALE_MS] / 1000)} before`);
}

export function reads(place) {
  return () => {
    const { setup, play } = heard;
    chosen ||= setup.keys[0];
    fill(place,
      h("div.row", h("h2", "One key, asked in two ways at every node"), h("span.spread"),
        h("div.row.segments", { role: "group", "aria-label": "Which key" }, setup.keys.map((key) =>
          h("button", { "aria-pressed": String(key === chosen), onclick: () => { chosen = key; } }, key)))),
      h("p", "Acknowledged last: ", h("b", `${chosen} = ${play.newest[chosen] ?? "nothing yet"}`), h("span.quiet", `. ${setup.promise}`)),
      h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Reads beside each other" }, h("table.beside",
        h("thead", h("tr", ["Node", `${setup.local} read`, `${play.fresh} read`].map((one) => h("th", { scope: "col" }, one)))),
        h("tbody", setup.nodes.map((node) => {
          const { local, fresh } = play.reads[node][chosen] || {};
          return h("tr", h("td", h("b", node)), h("td", answered(local), age(local)), h("td", answered(fresh), age(fresh)));
        })))));
  };
}

/** How often clients ask, and for how much. */
export function clients() {
  const { play, setup } = heard;
  const tick = (name, words) => h("label.check", h("input", { type: "checkbox", checked: play[name], onchange: (event) => order("traffic", { [name]: event.target.checked }) }), ` ${words}`);
  return h("div.clients",
    h("div.row", h("label", { for: "rate" }, h("b", "Clients"), ` ask ${Math.round(play.rate)} times a second`), h("span.spread"),
      h("button", { onclick: () => order("traffic", { paused: !play.paused }) }, play.paused ? "Let them go on" : "Let them pause")),
    h("input", { id: "rate", type: "range", min: 2, max: 120, step: 2, value: play.rate, onchange: (event) => order("traffic", { rate_per_s: Number(event.target.value) }) }),
    setup.mode === "raft" && [tick("lease", "reads that are to be fresh trust clocks (lease)"), tick("weak", "writers are content with the leader's own disk (w=leader)")]);
}
