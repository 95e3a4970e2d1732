// What a key was at a time that somebody chooses, and what has changed since. Times are those of the cluster's clock.
import { get, keyPath } from "./api.js";
import { ago, exactly, h, now, number, why } from "./page.js";
import { difference } from "./value.js";

const STEPS = [[300, "5 minutes ago"], [3600, "1 hour ago"], [86400, "1 day ago"]];

/** `redraw` is called when there is something else to show; `shown(value)` draws a value, `restore(value)` brings it back. */
export function momentsOf(key, { signal, redraw, shown, restore }) {
  let asked = null; // {at, record | nothing | trouble}

  async function look(at) {
    const mine = asked = { at };
    redraw();
    try {
      mine.record = await get(keyPath(key), { at_ms: at }, { signal });
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404) mine.nothing = true;
      else mine.trouble = error.code === "compacted" ? "gone" : why(error);
    }
    if (asked === mine) redraw();
  }

  function answer(value, history) {
    const { at, record, nothing, trouble } = asked;
    const oldest = history.findLast((one) => one.time_ms)?.time_ms;
    const written = record && history.find((one) => one.revision === record.revision)?.time_ms;
    return h("section.moment", { "aria-label": "As it was then" },
      h("h4", "As it was ", ago(at), h("span.quiet.small", ` ${exactly(at)}`)),
      trouble === "gone" ? h("p", "That is not kept any more.", oldest && [" The oldest change that is kept was made ", ago(oldest), "."])
        : trouble ? h("p.bad", { role: "alert" }, trouble)
        : nothing ? h("p", "There was no such key then.")
        : !record ? h("p.quiet", "Reading…")
        : [h("p.quiet.small", `Revision ${number(record.revision)}`, written && [", written ", ago(written)]), shown(record.value),
          JSON.stringify(record.value) === JSON.stringify(value) ? h("p", "It is the same now.")
            : [h("p", value === undefined ? "There is no such key now. What went:" : "What has changed since:"), difference(record.value, value)]],
      h("div.row.end", typeof record?.value === "string" && record.value !== value && h("button", { onclick: () => restore(record.value) }, "Bring this back…"),
        h("button", { onclick: () => {
          asked = null;
          redraw();
        } }, "Close")));
  }

  return (value, history) => [
    h("div.row", { role: "group", "aria-label": "What was it at another time?" }, h("span", "What was it"),
      STEPS.map(([s, name]) => h("button", { onclick: () => look(now() - s * 1000) }, name)),
      h("label.inline", "or at ", h("input", { type: "datetime-local", step: 1, onchange: (event) => event.target.value && look(new Date(event.target.value).getTime()) }))),
    asked && answer(value, history)];
}
