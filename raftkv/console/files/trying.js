// What can be tried on a cluster like this one, and the command for it: a page of a node starts nothing itself.
import { count, h, say } from "./page.js";

const NODES_MAX = 5;

function commands(status, user) {
  const nodes = status.cluster_size > 3 ? NODES_MAX : 3;
  const quorum = status.mode === "quorum" ? ` --n ${Math.min(nodes, status.n)} --r ${status.r} --w ${status.w}${status.conflicts === "siblings" ? " --siblings" : ""}` : "";
  return [
    ["a cluster like this one, with a copy of its keys", `raftkv lab playground --like ${location.origin}${user ? ` --user ${user}` : ""}`],
    ["the same, without keys", `raftkv lab playground --mode ${status.mode} --nodes ${nodes}${quorum}`],
    ["a story of two minutes, in the terminal", "raftkv lab demo"],
  ];
}

/** A line ends between words only: one that ended within "--mode" would be read as two. */
const words = (command) => command.split(" ").map((word, at) => [at > 0 && " ", h("span", word)]);

async function copy(command) {
  try {
    await navigator.clipboard.writeText(command);
    say("Copied.");
  } catch {
    say("The browser does not let a page copy here: mark it, and copy it by hand.", true);
  }
}

/** `user` is who signed in, if anybody did. */
export function trying(status, user) {
  const who = status.leader || status.node;
  return h("section.card", h("h2", "Try what would happen"),
    h("p", `What are clients told while ${who} is cut off, paused or killed? Type this on a machine of yours. It starts ${count(Math.min(NODES_MAX, Math.max(3, status.cluster_size)), "node")} there, to break by a click; of this cluster it only reads.`),
    commands(status, user).map(([what, command]) => h("div.command", h("span.quiet.small", what),
      h("div.row", h("code", words(command)), h("button", { "aria-label": `Copy: ${what}`, onclick: () => copy(command) }, "Copy")))));
}
