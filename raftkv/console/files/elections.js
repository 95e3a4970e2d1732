// Who was elected, when, by whom and why: read out of what the nodes tell of themselves.
import { live } from "./live.js";
import { ago, h, number } from "./page.js";

const KEPT = 6;
const SHORTLY_MS = 10000;

/** The elections that were heard of, newest first: {term, leader, at, votes, before, isHandedOver, isCutOff}. */
export function elections() {
  const all = live.happenings;
  const reigns = all.filter((one) => one.kind === "leads" || one.kind === "follows").map((one) => ({ ...one, leader: one.kind === "leads" ? one.node : one.subject }));
  return all.filter((one) => one.kind === "leads").map(({ node: leader, term, at }) => {
    const of = (kind) => all.filter((one) => one.kind === kind && one.term === term);
    const before = reigns.filter((one) => one.term < term).reduce((last, one) => !last || one.term >= last.term ? one : last, null)?.leader;
    const stood = of("stands").find((one) => one.node === leader);
    return { term, leader, at, before, votes: [...new Set(of("votes").filter((one) => one.subject === leader).map((one) => one.node))].sort(),
      isHandedOver: stood?.detail === "handed over",
      isCutOff: all.some((one) => one.kind === "loses" && one.subject === before && one.at <= at && one.at > at - SHORTLY_MS) };
  }).sort((a, b) => b.term - a.term).slice(0, KEPT);
}

const listed = (names) => names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

function because({ leader, before, isHandedOver, isCutOff }) {
  if (!before) return "no leader was known before";
  if (isHandedOver) return `${before} handed over to it`;
  if (before === leader) return "it had led before, and lost touch with the others for a while";
  return isCutOff ? `${before}, which led before, could not be reached any more` : `${before}, which led before, was not heard any more`;
}

/** Why that node leads, in one sentence. */
export const told = (one) => ["elected in term ", number(one.term), ", ", ago(one.at), ", with the votes of ", listed([one.leader, ...one.votes].sort()), `, because ${because(one)}`];

/** The elections before the newest. */
export function earlier() {
  const all = elections().slice(1);
  return all.length > 0 && [h("h2.next", "Elections before"), h("ol.elections", all.map((one) => h("li", h("b", one.leader), " ", told(one), ".")))];
}
