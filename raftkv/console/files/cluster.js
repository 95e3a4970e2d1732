// The cluster at a glance: who leads, who is reached, who lags, and what was seen to change.
import { bytes, clock, count, facts, fill, h, number, table, time } from "./page.js";
import { earlier, elections, told } from "./elections.js";
import { live, story } from "./live.js";
import { nodesOf, onPicture, picture } from "./picture.js";
import { finder } from "./replicas.js";
import { mark, ringStage } from "./ring.js";
import { stage } from "./stage.js";
import { trying } from "./trying.js";

const EVENTS_SHOWN = 60;

export function cluster(place, _rest, who) {
  const [film, top, where, bottom] = [h("div"), h("div"), h("section.card", { hidden: true }), h("div")];
  const ends = [];
  const draw = () => {
    const { status } = picture;
    if (!status) return fill(top, h("p.quiet", "The node says nothing yet."));
    if (!ends.length && status.mode === "quorum") {
      where.hidden = false;
      ends.push(ringStage(film), finder(where, mark));
    } else if (!ends.length) ends.push(stage(film));
    fill(top, ...content(film, who));
    return fill(bottom, h("section.card", h("h2", `The nodes as ${status.node} sees them`), list(status, nodesOf(picture))), trying(status, who?.user));
  };
  place.replaceChildren(top, where, bottom);
  draw();
  const endPicture = onPicture(draw);
  return { end: () => [endPicture, ...ends].forEach((end) => end()) };
}

function content(film, who) {
  const { status } = picture;
  const nodes = nodesOf(picture);
  return [
    h("h1", headline(status)), h("p.lead", why(status, nodes)),
    !status.ready && h("p.note.warn", `${status.node} is not ready: ${status.reason}.`),
    h("div.columns",
      h("section.card", { "aria-label": "The nodes, drawn" }, film, h("p.quiet.small", legend(status))),
      h("section.card", h("h2", `${status.node}, ${picture.hasProxy ? "which the proxy asks" : "which serves this page"}`), own(status),
        earlier(), h("h2.next", "What happened lately"), events())),
  ];
}

// -- in words

function headline(status) {
  if (status.mode === "quorum") return "Every node takes reads and writes";
  if (!status.leader) return "Nobody leads";
  return status.leader === status.node && !picture.hasProxy ? `${status.leader} leads: this node` : `${status.leader} leads`;
}

const majority = (status) => Math.floor(status.cluster_size / 2) + 1;

function why(status, nodes) {
  const reached = nodes.filter((one) => one.reachable && one.role !== "learner").length;
  const size = status.cluster_size;
  const spare = status.n - Math.max(status.r, status.w);
  if (status.mode === "quorum") {
    return `${reached} of ${size} nodes answer. Each key lies on ${count(status.n, "node")}: a write waits for ${status.w} of them, a read asks ${status.r}. `
      + (spare > 0 ? `While no more than ${spare} of a key's nodes fail${spare === 1 ? "s" : ""}, it is read and written as before.` : "");
  }
  const needed = `${majority(status)} of ${size}`;
  if (!status.leader && reached < majority(status)) {
    return `${status.node} is cut off: it reaches ${reached} of ${size} nodes, itself included, and a leader needs the votes of ${majority(status)}. It refuses writes, and reads that must be up to date. `
      + `Local reads still answer, from its own copy, which may be old${status.staleness_ms === null ? "" : ` (by ${time(status.staleness_ms / 1000)} at most)`}. If the others are ${majority(status)} or more, they go on without it.`;
  }
  if (!status.leader) return `The nodes are electing one: it needs the votes of ${needed}. Until then writes wait or are refused, and nothing that was answered is lost.`;
  const election = elections().find((one) => one.term === status.term && one.leader === status.leader);
  return [`${status.leader} was `, election ? told(election) : `elected in term ${number(status.term)} by at least ${needed}`, ". ",
    `A write is done once ${needed} nodes have it. If it is cut off or falls silent, the others elect another, mostly within two seconds: writes wait meanwhile, and none that was answered is lost.`];
}

const legend = (status) => status.mode === "quorum"
  ? `Outside: whose keys are whose, by ${number(status.vnodes)} places of each node. Blue: writes on their way; hollow: reads; green: taken, or answered; `
    + "amber: kept for another, handed over, mended; red: no answer. A few of them a second are drawn."
  : "Blue: entries on their way; green: nodes that have them; yellow: votes. Dashed: who does not reach whom.";

function standing(one, status) {
  if (one.misfit) return "takes no part";
  if (!one.reachable) return one.state === "leaving" ? "leaving, not reached" : "not reached";
  if (status.mode === "quorum") return { up: "up", joining: "joining", leaving: "leaving" }[one.state] || one.state || "reached";
  if (one.behind) return `behind by ${count(one.behind, "entry", "entries")}`;
  if (one.behind === 0) return "up to date";
  return "reached";
}

function own(status) {
  const free = status.disk_free_bytes;
  const isRaft = status.mode === "raft";
  const moving = status.transfer;
  return facts(
    ["Role", isRaft ? status.role : "equal among all"],
    isRaft && ["Term", number(status.term)],
    isRaft && ["Log", status.commit_index <= status.applied_index
      ? `${count(status.commit_index, "entry", "entries")}, all applied`
      : `${count(status.commit_index, "entry", "entries")}, ${number(status.commit_index - status.applied_index)} not applied yet`],
    isRaft && ["Revision", number(status.revision)],
    isRaft && ["Own copy is behind by", status.staleness_ms === null ? "not known" : `${number(status.staleness_ms)} ms at most`],
    ...(isRaft ? [] : done(status)),
    !isRaft && ["Two writers at once", status.conflicts === "siblings" ? "both values are kept" : "the later one wins"],
    moving && ["Data coming in", `${moving.ranges_done} of ${moving.ranges} ranges, ${count(moving.keys, "key")}, ${bytes(moving.bytes)}`],
    free !== null && ["Disk free", `${bytes(free)}${status.has_room ? "" : ", too little: writes are refused"}`],
    ["Takes writes", !status.can_write ? "no" : status.mode === "raft" && !status.leader ? "not while nobody leads" : "yes"],
    status.certificate_ends_in_s !== null && ["Certificate ends", `in ${time(status.certificate_ends_in_s)}`],
    status.backup_age_s !== null && ["Last backup", `${time(status.backup_age_s)} ago`],
    ["Version", status.version],
  );
}

/** What a leaderless node has done since it started, exactly. */
function done(status) {
  const sight = live.frames.at(-1)?.nodes.get(status.node);
  const { tally = {} } = sight?.work || {};
  const of = (one, failed) => `${number(one || 0)}${failed ? `, and ${number(failed)} failed` : ""}`;
  return [
    ["Writes through it", of(tally.writes, tally.writes_failed)],
    ["Reads through it", of(tally.reads, tally.reads_failed)],
    ["Writes kept for others", `${number(sight ? sight.hints_pending || 0 : status.hints_pending)} now, ${number(tally.hints_given || 0)} handed over`],
    ["Replicas mended by reads", number(tally.repairs || 0)],
    ["Ranges compared", `${number(tally.ranges || 0)}, of which ${number(tally.differing || 0)} differed`],
    ["Keys repaired here", number(status.repaired_keys)],
  ];
}

/** How many writes all nodes that are heard keep for it, and how large they are. */
function hintsFor(name) {
  const kept = [...live.frames.at(-1)?.nodes.values() || []].flatMap((sight) => (sight.members || []).filter((one) => one.id === name && one.hints));
  const total = (field) => kept.reduce((sum, one) => sum + (one[field] || 0), 0);
  return kept.length ? `${number(total("hints"))}, ${bytes(total("hint_bytes"))}, at ${count(kept.length, "node")}` : "0";
}

function list(status, nodes) {
  const isRaft = status.mode === "raft";
  const heads = isRaft ? ["Node", "Role", "State", "On its way to it", "Clock", "Page"] : ["Node", "Share of keys", "State", "Heard", "Writes kept for it", "Page"];
  return table("Nodes", heads, nodes.map((one) => [
    h("b", one.id), isRaft ? one.role : `${Math.round(100 * (one.share || 0))} %`,
    h("span", { class: one.reachable && !one.misfit ? "" : "bad" }, one.misfit ? `takes no part: ${one.misfit}` : standing(one, status)),
    ...(isRaft ? [one.leads || one.behind === null || !one.reachable ? "–" : one.queued || one.behind ? `${count(one.behind, "entry", "entries")}, ${bytes(one.queued)}` : "nothing"] : []),
    isRaft ? (one.isSelf ? "this node's" : !one.reachable ? "–" : one.clock == null ? status.leader === status.node ? "not known" : "the leader knows" : Math.abs(one.clock) < 0.01 ? "agrees" : `${one.clock < 0 ? "late" : "early"} by ${time(Math.abs(one.clock))}`)
      : one.isSelf || one.heard_ago_ms == null ? "–" : `${time(one.heard_ago_ms / 1000)} ago`,
    ...(isRaft ? [] : [hintsFor(one.id)]),
    one.http && (one.isSelf ? one.http : h("a", { href: `${location.protocol}//${one.http}/ui` }, one.http)),
  ]));
}

/** What this page saw happen, and what nodes tell of themselves, newest first. */
function events() {
  const told = story().map(({ at, text }) => ({ at: new Date(at), text }));
  const all = [...picture.events, ...told].sort((a, b) => b.at - a.at).slice(0, EVENTS_SHOWN);
  return all.length ? h("ol.events", all.map((one) => h("li", h("time", clock(one.at)), " ", one.text)))
    : h("p.quiet", `Nothing has changed. ${picture.status.mode === "raft" ? "Elections, nodes" : "Nodes"} that fall silent and those that come back will stand here.`);
}
