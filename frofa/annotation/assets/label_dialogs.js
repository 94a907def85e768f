/** The windows over the page: keys, one image closely, another name for a class. */

import { make, button, keycap, decisionName } from "./label_dom.js";
import { HELP } from "./label_keys.js";

/** A dialog that closes by Escape, by its button and by a click beside it; `left` puts the focus back. */
function dialog(title, left, ...children) {
  const close = button({ class: "close", onclick: () => node.close() }, "Close ", keycap("Esc"));
  const head = make("div", { class: "dialog-head" }, make("h2", {}, title), close);
  const node = make("dialog", { class: "small-dialog", "aria-label": title }, head, ...children);
  node.addEventListener("click", (event) => event.target === node && node.close());
  node.addEventListener("close", left);
  return node;
}

export function helpDialog(left) {
  const printed = (key) => (key === "–" ? " – " : [keycap(key), " "]);
  const rows = HELP.map(([keys, what]) =>
    make("tr", {}, make("th", { scope: "row" }, ...keys.flatMap(printed)), make("td", {}, what)),
  );
  return dialog("Keys", left, make("table", { class: "keys" }, make("tbody", {}, ...rows)));
}

/** One image as large as fits; keys go on to mean what they mean in the grid. */
export class Closer {
  constructor(model, left) {
    this.model = model;
    this.image = make("img", { alt: "" });
    this.name = make("bdi");
    this.decision = make("p", { class: "muted", "aria-live": "polite" });
    const picture = make("div", { class: "closely" }, this.image);
    this.node = dialog("Image", left, picture, this.decision, make("p", { class: "small muted" }, this.name));
    this.node.classList.remove("small-dialog");
  }

  open() {
    if (!this.model.batch.at()) return;
    if (!this.model.batch.isOffer()) this.model.batch.clear();
    this.node.showModal();
    this.draw();
  }

  async draw() {
    const item = this.model.batch.at();
    if (!this.node.open) return;
    if (!item) {
      this.node.close();
      return;
    }
    const decision = decisionName(this.model.decision(item));
    const guess = item.guess ? ` The model's guess: ${item.guess.label}.` : "";
    this.decision.textContent = `${decision ?? "No label yet"}.${guess}`;
    this.name.textContent = item.path;
    if (this.shown === item.path) return;
    this.shown = item.path;
    const { pictures } = this.model;
    const thumbnail = await pictures.address(item.index); // there already: no empty frame while the large one comes
    if (this.shown === item.path) this.image.src = thumbnail;
    const large = await pictures.transport.large(item.index, pictures.session);
    const ready = new Image();
    ready.src = large;
    await ready.decode().catch(() => {});
    if (this.shown === item.path && ready.naturalWidth) {
      this.image.src = large;
      this.image.classList.toggle("pixels", Math.max(ready.naturalWidth, ready.naturalHeight) <= 128);
    }
  }
}

export class Renaming {
  constructor(model, left) {
    this.input = make("input", { type: "text", id: "frofa-rename", maxlength: "200", autocomplete: "off" });
    const take = () => {
      const to = this.input.value.trim();
      if (to && to !== this.from) model.rename(this.from, to);
      this.node.close();
    };
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault(); // the button that opened this has the focus next, and would be pressed
      take();
    });
    this.node = dialog(
      "Rename a class",
      left,
      make("p", {}, make("label", { for: "frofa-rename" }, "New name; that of another class joins both "), this.input),
      button({ class: "primary", onclick: take }, "Rename"),
    );
  }

  open(name) {
    this.from = name;
    this.input.value = name;
    this.node.showModal();
    this.input.select();
  }
}
