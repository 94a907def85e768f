/** The box in which classes are named: a new name makes a class; a known one is completed. */

import { make } from "./label_dom.js";

const SHOWN = 8; // completions at once
let boxes = 0; // ids of the pages of one notebook differ

export class Naming {
  /** `named(text)` takes a name; `left()` puts the focus back. */
  constructor(model, named, left) {
    Object.assign(this, { model, named, left });
    const id = `frofa-names-${++boxes}`;
    this.input = make("input", {
      id: `${id}-input`,
      type: "text",
      role: "combobox",
      autocomplete: "off",
      spellcheck: "false",
      maxlength: "200",
      "aria-expanded": "false",
      "aria-autocomplete": "list",
      "aria-controls": id,
      oninput: () => this.complete(),
      onkeydown: (event) => this.key(event),
      onblur: () => this.close(),
    });
    const roles = { role: "listbox", "aria-label": "Known classes" };
    this.options = make("ul", { id, class: "completions", hidden: true, ...roles });
    this.label = make("label", { for: `${id}-input` }, "New class ", make("kbd", {}, "+"));
    this.node = make("div", { class: "naming" }, this.label, make("div", { class: "box" }, this.input, this.options));
    this.at = -1;
  }

  open(text = "") {
    this.input.value = text;
    this.input.focus();
    this.complete();
  }

  close() {
    this.options.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.at = -1;
  }

  complete() {
    const typed = this.input.value.trim().toLowerCase();
    const names = this.model.classes().map((one) => one.name);
    const found = typed ? names.filter((name) => name.toLowerCase().includes(typed)) : [];
    found.sort((a, b) => b.toLowerCase().startsWith(typed) - a.toLowerCase().startsWith(typed));
    this.names = found.slice(0, SHOWN);
    this.close();
    this.options.replaceChildren(...this.names.map((name, at) => this.option(name, at)));
    this.options.hidden = !this.names.length;
    this.input.setAttribute("aria-expanded", String(this.names.length > 0));
  }

  option(name, at) {
    const id = `${this.options.id}-${at}`;
    const take = () => this.take(name);
    const stay = (event) => event.preventDefault(); // the box keeps the focus, and stays open for the click
    const properties = { id, role: "option", "aria-selected": "false", onmousedown: stay, onclick: take };
    return make("li", properties, make("bdi", {}, name));
  }

  mark(at) {
    this.at = at;
    [...this.options.children].forEach((node, i) => node.setAttribute("aria-selected", String(i === at)));
    if (at >= 0) this.input.setAttribute("aria-activedescendant", `${this.options.id}-${at}`);
    else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    event.stopPropagation();
    if (event.isComposing) return;
    const n = this.options.hidden ? 0 : this.names.length;
    if (event.key === "Enter") this.take(this.at >= 0 ? this.names[this.at] : this.input.value);
    else if (event.key === "Escape") this.take("");
    else if (event.key === "ArrowDown" && n) this.mark((this.at + 1) % n);
    else if (event.key === "ArrowUp" && n) this.mark((this.at + n) % (n + 1) === n ? n - 1 : this.at - 1);
    else if (event.key === "Tab" && n && !event.shiftKey && this.input.value !== this.names[0]) {
      this.input.value = this.names[Math.max(0, this.at)];
      this.complete();
    } else return;
    event.preventDefault();
  }

  take(text) {
    const name = text.trim().normalize("NFC");
    this.input.value = "";
    this.close();
    if (name) this.named(name);
    this.left();
  }
}
