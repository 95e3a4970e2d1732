// "Try this": steps that a teacher can follow by clicking, and what is to be seen, ticked off as it is seen.
import { fill, h } from "/ui/page.js";
import { heard, lasts, leader, order } from "/playground/playground.js";
import { turn } from "/playground/faults.js";
import { FIELDS } from "/playground/reads.js";

const { LANE, NODE, ENDED, OUTCOME, HARM, BEGAN } = FIELDS;

/** Has a client been told so at `node` since the step was begun? */
const was = (step, kinds, test) => heard.marks.some((mark) => mark[BEGAN] > step.since && kinds.includes(heard.setup.lanes[mark[LANE]].kind) && test(mark));
const refused = (step, node) => was(step, ["fresh"], (mark) => mark[NODE] === node && mark[OUTCOME] === "failed");
const stale = (step, node) => was(step, ["local"], (mark) => mark[NODE] === node && mark[HARM] === "stale");
const fresh = (step, node) => was(step, ["local"], (mark) => mark[NODE] === node && mark[OUTCOME] === "ok" && !mark[HARM] && mark[ENDED] > step.mended);
const written = (step) => was(step, ["writes"], (mark) => mark[NODE] !== step.node && mark[OUTCOME] === "ok" && mark[BEGAN] > step.since + 1500);
const another = (step) => leader() && leader().node !== step.node && (leader().term || 0) > step.term;
const sight = (node) => heard.view.sights.find((one) => one.node === node);

const RAFT = [
  {
    name: "Who leads, and why?",
    text: ({ led }) => `${led || "Nobody"} leads: a majority voted for it, once, in this term. Every write goes to it (blue dots), comes back from those who have it on disk (green), and is acknowledged as soon as a majority has. Both columns of the table below show the same.`,
    see: [["writes are acknowledged", (step) => was(step, ["writes"], (mark) => mark[OUTCOME] === "ok")],
      ["every node answers local reads", (step) => heard.setup.nodes.every((node) => was(step, ["local"], (mark) => mark[NODE] === node && mark[OUTCOME] === "ok"))],
      ["every node answers linearizable reads, also those that do not lead", (step) => heard.setup.nodes.every((node) => was(step, ["fresh"], (mark) => mark[NODE] === node && mark[OUTCOME] === "ok"))]],
  },
  {
    name: "Cut off the leader",
    text: ({ node }) => `Cut off, ${node} no longer hears the others, nor they it; clients still reach all. Who is alone cannot know whether the others have gone on without it. So it must refuse what needs to be fresh, or answer from the past. There is no third way.`,
    is: (step) => lasts("cut", step.node), doing: "Cut off", act: (step) => turn("cut", [step.node], true), undo: (step) => turn("cut", [step.node], false), undoing: "Reconnect",
    see: [["the others elect another leader, in a higher term", another], ["they go on: writes are acknowledged", written],
      [(step) => `${step.node} refuses linearizable reads`, (step) => refused(step, step.node)],
      [(step) => `local reads at ${step.node} are stale: amber, for nothing else was promised`, (step) => stale(step, step.node)]],
    after: [[(step) => `reconnected, ${step.node} follows, and is fresh again`, (step) => sight(step.node)?.role === "follower" && fresh(step, step.node)]],
  },
  {
    name: "Pause the leader",
    text: ({ node }) => `A pause stops ${node} in the middle of what it does, like a laptop that is closed. When it wakes, no time has passed for it: it still takes itself for the leader. A linearizable read asks a majority first, so it cannot be fooled. Tick “trust clocks” below the picture and try again: a lease has ended by a clock that went on.`,
    is: (step) => lasts("pause", step.node), doing: "Pause", act: (step) => turn("pause", [step.node], true), undo: (step) => turn("pause", [step.node], false), undoing: "Wake",
    see: [[(step) => `${step.node} says nothing`, (step) => (sight(step.node)?.heard_ago_ms || 0) > 1500], ["the others elect another", another]],
    after: [[(step) => `awake, ${step.node} learns that it leads no more`, (step) => sight(step.node)?.role === "follower"],
      ["no fresh read was stale", (step) => heard.play.score.fresh_stale === 0 && sight(step.node)?.role === "follower"]],
  },
  {
    name: "Slow down a follower",
    text: ({ other }) => `Messages to and from ${other} take longer. Nobody waits for it: the leader and one more are a majority. Slow down the leader instead, and every write takes longer.`,
    is: (step) => lasts("slow", step.other), doing: "Slow down", who: "other", act: (step) => turn("slow", [step.other], true), undo: (step) => turn("slow", [step.other], false), undoing: "Full speed",
    see: [[(step) => `local reads at ${step.other} lag a little behind`, (step) => stale(step, step.other)], ["writes are acknowledged as before", (step) => was(step, ["writes"], (mark) => mark[OUTCOME] === "ok")]],
  },
  {
    name: "Acknowledged, and lost",
    text: ({ node }) => `Let writers be content with the leader's own disk (w=leader), and cut ${node} off. It goes on acknowledging for a moment what nobody else has. The others elect another, who never heard of it. Reconnect it: what it had acknowledged is gone. This is the one red that raftkv can be asked for.`,
    is: (step) => heard.play.weak && lasts("cut", step.node), doing: "Ask for less, and cut off", act: async (step) => {
      await order("traffic", { weak: true, rate_per_s: 90 });
      await new Promise((done) => setTimeout(done, 1500)); // who still waits for a majority gets it first
      await turn("cut", [step.node], true);
    },
    undo: async (step) => { await turn("cut", [step.node], false); await order("traffic", { weak: false, rate_per_s: 30 }); }, undoing: "Reconnect, and ask for a majority again",
    see: [["the others elect another", another]],
    after: [["writes that were acknowledged are lost: red", () => heard.play.score.weak_lost > 0]],
  },
  {
    name: "Lose a disk",
    text: ({ other }) => `${other} is killed, and its disk emptied. Started again it has forgotten whom it voted for and what it acknowledged, and the others rest on both. So it does not vote, and counts in no majority, until it has been given everything. Then it is a member again by itself, and nothing is lost. Two empty disks of three would be another matter: nobody could tell what was acknowledged, and the cluster would stand still rather than guess.`,
    is: (step) => lasts("lose", step.other), doing: "Empty the disk of", who: "other", act: (step) => turn("lose", [step.other], true), undo: (step) => turn("lose", [step.other], false), undoing: "Start it, empty",
    see: [["the others go on: writes are acknowledged", (step) => was(step, ["writes"], (mark) => mark[NODE] !== step.other && mark[OUTCOME] === "ok" && mark[BEGAN] > step.since + 1500)]],
    after: [[(step) => `${step.other} has everything again, and is fresh`, (step) => sight(step.other)?.role === "follower" && !sight(step.other).misfit && fresh(step, step.other)],
      ["no acknowledged write is lost", (step) => fresh(step, step.other) && heard.play.score.lost === 0]],
  },
];

const QUORUM = [
  {
    name: "Nobody leads",
    text: ({ n, w, r }) => `Every node takes reads and writes. A write goes to all ${n} nodes that keep the key and is done when ${w} have it; a read asks ${r} and takes the newest. Nobody is elected, so there is nobody to wait for.`,
    see: [["every node answers reads", (step) => heard.setup.nodes.every((node) => was(step, ["local"], (mark) => mark[NODE] === node && mark[OUTCOME] === "ok"))],
      ["writes are acknowledged", (step) => was(step, ["writes"], (mark) => mark[OUTCOME] === "ok")]],
  },
  {
    name: "Cut off a node",
    text: ({ node, w, r, n }) => w > 1
      ? `Cut off, ${node} is alone: it cannot find the ${w} nodes that a write waits for, so it refuses. Its reads that ask one node alone are answered, from the past.`
      : `Cut off, ${node} is alone, and one node is enough for a write (W = 1): both sides take writes, and know nothing of each other. With R = ${r} of N = ${n} reads miss what the other side wrote.`,
    is: (step) => lasts("cut", step.node), doing: "Cut off", act: (step) => turn("cut", [step.node], true), undo: (step) => turn("cut", [step.node], false), undoing: "Reconnect",
    see: [[(step) => `${heard.setup.local} reads at ${step.node} are stale: allowed, amber`, (step) => stale(step, step.node)], [(step) => `${step.node} refuses reads that must be fresh`, (step) => refused(step, step.node)], ["the others go on", written]],
    after: [["reconnected, it is told what it missed", (step) => fresh(step, step.node)]],
  },
  {
    name: "Kill a node",
    text: ({ node }) => `When ${node} is killed (kill -9), the others serve on at once: there is no leader whose end must be noticed first. What they keep for it is handed over when it is back.`,
    is: (step) => lasts("kill", step.node), doing: "Kill", act: (step) => turn("kill", [step.node], true), undo: (step) => turn("kill", [step.node], false), undoing: "Start again",
    see: [["writes are acknowledged by the others", written]],
    after: [[(step) => `${step.node} answers again, and is fresh`, (step) => fresh(step, step.node)]],
  },
  {
    name: "Lose a disk",
    text: ({ node, w }) => `${node} is killed, and its disk emptied. Started again it asks the others whether they know an earlier life of it. They do: so it answers no reads, and acknowledges no writes, until it has fetched its data from them. ${w > 1 ? "What it alone had is on another node, too, for a write waits for several." : "With W = 1 what nobody else had yet is gone."}`,
    is: (step) => lasts("lose", step.node), doing: "Empty the disk of", act: (step) => turn("lose", [step.node], true), undo: (step) => turn("lose", [step.node], false), undoing: "Start it, empty",
    see: [["writes are acknowledged by the others", written]],
    after: [[(step) => `${step.node} has its data again: its reads are fresh`, (step) => sight(step.node)?.can_read !== false && fresh(step, step.node)]],
  },
];

export function lessons(place) {
  const all = heard.setup.mode === "raft" ? RAFT : QUORUM;
  let at = 0;
  let step = null;
  step = begun();

  function begun() {
    const node = leader()?.node || step?.node || heard.setup.nodes[0];
    return { since: heard.play?.now_ms || 0, mended: 0, node, led: leader()?.node, term: leader()?.term || 0,
      other: heard.setup.nodes.find((one) => one !== node), isDone: false, isUndone: false, isBusy: false, seen: new Set(), ...heard.setup.quorum };
  }

  function choose(number) {
    at = number;
    step = begun();
    draw();
  }

  /** Where the lesson stands, whoever broke or mended something: the button here, or a click elsewhere. */
  function notice() {
    const { is } = all[at];
    if (!is) return Object.assign(step, { led: leader()?.node });
    if ((!step.isDone || step.isUndone) && !step.isBusy) {
      const now = begun();
      if (is(now)) step = { ...now, isDone: true };
      else if (!step.isDone) step = now;
    }
    if (step.isDone && !step.isUndone && !step.isBusy && !is(step)) Object.assign(step, { isUndone: true, mended: heard.play.now_ms });
    return step;
  }

  async function act(what) {
    if (what === "act") step = begun();
    step.isBusy = true;
    draw();
    await all[at][what](step);
    Object.assign(step, { isBusy: false, isDone: true });
    if (what === "undo") Object.assign(step, { isUndone: true, mended: heard.play.now_ms });
  }

  function sights({ see = [], after = [], is }) {
    const rows = [...see.map((one) => [one, !is || (step.isDone && !step.isUndone)]), ...after.map((one) => [one, step.isUndone])];
    return h("ul.see", rows.map(([[text, test], isOn], number) => {
      if (isOn && test(step)) step.seen.add(number);
      const isSeen = step.seen.has(number);
      return h("li", { class: isSeen ? "seen" : "" }, h("span", { "aria-hidden": "true" }, isSeen ? "✓" : "○"),
        h("span", typeof text === "string" ? text : text(step), isSeen && h("span.unseen", " (seen)")));
    }));
  }

  function draw() {
    const lesson = all[at];
    notice();
    const isOn = step.isDone && !step.isUndone;
    fill(place, h("div.row", h("h2", "Try this"), h("span.spread"), h("div.row.segments.steps", { role: "group", "aria-label": "Lessons" }, all.map((one, number) =>
      h("button", { "aria-pressed": String(number === at), "aria-label": `Lesson ${number + 1}: ${one.name}`, title: one.name, onclick: () => choose(number) }, String(number + 1))))),
    h("h3", lesson.name), h("p", lesson.text(step)), sights(lesson),
    h("div.row", lesson.is && h("button.main", { disabled: step.isBusy, onclick: () => act(isOn ? "undo" : "act") },
      isOn ? lesson.undoing : `${lesson.doing} ${step[lesson.who || "node"]}`),
    at + 1 < all.length && h("button", { onclick: () => choose(at + 1) }, "Next")));
  }

  return draw;
}
