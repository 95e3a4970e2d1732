// Values as text, JSON and bytes, and what differs between two of them.
import { bytes, count, h } from "./page.js";

const TEXT_MAX = 100000;
const HEX_MAX = 16384;
const LINES_MAX = 2000;
const AROUND = 3;

/** The bytes of a value as the API tells it: text, or {base64}. */
export const bytesOf = (value) => typeof value === "string" ? new TextEncoder().encode(value)
  : Uint8Array.from(atob(value.base64), (one) => one.charCodeAt(0));

/** JSON with its lines broken, token by token, so that no number loses a digit; null if it is none. */
export function pretty(text) {
  try {
    if (typeof JSON.parse(text) !== "object") return null;
  } catch {
    return null;
  }
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return text.match(/"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/g).reduce((made, token, at, all) => {
    if (token === "{" || token === "[") {
      depth += 1;
      return made + token + ("}]".includes(all[at + 1]) ? "" : line());
    }
    if (token === "}" || token === "]") {
      depth -= 1;
      return made + ("{[".includes(all[at - 1]) ? "" : line()) + token;
    }
    return made + (token === "," ? token + line() : token === ":" ? ": " : token);
  }, "");
}

function hex(all) {
  const lines = [];
  for (let at = 0; at < Math.min(all.length, HEX_MAX); at += 16) {
    const part = [...all.slice(at, at + 16)];
    const codes = part.map((one) => one.toString(16).padStart(2, "0")).join(" ").padEnd(48);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${codes} ${part.map((one) => one > 31 && one < 127 ? String.fromCharCode(one) : "·").join("")}`);
  }
  return lines.join("\n");
}

/** The views that a value has, each by its name. */
export function views(value) {
  const all = bytesOf(value);
  const found = { hex: () => [hex(all), all.length > HEX_MAX && `\n… ${bytes(all.length - HEX_MAX)} more`] };
  if (typeof value !== "string") return found;
  const cut = (text) => [text.slice(0, TEXT_MAX), text.length > TEXT_MAX && `\n… ${count(text.length - TEXT_MAX, "character")} more`];
  const json = pretty(value);
  return { ...(json === null ? {} : { JSON: () => cut(json) }), text: () => cut(value), ...found };
}

const asText = (value) => value === undefined ? "" : typeof value === "string"
  ? (value.includes("\n") ? value : pretty(value) ?? value) : hex(bytesOf(value));

function compared(before, after) {
  let from = 0;
  let ends = 0;
  while (from < before.length && from < after.length && before[from] === after[from]) from += 1;
  while (ends < before.length - from && ends < after.length - from && before.at(-1 - ends) === after.at(-1 - ends)) ends += 1;
  const [a, b] = [before.slice(from, before.length - ends), after.slice(from, after.length - ends)];
  const found = before.slice(0, from).map((text) => [" ", text]);
  if (a.length > LINES_MAX || b.length > LINES_MAX) found.push(...a.map((text) => ["-", text]), ...b.map((text) => ["+", text]));
  else {
    // The longest common subsequence: `kept[i][j]` is how long it is of what follows i and j.
    const kept = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) kept[i][j] = a[i] === b[j] ? kept[i + 1][j + 1] + 1 : Math.max(kept[i + 1][j], kept[i][j + 1]);
    }
    for (let i = 0, j = 0; i < a.length || j < b.length;) {
      if (i < a.length && j < b.length && a[i] === b[j]) { found.push([" ", a[i]]); i += 1; j += 1; }
      else if (j === b.length || (i < a.length && kept[i + 1][j] >= kept[i][j + 1])) { found.push(["-", a[i]]); i += 1; }
      else { found.push(["+", b[j]]); j += 1; }
    }
  }
  return [...found, ...before.slice(before.length - ends).map((text) => [" ", text])];
}

/** Two values line by line, what is equal left out but for a few lines; undefined: there is none. */
export function difference(before, after) {
  const lines = (value) => value === undefined ? [] : asText(value).split("\n");
  const all = compared(lines(before), lines(after));
  const near = all.map((_, at) => all.slice(Math.max(0, at - AROUND), at + AROUND + 1).some(([sign]) => sign !== " "));
  const shown = all.flatMap(([sign, text], at) => near[at] ? [h({ "+": "ins", "-": "del", " ": "span" }[sign], {}, `${sign} ${text.slice(0, 2000)}`)]
    : at && !near[at - 1] ? [] : [h("span.quiet", "  …")]);
  return h("pre.diff", { tabindex: 0, "aria-label": "Difference" }, shown.length ? shown : "(empty)");
}
