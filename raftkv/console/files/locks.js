// Who holds, and who waits: locks, elections, and the leases that both live by.
import { get } from "./api.js";
import { count, fill, h, keyed, table, time, visible, why } from "./page.js";

const EVERY_MS = 2000;
const LEASES_MAX = 100;

export function locks(place) {
  const ending = new AbortController();
  const options = { signal: ending.signal };
  const opened = new Set();
  let shown = null;
  let trouble = null;

  async function look() {
    try {
      const [found, stood, leases] = await Promise.all([get("/locks", {}, options), get("/elections", {}, options), get("/leases", { limit: LEASES_MAX }, options)]);
      const many = await Promise.all(found.locks.map((one) => opened.has(one.name) || one.waiting
        ? get(`/locks/${encodeURIComponent(one.name)}`, {}, options).catch(() => one) : { ...one, waiting: [] }));
      const all = await Promise.all(leases.leases.map((one) => get(`/leases/${one.id}`, {}, options).catch(() => one)));
      shown = { locks: many, elections: stood.elections, more: found.next !== null || stood.next !== null, leases: all };
      trouble = null;
    } catch (error) {
      if (ending.signal.aborted) return;
      trouble = why(error);
    }
    draw();
  }

  const who = (one) => h("div", h("b", visible(one.holder) || "somebody without a name"),
    h("span.quiet", ` lease ${one.lease}${one.left === undefined ? "" : `, ${time(one.left)} left`}`));
  const nobody = h("span.quiet", "nobody");
  const text = (value) => typeof value === "string" ? visible(value.slice(0, 200)) : "bytes";

  function draw() {
    fill(place, h("h1", "Locks and elections"),
      h("p.lead", "A name is held by who came first and is still there; the others wait in order. Whoever holds it keeps a lease alive: when that ends, the next in line has it."),
      trouble && h("p.note", { role: "alert" }, trouble),
      shown && [h("section.card", h("h2", "Locks"), shown.locks.length ? table("Locks", ["Lock", "Held by", "Waiting, in order"], shown.locks.map((one) => [
        [keyed(one.name), one.permits > 1 && h("span.quiet", ` up to ${one.permits} at once`)], one.holders.length ? one.holders.map(who) : nobody.cloneNode(true),
        one.waiting.length ? one.waiting.map(who) : nobody.cloneNode(true)])) : h("p.quiet", "Nobody holds a lock."),
      shown.more && h("p.quiet", "There are more locks or elections; these are the first by name.")),
      h("section.card", h("h2", "Elections"), shown.elections.length ? table("Elections", ["Election", "Leads", "Waiting, in order"], shown.elections.map(({ name, leader, waiting }) => [
        keyed(name), leader ? [h("b", text(leader.value)), h("span.quiet", ` lease ${leader.lease}`)] : nobody.cloneNode(true),
        waiting.length ? waiting.map((one) => h("div", one.value === undefined ? "a candidate" : h("b", text(one.value)), h("span.quiet", ` lease ${one.lease}`))) : nobody.cloneNode(true)])) : h("p.quiet", "Nobody stands for one.")),
      h("section.card", h("h2", "Leases"), shown.leases.length ? table("Leases", ["Lease", "Time left", "Lives for", "Goes with it"], shown.leases.map((one) => [
        String(one.id), time(one.left), time(one.ttl), [one.keys?.length > 0 && h("div", count(one.keys.length, "key")), [["lock", one.locks], ["election", one.elections]].map(([kind, names = []]) => names.map((name) => h("div", `${kind} `, keyed(name))))]]))
        : h("p.quiet", "There is none."))]);
  }

  draw();
  look();
  const looking = setInterval(() => document.hidden || look(), EVERY_MS);
  return { end: () => {
    ending.abort();
    clearInterval(looking);
  } };
}
