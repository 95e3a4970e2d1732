// Puts the pages together: which one is shown, who is signed in, and what is said when the node falls silent.
import { ask, get, Refusal, signedIn, signedName, signIn, signOff } from "./api.js";
import { cluster } from "./cluster.js";
import { keys } from "./keys.js";
import { locks } from "./locks.js";
import { operations } from "./operations.js";
import { fill, h, say, time, why } from "./page.js";
import { follow, nodesOf, onPicture, picture, rest } from "./picture.js";
import { traffic } from "./traffic.js";

const PAGES = { cluster, keys, locks, operations, traffic };
const main = document.getElementById("main");
let shown = null;
let who = { enabled: false, user: null };

// -- which page

function route() {
  const [, name = "", rest = ""] = /^#\/(\w+)\/?(.*)$/.exec(location.hash) || [];
  return [Object.hasOwn(PAGES, name) ? name : "cluster", rest];
}

function show() {
  const [name, rest] = route();
  for (const link of document.querySelectorAll("#pages a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown?.name === name && shown.page.go) return shown.page.go(rest);
  shown?.page.end?.();
  const place = h("div", { class: `page ${name}` });
  main.replaceChildren(place);
  shown = { name, page: PAGES[name](place, rest, who) };
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · ${picture.status?.node || "raftkv"}`;
}

/** The keyboard goes on at the page, whose beginning is seen. */
function begun() {
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

// -- the corner

function corner() {
  const status = picture.status;
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.getElementById("pages").hidden = who.enabled && !who.user; // they lead nowhere yet
  const state = picture.silentSince ? "bad" : status?.ready ? "good" : "warn";
  fill(document.getElementById("corner"),
    status && h("span", { class: `chip ${state}`, title: "the node that serves this page" },
      `${status.node} `, h("span", picture.silentSince ? "silent" : status.ready ? "ready" : "not ready")),
    who.user && h("span.chip", { title: `signed in as ${who.user}` }, who.user),
    who.user && signedIn() && h("button.plain", { onclick: signOut }, "Sign out"),
    h("button.plain", { "aria-label": isDark ? "Use light colours" : "Use dark colours", title: "light or dark (d)", onclick: turn },
      isDark ? "☀" : "☾"),
    h("button.plain", { "aria-label": "Keyboard shortcuts", title: "shortcuts (?)", onclick: shortcuts }, "?"));
}

function turn() {
  const root = document.documentElement;
  const isDark = getComputedStyle(root).colorScheme === "dark"
    || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  localStorage.setItem("raftkv-theme", root.dataset.theme = isDark ? "light" : "dark");
  corner();
}

function banner() {
  const since = picture.silentSince;
  const status = picture.status;
  const others = nodesOf(picture).filter((one) => !one.isSelf && one.http);
  fill(document.getElementById("banner"), since && h("p.bad",
    picture.trouble || `${status?.node || "The node"} has not answered for ${time(Math.max(1, Math.round((Date.now() - since) / 1000)))}. What you see is from before; it is asked again every second. `,
    others.length > 0 && h("span", " Other members: ", others.map((one) =>
      [h("a", { href: `${location.protocol}//${one.http}/ui${location.hash}` }, one.id), " "]))));
}

// -- keys

const KEYS = { c: "cluster", k: "keys", l: "locks", o: "operations", t: "traffic" };

function shortcuts() {
  const rows = [...Object.entries(KEYS), ["/", "search keys"], ["d", "light or dark"], ["?", "this list"], ["Tab", "next field"], ["Esc", "close"]];
  const dialog = h("dialog", { "aria-label": "Keyboard shortcuts", onclose: () => dialog.remove() },
    h("form", { method: "dialog" }, h("h2", "Keyboard"), h("dl.facts",
      rows.map(([key, does]) => h("div", h("dt", h("kbd", key)), h("dd", does)))),
      h("div.row.end", h("button.main", "Close"))));
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") shortcuts();
  else if (event.key === "d") turn();
  else if (KEYS[event.key]) location.hash = `#/${KEYS[event.key]}`;
  else return;
  event.preventDefault();
});

// -- who

/** `said` is why it is asked again, `user` who was here before. */
function signInPage(said, user = "") {
  rest();
  shown?.page.end?.();
  shown = null;
  document.title = "Sign in · raftkv";
  const name = h("input", { id: "user", name: "user", value: user, autocomplete: "username", autocapitalize: "none", spellcheck: "false", required: true, "aria-describedby": "why" });
  const password = h("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true, "aria-describedby": "trouble" });
  const trouble = h("p.bad", { id: "trouble", role: "alert" });
  let isAsking = false;
  const form = h("form.card.narrow", { "aria-labelledby": "sign-in", onsubmit: async (event) => {
    event.preventDefault();
    if (isAsking) return;
    isAsking = true;
    trouble.textContent = "";
    action.textContent = "Signing in…";
    try {
      const told = await ask("POST", "/auth/login", { user: name.value, password: password.value });
      signIn(told.token, told.user);
      await begin();
      if (shown) begun();
    } catch (error) {
      error.applied = undefined; // nobody expects that something was
      trouble.textContent = why(error);
      if (error.status === 401) {
        password.value = "";
        password.setAttribute("aria-invalid", "true");
      }
      password.focus();
    }
    isAsking = false;
    action.textContent = "Sign in";
  } }, h("h1", { id: "sign-in" }, "Sign in"), h("p.quiet", { id: "why" }, said || `raftkv at ${location.host}`),
  h("label", { for: "user" }, "User"), name, h("label", { for: "password" }, "Password"), password, trouble);
  const action = h("button.main", "Sign in");
  form.append(h("div.row.end", action));
  main.replaceChildren(form);
  corner();
  (user ? password : name).focus();
}

function signOut() {
  signOff();
  say("Signed out.");
  begin();
}

addEventListener("unauthenticated", (event) => {
  // Where authentication is off, 401 asks for a proof of the cluster's secret, which no page has.
  if (!shown || !(who.enabled || event.detail.path === "/status")) return;
  const before = who.user || "";
  signOff();
  who = { enabled: true, user: null };
  signInPage(before && why(new Refusal(401, { detail: event.detail.said })), before);
});

async function begin() {
  try {
    who = await get("/auth");
  } catch (error) {
    if (error.status === 401) {
      signOff();
      who = { enabled: true, user: null };
    } else if (signedIn()) who = { enabled: true, user: signedName() }; // without a leader nobody can say more; the pages still can
  }
  if (who.enabled && !who.user) return signInPage();
  await follow();
  show();
}

onPicture(() => {
  corner();
  banner();
});
addEventListener("hashchange", () => {
  if (!shown) return;
  const before = shown.name;
  show();
  if (shown.name !== before) begun();
});
document.documentElement.dataset.theme = localStorage.getItem("raftkv-theme") || "";
corner();
begin();
