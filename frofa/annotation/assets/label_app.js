/** The page as a whole: parts, keys and banners. `start` is called by the page and by the notebook's widget. */

import { make, button, keycap, say, several } from "./label_dom.js";
import { KINDS, KIND_NAMES } from "./label_batches.js";
import { Choices } from "./label_choices.js";
import { Closer, Renaming, helpDialog } from "./label_dialogs.js";
import { Grid } from "./label_grid.js";
import { commandOf, mayRepeat } from "./label_keys.js";
import { Labelling } from "./label_model.js";
import { Naming } from "./label_naming.js";
import { Panel } from "./label_panel.js";
import { Pictures } from "./label_pictures.js";

const POLL = { visible: 1000, hidden: 5000 }; // milliseconds

class App {
  constructor(root, transport, storage, ownPage) {
    Object.assign(this, { root, ownPage });
    const draw = (fresh) => this.draw(fresh);
    const model = (this.model = new Labelling(transport, storage, new Pictures(transport, null), draw));
    const back = () => this.grid.focus();
    // Dialogs say late that they were closed: somebody may be typing a name by then.
    const closed = () => root.getRootNode().activeElement === this.naming.input || back();
    this.closer = new Closer(model, closed);
    this.renaming = new Renaming(model, closed);
    this.help = helpDialog(closed);
    this.grid = new Grid(model, () => this.closer.open());
    this.naming = new Naming(model, (name) => model.name(name), back);
    this.choices = new Choices(model, this.naming, {
      label: (name) => this.then(() => model.label(name)),
      mark: (how) => this.then(() => model.mark(how)),
      review: (name) => this.then(() => model.open("class", name)),
      rename: (name) => this.renaming.open(name),
    });
    this.panel = new Panel(model, {
      undo: () => this.then(() => model.undo()),
      review: (made) => this.then(() => model.showAgain(made)),
      mistakes: () => this.then(() => model.open("mistakes")),
    });
    this.frame(ownPage);
  }

  /** A button did something: the keyboard goes back to the images. */
  async then(act) {
    await act();
    this.grid.focus();
  }

  frame(ownPage) {
    this.banner = make("div", { class: "banner", role: "alert", hidden: true });
    this.status = make("p", { class: "status", role: "status", "aria-live": "polite" });
    this.kinds = make("div", { class: "kinds", role: "group", "aria-label": "Which images" });
    const switchKind = (kind) => () => this.then(() => this.model.open(kind));
    this.kindButtons = KINDS.map((kind) => button({ "data-kind": kind, onclick: switchKind(kind) }, KIND_NAMES[kind]));
    this.kinds.append(...this.kindButtons, keycap("."));
    const others = () => this.then(() => this.model.next());
    const skip = button({ class: "quiet", onclick: others }, "Other images ", keycap("Page Down"));
    const help = button({ class: "quiet", onclick: () => this.help.showModal() }, "Keys ", keycap("F1"));
    const theme = ownPage && button({ class: "quiet", "data-theme-switch": true }, "Theme");
    const head = make("header", {}, make("h1", {}, "Label images"), this.kinds, skip, this.status, help, theme);
    const side = make("aside", { "aria-label": "Classes and progress" }, this.choices.node, this.panel.node);
    this.main = make("div", { class: "work" }, this.grid.node, side);
    const dialogs = [this.help, this.closer.node, this.renaming.node];
    this.root.classList.add("frofa-frame");
    this.root.replaceChildren(make("div", { class: "frofa-label" }, head, this.banner, this.main, ...dialogs));
  }

  async begin() {
    while (!this.model.outbox) {
      await this.model.start().catch((error) => {
        this.showBanner(error.message);
        return new Promise((resolve) => setTimeout(resolve, 1000));
      });
    }
    if (this.ownPage) this.grid.focus();
    this.poll();
  }

  poll() {
    const hidden = document.visibilityState === "hidden";
    this.timer = setTimeout(async () => {
      await this.model.poll();
      if (!this.over) this.poll();
    }, hidden ? POLL.hidden : POLL.visible);
  }

  // ---- keys ----

  keydown(event) {
    const command = commandOf(event);
    if (!command || !this.model.outbox) return;
    const [target] = event.composedPath();
    if (target.closest("input, select, textarea, [contenteditable]")) return;
    const within = target.closest("dialog");
    if (within === this.help && command.name === "help") this.help.close();
    if (within && within !== this.closer.node) return;
    const native = target.closest("button, summary, a") && ["accept", "toggle"].includes(command.name);
    if (native || (within && command.name === "clear")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!event.repeat || mayRepeat(command)) this.run(command, event);
  }

  run(command, event) {
    const { model } = this;
    const { batch } = model;
    const moves = {
      move: () => batch.move(batch.cursor + command.by, command.extend),
      row: () => this.row(command),
      end: () => batch.move(command.last ? batch.items.length - 1 : 0, command.extend),
      toggle: () => batch.toggle(),
      all: () => batch.selectAll(),
      clear: () => batch.clear(),
    };
    const acts = {
      unsure: () => model.mark("unsure"),
      none: () => model.mark("none"),
      accept: () => model.accept(),
      undo: () => model.undo(),
      kind: () => model.nextKind(),
      next: () => model.next(),
      new: () => this.openNaming(""),
      help: () => (this.help.open ? this.help.close() : this.help.showModal()),
      large: () => (this.closer.node.open ? this.closer.node.close() : this.closer.open()),
      class: () => this.takeKey(command.key, event),
    };
    if (command.name in moves) {
      moves[command.name]();
      this.draw();
      if (!this.closer.node.open) this.grid.focus();
    } else acts[command.name]();
  }

  row({ by, extend }) {
    const { batch } = this.model;
    const to = batch.cursor + by * this.grid.columns();
    if (to >= 0 && to < batch.items.length) batch.move(to, extend);
  }

  openNaming(text) {
    if (this.closer.node.open) this.closer.node.close();
    this.naming.open(text);
  }

  takeKey(key, event) {
    const found = this.model.classes().find((one) => one.key === key);
    if (found) this.model.label(found.name);
    else if (!this.model.classes().length) this.openNaming(event.key.length === 1 ? event.key : key);
    else this.model.tell(`No class has the key ${key}. Press + to name a new class.`);
  }

  // ---- drawing ----

  draw(fresh = false) {
    const { model } = this;
    if (!model.state) return;
    const active = this.root.getRootNode().activeElement;
    // In a notebook the keyboard may be in a cell: it is never taken from there.
    const inGrid = this.grid.node.contains(active) || (this.ownPage && active === document.body);
    this.grid.draw();
    this.choices.draw();
    this.panel.draw();
    this.closer.draw();
    if (inGrid && !this.closer.node.open) this.grid.focus();
    if (fresh && this.grid.node.getBoundingClientRect().top < 0) this.grid.node.scrollIntoView();
    const { batch, state } = model;
    for (const one of this.kindButtons) one.setAttribute("aria-pressed", String(one.dataset.kind === batch.kind));
    const suspects = state.model?.n_mistakes ?? 0;
    say(this.kindButtons[2], `${KIND_NAMES.mistakes}${suspects ? ` (${suspects})` : ""}`);
    say(this.status, model.status);
    this.drawBanner();
    this.titled?.(state.n_labelled);
  }

  drawBanner() {
    const { outbox, away, state } = this.model;
    const waiting = outbox?.entries.length ?? 0;
    const { problem = null, foreign = [], keeps = true } = outbox ?? {};
    const kept = keeps ? "This browser keeps them, even if you reload." : "Leave this window open until then.";
    if (problem?.refused) {
      const giveUp = ["Give up this label", () => outbox.discard()];
      this.showBanner(`Not saved: ${problem.text}`, ["Try again", () => outbox.again()], giveUp);
    } else if (problem) {
      const text = `Not saved yet: ${problem.text} ${several(waiting, "step")} waiting. ${kept}`;
      this.showBanner(text, ["Try now", () => outbox.again()]);
    } else if (away) this.showBanner(away);
    else if (foreign.length) {
      const n = foreign.reduce((sum, left) => sum + left.entries.length, 0);
      const text = `${several(n, "step")} of another list of images never reached its labels.`;
      this.showBanner(text, ["Save here", () => outbox.takeForeign()], ["Forget", () => outbox.forgetForeign()]);
    } else this.showNotice(state?.message ?? "");
  }

  /** What the server has to say, until somebody has read it. */
  showNotice(text) {
    const close = () => {
      this.read = text;
      this.draw();
      this.grid.focus();
    };
    if (text && text !== this.read) this.showBanner(text, ["Close", close]);
    else this.showBanner("");
  }

  showBanner(text, ...actions) {
    this.banner.hidden = !text;
    if (this.bannerText === text) return;
    this.bannerText = text;
    const buttons = actions.map(([name, act]) => button({ onclick: act }, name));
    this.banner.replaceChildren(make("span", {}, text), ...buttons);
  }
}

/**
 * Shows the page in `root`; gives a function that ends it. `keys` is where key events are heard; on a page of its own
 * it has the keyboard at once, and the switch of light and dark.
 */
export function start(root, transport, { storage = null, keys = root, titled = null, ownPage = false } = {}) {
  const app = new App(root, transport, storage, ownPage);
  app.titled = titled;
  const heard = (event) => app.keydown(event);
  keys.addEventListener("keydown", heard);
  app.begin();
  return () => {
    app.over = true;
    clearTimeout(app.timer);
    keys.removeEventListener("keydown", heard);
  };
}
