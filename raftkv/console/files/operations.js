// What operators do: members, who leads, users and roles, backups. Each says first what it would do.
import { answer, ask, get, keyOf, Refusal, signedIn } from "./api.js";
import { bytes, confirmed, count, fill, h, say, table, time, visible, why } from "./page.js";
import { nodesOf, onPicture, picture } from "./picture.js";

const CERTIFICATE_S = 14 * 86400;

/** Where the answer to a form goes, so that one that is no file after all takes no page's place. */
const frame = h("iframe", { name: "saved", hidden: true, onload: () => {
  const told = frame.contentDocument?.body.textContent;
  if (told === "") return; // it is empty at first
  let problem = { detail: "the backup did not come" };
  try {
    problem = JSON.parse(told);
  } catch { /* no problem in JSON */ }
  say(why(new Refusal(0, problem)), true);
} });
document.body.append(frame);

export function operations(place, _rest, who) {
  let access = null;
  let trouble = null;
  let isClosed = false; // without authentication only who proves to have the cluster's secret may, which no page can

  // Without a leader nobody knows one's roles: the API judges.
  const isPlain = who.enabled && who.roles && !who.roles.includes("root");

  async function look() {
    if (isPlain) return;
    try {
      const [users, roles] = await Promise.all([get("/auth/users"), get("/auth/roles")]);
      access = { users: users.users, roles: roles.roles };
      trouble = null;
      isClosed = false;
    } catch (error) {
      isClosed = !who.enabled && error.status === 401;
      trouble = isClosed ? null : why(error);
    }
    draw();
  }

  /** Do it once it is confirmed, and say what came of it. */
  async function change(title, what, action, method, path, body, isHarm) {
    const content = [].concat(what).map((one) => h("p", one));
    if (!await confirmed(title, content, action, isHarm)) return false;
    try {
      await ask(method, path, body);
      say(`${title.replace("?", "")}: done.`);
      look();
      return true;
    } catch (error) {
      say(why(error), true);
      return false;
    }
  }

  const decides = (voters) => `${count(voters, "node")} vote then: a write needs ${Math.floor(voters / 2) + 1}, and ${count(Math.ceil(voters / 2) - 1, "node")} may fail.`;

  function alarms(status, nodes) {
    const found = [];
    if (status.misfit || status.role === "diverged") found.push(`${status.node} takes no part: ${status.misfit || "its data differ from the others'"}.`);
    else if (!status.ready) found.push(`${status.node} is not ready: ${status.reason}.`);
    if (!status.has_room) found.push(`The disk of ${status.node} is full: ${bytes(status.disk_free_bytes)} free, ${bytes(status.disk_reserve_bytes)} are kept in reserve.`);
    nodes.filter((one) => !one.isSelf && !one.reachable).forEach((one) => found.push(`${one.id} cannot be reached from ${status.node}.`));
    nodes.filter((one) => !one.isSelf && one.misfit).forEach((one) => found.push(`${one.id} takes no part: ${one.misfit}.`));
    const ends = status.certificate_ends_in_s;
    if (ends !== null && ends < CERTIFICATE_S) found.push(ends < 0 ? "A certificate has ended." : `A certificate ends in ${time(ends)}.`);
    if (status.backup_interval_s && !(status.backup_age_s <= 2 * status.backup_interval_s)) found.push("The last scheduled backup is overdue.");
    return found;
  }

  function members(status, nodes) {
    const isRaft = status.mode === "raft";
    const voters = nodes.filter((one) => one.state !== "learner").length;
    return [table("Members", ["Member", "State", "", "Clients", "Nodes"], nodes.map((one) => [h("b", one.id), isRaft ? one.role : one.state || "",
      h("div.row",
        isRaft && !one.leads && one.role !== "learner" && h("button", { onclick: () => change(`Let ${one.id} lead?`, `${status.leader || "The leader"} hands over to ${one.id}: writes wait for a moment, none is lost.`, "Hand over", "POST", "/cluster/transfer", { to: one.id }) }, "Let it lead"),
        one.role === "learner" && h("button", { onclick: () => change(`Let ${one.id} vote?`, decides(voters + 1), "Let it vote", "POST", `/cluster/members/${encodeURIComponent(one.id)}/promote`) }, "Let it vote"),
        h("button", { onclick: () => change(`Remove ${one.id}?`, [isRaft ? `${decides(voters - (one.role === "learner" ? 0 : 1))}${one.leads ? ` ${one.id} leads, and hands over first.` : ""}`
          : `${one.reachable ? "It hands its keys to the others first; its page shows how far that is." : "It is not reached: the others copy its keys from the replicas they have."}`,
        `${one.id} ends by itself, and comes back only as a new node with an empty data directory.`], "Remove", "DELETE", `/cluster/members/${encodeURIComponent(one.id)}`, undefined, true) }, "Remove…")), one.http || "", one.peer || ""])),
    h("details", h("summary", "Add a member"), form(["id", "Name", "n4"], ["http", "Address for clients", "10.0.0.4:8001"], ["peer", "Address for nodes", "10.0.0.4:9001"])(async (fields) =>
      change(`Add ${fields.id}?`, isRaft ? [`${fields.id} learns first: it is given all data, and decides nothing. Once it has caught up it votes.`, decides(voters + 1)]
        : [`${fields.id} joins the ring, and takes over its share of the keys from the others while they go on serving.`], "Add", "POST", "/cluster/members", fields)),
    h("p.quiet.small", "Start it there with ", h("code", `raftkv node FILE --id NAME --join ${nodes.find((one) => one.isSelf)?.http || location.host}`), "; it may also add itself so."))];
  }

  /** A form of text fields [name, label, example]; `done(fields)` is true when it may be emptied. */
  const form = (...fields) => (done) => h("form.fields", { onsubmit: async (event) => {
      event.preventDefault();
      const el = event.target;
      const told = new FormData(el);
      if (await done(Object.fromEntries(fields.map(([name]) => [name, told.get(name)])))) el.reset();
    } }, fields.map(([name, label, example]) => h("label", label, h("input", { name, placeholder: example, required: name !== "roles", type: name === "password" ? "password" : "text", autocomplete: name === "password" ? "new-password" : "off" }))),
    h("button", "Go on…"));

  const bound = (told) => visible(keyOf(told ?? ""));
  const permission = (one) => `${one.access === "both" ? "read and write" : one.access} ${one.key !== undefined ? `key ${bound(one.key)}` : one.prefix !== undefined ? `keys that begin with “${bound(one.prefix)}”` : `${bound(one.start)} … ${bound(one.end)}`}`;

  function people() {
    const drop = (kind, name) => h("button", { onclick: () => change(`Remove ${kind} ${name}?`, kind === "user" ? "Nobody signs in by that name any more; tokens end at once." : "Users who have it lose what it allows.", "Remove", "DELETE", `/auth/${kind}s/${encodeURIComponent(name)}`, undefined, true) }, "Remove…");
    const revoke = (name, { access, ...span }) => {
      const named = Object.entries({ access, ...span }).filter(([, value]) => value !== null && value !== undefined);
      return named.every(([, value]) => typeof value === "string") && h("button", { "aria-label": `Revoke ${permission({ access, ...span })} of ${name}`, onclick: () => change(
        `Let ${name} do less?`, `Its users may no longer ${permission({ access, ...span })}, unless another permission or role of theirs says so.`, "Revoke", "DELETE",
        `/auth/roles/${encodeURIComponent(name)}/permissions?${new URLSearchParams(named)}`, undefined, true) }, "Revoke…");
    };
    return [h("p", who.enabled ? "Only users are served: authentication is on." : "Whoever reaches a node may read and write everything: authentication is off."),
      // What comes and goes has a place of its own, so that the forms keep theirs, and what is typed in them.
      h("div", trouble && h("p.note", trouble), access && [access.users.length > 0 && table("Users", ["User", "Roles", ""], access.users.map((one) => [h("b", one.name), one.roles.join(", ") || "none", drop("user", one.name)])),
        access.roles.length > 0 && table("Roles", ["Role", "Allows", ""], access.roles.map((one) => [h("b", one.name), one.permissions.map((each) => h("div.row", permission(each), revoke(one.name, each))), drop("role", one.name)]))]),
      access && [h("details", h("summary", "Add or change a user"), form(["name", "Name", "alice"], ["password", "Password", ""], ["roles", "Roles, by commas", "reader"])((fields) =>
          change(`Write user ${fields.name}?`, `${fields.name} has that password from now on, and these roles: ${fields.roles || "none"}.`, "Write", "PUT", `/auth/users/${encodeURIComponent(fields.name)}`,
            { password: fields.password, roles: fields.roles.split(",").map((one) => one.trim()).filter(Boolean) }))),
        h("details", h("summary", "Let a role do more"), form(["name", "Role", "reader"], ["access", "read, write or both", "read"], ["prefix", "Keys that begin with", "app/"])(async ({ name, ...one }) => {
          if (!access.roles.some((role) => role.name === name) && !await change(`Make role ${name}?`, "It allows nothing yet.", "Make", "PUT", `/auth/roles/${encodeURIComponent(name)}`, {})) return false;
          return change(`Let ${name} do more?`, `Its users may ${one.access === "both" ? "read and write" : one.access} keys that begin with “${one.prefix}”.`, "Allow", "POST", `/auth/roles/${encodeURIComponent(name)}/permissions`, one);
        })),
        who.enabled ? h("button", { onclick: () => change("Switch authentication off?", "Whoever reaches a node may read and write everything from then on.", "Switch off", "POST", "/auth/disable", undefined, true) }, "Switch authentication off…")
          : access.users.some((one) => one.roles.includes("root")) && h("button", { onclick: () => change("Switch authentication on?", "Only users are served from then on. Know the password of a user with the role root before you do.", "Switch on", "POST", "/auth/enable") }, "Switch authentication on…")]];
  }

  /** A browser writes what a form is answered to disk as it comes; it sends no header that a page could choose, so the token goes in the form. */
  async function save() {
    const asked = new AbortController();
    try {
      await answer("GET", "/backup", { signal: asked.signal }); // a refusal is for this page
      asked.abort();
      const form = h("form", { method: "post", action: "/backup", target: frame.name, hidden: true }, signedIn() && h("input", { type: "hidden", name: "token", value: signedIn() }));
      document.body.append(form);
      form.submit();
      form.remove();
    } catch (error) {
      say(why(error), true);
    }
  }

  function draw() {
    const { status } = picture;
    if (!status) return;
    const nodes = nodesOf(picture);
    const wrong = alarms(status, nodes);
    fill(place, h("h1", "Operations"),
      h("section.card", h("h2", "Alarms"), wrong.length ? h("ul", wrong.map((one) => h("li.bad", one))) : h("p.quiet", `None that ${status.node} knows of.`)),
      isClosed && h("p.note", "Nothing can be changed from here: authentication is off, and then only who proves to have the cluster's secret may, which no page can. Take the command line, with ",
        h("code", "--config FILE"), ". Once authentication is on, this page is for whoever signs in with the role root."),
      isPlain && h("p.note", `Nothing can be changed from here by ${who.user}: that is for users with the role root.`),
      h("fieldset", { disabled: isClosed || isPlain }, h("section.card", h("h2", "Members"), members(status, nodes)),
      h("section.card", h("h2", "Users and roles"), people()),
      h("section.card", h("h2", "Backup"), h("p", status.mode === "raft" ? "All that this cluster holds at one moment, as one file, while it goes on serving. "
          : [`What ${status.node} itself holds, as one file, while it goes on serving; `, h("code", "raftkv backup"), " gathers all from enough members. "],
        h("code", "raftkv backup verify"), " tells whether a file is whole, ", h("code", "raftkv restore"), " makes a new cluster of it."),
        h("button", { onclick: save }, "Download a backup"))));
  }

  draw();
  look();
  return { end: onPicture(draw) };
}
