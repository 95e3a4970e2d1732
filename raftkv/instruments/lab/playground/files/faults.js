// What breaks things: buttons for every node and link, and the picture itself, where a click cuts.
import { fill, h } from "/ui/page.js";
import { MIDDLE } from "/ui/stage.js";
import { heard, lasts, leader, order } from "/playground/playground.js";
import { clients } from "/playground/reads.js";

const DELAYS = [[50, "50 ms"], [300, "300 ms"], [1500, "1.5 s"]];
const WORDS = {
  cut: ["Cut off", "Reconnect"], slow: ["Slow", "Full speed"], pause: ["Pause", "Wake"], kill: ["Kill", "Start again"],
  lose: ["Lose disk", "Start empty"],
};
const LOST = {
  raft: "kill -9, and its disk is emptied. Started again it has forgotten its votes and what it acknowledged, so it counts in no majority until it has been given all of it. If a majority loses its disks, nobody can tell any more what was acknowledged, and the cluster stands still rather than guess",
  quorum: "kill -9, and its disk is emptied. Started again it counts in no read and no write until it has fetched its data from the others, and waits while too few of them can be reached. What was on lost disks alone is gone",
};
const TOLD = {
  cut: "no message passes between it and the others; clients still reach it",
  slow: "messages between it and the others take longer",
  pause: "all its processes stand still (SIGSTOP), as on a laptop that is closed",
  kill: "kill -9: what it had not written to its disk is gone",
};
let delay = 300;
const busy = new Set();

/** What a fault does, in few words. */
export const words = ({ kind, places }) => {
  const [one, other] = places;
  if (other) return kind === "cut" ? `nothing passes between ${one} and ${other}` : `slow between ${one} and ${other}`;
  return `${one} is ${{ cut: "cut off", slow: "slow", pause: "paused", kill: "killed", lose: "without its disk" }[kind]}`;
};

export async function turn(kind, places, on) {
  const key = `${kind} ${places.join(" ")}`;
  busy.add(key);
  draw?.();
  await order("fault", { kind, places, on, delay_ms: delay });
  busy.delete(key);
  draw?.();
}

const describe = (kind) => TOLD[kind] || LOST[heard.setup.mode];
const isDown = (node) => heard.play.down.includes(node);

function button(kind, ...places) {
  const on = Boolean(lasts(kind, ...places)) || (kind === "kill" && isDown(places[0]) && !lasts("lose", places[0]));
  const isLink = places.length === 2;
  const isOff = !on && ["pause", "kill"].includes(kind) && isDown(places[0]);
  const name = kind === "cut" && isLink ? ["Cut", "Mend"] : WORDS[kind];
  return h("button", {
    class: on ? "on" : "", disabled: isOff || busy.has(`${kind} ${places.join(" ")}`), title: isLink ? undefined : describe(kind),
    "aria-label": `${name[on ? 1 : 0]} ${places.join(" – ")}`, onclick: () => turn(kind, places, !on),
  }, name[on ? 1 : 0]);
}

const pairs = (nodes) => nodes.flatMap((a, at) => nodes.slice(at + 1).map((b) => [a, b]));

let draw = null;

export function controls(place) {
  draw = () => {
    const { nodes } = heard.setup;
    const led = leader()?.node;
    fill(place,
      h("p.quiet.small", "Click a node to cut it off, or a line to cut that link. Click again to mend it."),
      h("div.faults", { role: "group", "aria-label": "Break nodes" }, nodes.map((node) =>
        h("div.row", h("span.name", h("b", node), h("span.quiet.small.which", node === led ? "leads" : "")), Object.keys(WORDS).map((kind) => button(kind, node))))),
      h("details", h("summary", "What each button does"),
        Object.entries(WORDS).map(([kind, [name]]) => h("p.small", h("b", name), `: ${describe(kind)}.`))),
      h("details", h("summary", "Single links, and how slow is slow"),
        h("div.faults", { role: "group", "aria-label": "Break links" }, pairs(nodes).map(([a, b]) =>
          h("div.row", h("b.link", `${a} – ${b}`), button("cut", a, b), button("slow", a, b)))),
        h("label", { for: "delay" }, "Slow means that each message takes so much longer"),
        h("select", { id: "delay", onchange: (event) => { delay = Number(event.target.value); } },
          DELAYS.map(([ms, name]) => h("option", { value: ms, selected: ms === delay }, name)))),
      clients());
  };
  return draw;
}

/** From circle to circle. */
function short([x1, y1], [x2, y2]) {
  const part = 38 / Math.hypot(x2 - x1, y2 - y1);
  const [dx, dy] = [(x2 - x1) * part, (y2 - y1) * part];
  return [x1 + dx, y1 + dy, x2 - dx, y2 - dy];
}

/** Would a word there touch those in the middle? */
const isCrowded = (x, y) => Math.abs(x - MIDDLE) < 90 && Math.abs(y - MIDDLE) < 30;

const pressed = (act) => ({ onclick: act, onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } } });

/** What is drawn over the picture: where a click cuts, and what is broken. */
export function over(at) {
  const under = [];
  if (!heard.play) return { under, above: [] };
  const nodes = heard.setup.nodes.filter((node) => at.has(node));
  const links = pairs(nodes).map(([a, b]) => {
    const [x1, y1, x2, y2] = short(at.get(a), at.get(b));
    const cut = lasts("cut", a, b);
    const slow = lasts("slow", a, b);
    if (cut || lasts("cut", a) || lasts("cut", b)) under.push(h("line", { x1, y1, x2, y2, class: "severed" }), h("line", { x1, y1, x2, y2, class: "reach none" }));
    const part = isCrowded((x1 + x2) / 2, (y1 + y2) / 2) ? 0.3 : 0.5;
    const [x, y] = [x1 + part * (x2 - x1), y1 + part * (y2 - y1)];
    return h("g", { class: "touch", tabindex: 0, role: "button", "aria-label": `${cut ? "Mend" : "Cut"} the link of ${a} and ${b}`, ...pressed(() => turn("cut", [a, b], !cut)) },
      h("title", cut ? `mend ${a} – ${b}` : `cut ${a} – ${b}`),
      h("line", { x1, y1, x2, y2, class: "hit" }), (cut || slow) && h("text", { x, y: y + 5, class: "badge" }, cut ? "cut" : "slow"));
  });
  const touches = nodes.map((node) => {
    const [x, y] = at.get(node);
    const cut = lasts("cut", node);
    const said = [lasts("lose", node) ? "disk lost" : isDown(node) ? "killed" : "", lasts("pause", node) && "paused", cut && "cut off", lasts("slow", node) && "slow"].filter(Boolean);
    return h("g", { class: "touch", tabindex: 0, role: "button", "aria-label": `${cut ? "Reconnect" : "Cut off"} ${node}`, ...pressed(() => turn("cut", [node], !cut)) },
      h("title", cut ? `reconnect ${node}` : `cut off ${node}`),
      h("circle", { cx: x, cy: y, r: 36, class: said.length ? "hit broken" : "hit" }),
      said.length > 0 && h("text", { x, y: y - 44, class: "badge" }, said.join(", ")));
  });
  return { under, above: [...links, ...touches] };
}
