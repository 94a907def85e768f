/** What an image can be: a button for each class, not sure, none of these, and the box for new classes. */

import { make, button, keycap, say, count } from "./label_dom.js";

export class Choices {
  constructor(model, naming, { label, mark, review, rename }) {
    Object.assign(this, { model, label, mark, review, rename });
    this.list = make("ul", { class: "classes" });
    const first = "No class yet. Name what you see, and the first one is there.";
    this.none = make("p", { class: "muted small first" }, first);
    this.rows = new Map();
    const others = make(
      "div",
      { class: "others" },
      button({ onclick: () => mark("unsure") }, "Not sure ", keycap("?")),
      button({ onclick: () => mark("none") }, "None of these ", keycap("0")),
    );
    this.node = make(
      "section",
      { class: "choices", "aria-labelledby": "frofa-choices" },
      make("h2", { id: "frofa-choices" }, "Classes"),
      naming.node,
      this.none,
      this.list,
      others,
    );
  }

  draw() {
    const classes = this.model.classes();
    const names = new Set(classes.map((one) => one.name));
    for (const name of [...this.rows.keys()]) if (!names.has(name)) this.rows.delete(name);
    const most = Math.max(1, ...classes.map((one) => one.n));
    const rows = classes.map((one) => this.row(one, most));
    if (rows.length !== this.list.children.length || rows.some((row, at) => this.list.children[at] !== row)) {
      this.list.replaceChildren(...rows);
    }
    this.none.hidden = classes.length > 0;
  }

  row({ name, key, n }, most) {
    if (!this.rows.has(name)) this.rows.set(name, this.newRow(name));
    const row = this.rows.get(name);
    say(row.querySelector("kbd"), key ?? "");
    row.querySelector("kbd").hidden = !key;
    say(row.querySelector(".n"), count(n));
    row.querySelector(".review").setAttribute("aria-label", `Show the ${count(n)} images of ${name}`);
    row.querySelector(".bar").style.inlineSize = `${(100 * n) / most}%`;
    const { batch } = this.model;
    row.classList.toggle("shown", batch.kind === "class" && batch.name === name);
    return row;
  }

  newRow(name) {
    const take = button({ class: "take", onclick: () => this.label(name) }, keycap(""), make("bdi", {}, name));
    const review = button(
      { class: "review quiet", title: "Show its images", onclick: () => this.review(name) },
      make("span", { class: "n" }),
    );
    const rename = button(
      { class: "rename quiet", title: "Rename", "aria-label": `Rename ${name}`, onclick: () => this.rename(name) },
      "✎",
    );
    return make("li", {}, take, review, rename, make("span", { class: "bar", "aria-hidden": "true" }));
  }
}
