// The verdict as it stands: red is harm, amber is what was allowed and is shown, green what held.
import { count, fill, h, number, time } from "/ui/page.js";
import { heard } from "/playground/playground.js";

function line(kind, name, said, ...more) {
  return h("li", { class: kind }, h("span.sign", { "aria-hidden": "true" }, { good: "✓", bad: "✗", warn: "!", quiet: "·" }[kind]), h("div", h("b", name), ": ", said, ...more));
}

const told = (story) => h("div.story", h("p", h("b", story.title)), h("ol", story.lines.map((one) => h("li", one))));

function headline({ score }) {
  const harm = [
    score.lost + score.weak_lost > 0 && `${count(score.lost + score.weak_lost, "acknowledged write")} lost`,
    score.fresh_stale > 0 && `${count(score.fresh_stale, "read")} stale where fresh was promised`,
    score.contradictions > 0 && "not linearizable",
  ].filter(Boolean);
  if (harm.length) return ["bad", `Harm: ${harm.join(", ")}`];
  if (score.local_stale) return ["warn", "Every promise is kept. Reads that promise nothing were stale at times."];
  return ["good", "Every promise is kept, and nothing was stale"];
}

export function verdict(place) {
  return () => {
    const { setup, play } = heard;
    const { score, stories, worst } = play;
    const [kind, said] = headline(play);
    const isRaft = setup.mode === "raft";
    const isBroken = score.contradictions + score.fresh_stale > 0;
    const lost = score.lost + score.weak_lost;
    const last = stories.at(-1);
    fill(place, h("h2", "The verdict, live"), h("p", { class: `said ${kind}`, role: "status" }, said),
      h("ul.findings",
        line(isBroken ? "bad" : "good", isRaft ? "Linearizable" : "Reads that promise to be fresh",
          isBroken ? `broken ${count(score.contradictions + score.fresh_stale, "time")}` : `held in ${count(score.fresh_reads, "read")}`,
          score.fresh_refused > 0 && h("span.quiet", `; ${count(score.fresh_refused, "read")} refused rather than guessed`),
          score.undecided > 0 && h("span.quiet", `; ${count(score.undecided, "stretch", "stretches")} too long to check`)),
        line(lost ? "bad" : score.looks ? "good" : "quiet", "Acknowledged writes lost", `${number(lost)} of ${number(score.writes)}`,
          score.weak_lost > 0 && h("span.quiet", `; ${number(score.weak_lost)} of them had been acknowledged by the leader alone, as its writers wished`),
          h("span.quiet", `; every key was looked at ${count(score.looks, "time")}`)),
        line(score.local_stale ? "warn" : "good", `Stale ${setup.local} reads`, `${number(score.local_stale)} of ${number(score.local_reads)}`,
          score.local_stale > 0 && h("span.quiet", `; at worst ${count(score.worst_behind, "version")} behind, overwritten ${time(score.worst_ms / 1000)} before`)),
        setup.merges && line("quiet", "Reads that were given several values", number(score.sibling_reads)),
        line("quiet", "Writes", `${number(score.refused)} refused, ${number(score.unknown)} whose writers were never told`)),
      last && h("div.harm", told(last)),
      worst && h("details", h("summary", "The stalest answer, as a story"), told(worst)));
  };
}
