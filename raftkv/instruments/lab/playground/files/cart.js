// Two people, one shopping cart: each reads it, adds something, and writes it back.
import { count, fill, h } from "/ui/page.js";
import { heard, order } from "/playground/playground.js";

export function cart(place) {
  let told = null;
  let isBusy = false;

  async function go(withCare) {
    isBusy = true;
    draw();
    const came = await order("cart", { with_care: withCare });
    isBusy = false;
    told = came || told;
    draw();
  }

  function conclusion() {
    if (!told.is_certain) return h("p.quiet.conclusion", "Not everything was answered, so nobody can say what is in the cart.");
    return told.lost.length ? h("p.bad.conclusion", `${told.lost.join(" and ")} was acknowledged, and is not there.`) : h("p.good.conclusion", "Nothing is missing.");
  }

  function draw() {
    const isRaft = heard.setup.mode === "raft";
    const careful = isRaft ? "Each writes only if nothing changed (If-Match)" : heard.setup.merges ? "Each says what it replaces (siblings)" : null;
    fill(place, h("h2", "Two people, one shopping cart"),
      h("p.quiet", "Ann and Bob read the same cart, each adds one thing, and each writes it back. Every single answer may be right, and still something be gone."),
      h("div.row", h("button", { disabled: isBusy, onclick: () => go(false) }, "Each just writes it back"),
        careful && h("button", { disabled: isBusy, onclick: () => go(true) }, careful)),
      told && h("ol.story", told.lines.map((one) => h("li", one))), told && conclusion());
  }

  return draw;
}
