/** How it goes: what is labelled, how good the model is, how many labels more, what is suspected, what came last. */

import { make, button, keycap, say, count, several, percent, decisionName } from "./label_dom.js";

const LAST = 5; // decisions shown

export class Panel {
  constructor(model, { undo, review, mistakes }) {
    Object.assign(this, { model, review });
    this.labelled = make("p", { class: "large" });
    this.marks = make("p", { class: "muted small" });
    this.accuracy = make("p", { class: "large" });
    this.about = make("p", { class: "muted small" });
    this.needed = make("p", { class: "small" });
    this.reason = make("p", { class: "muted small" });
    this.mistakes = button({ class: "suspects", onclick: mistakes });
    this.features = make("p", { class: "muted small" });
    this.progress = make("progress", { "aria-label": "Features of images" });
    this.made = make("ol", { class: "history" });
    this.undo = button({ onclick: undo }, "Undo ", keycap("⌫"));
    this.node = make(
      "section",
      { class: "panel", "aria-label": "Progress" },
      part("Labels", this.labelled, this.marks),
      part("Accuracy", this.accuracy, this.about, this.needed, this.reason, this.mistakes),
      part("Features", this.features, this.progress),
      part("Last decisions", this.undo, this.made),
    );
    this.drawn = null;
  }

  draw() {
    const { state } = this.model;
    const change = unconfirmed(this.model.outbox?.entries ?? []);
    say(this.labelled, `${count(state.n_labelled + change.label)} of ${several(state.n_images, "image")}`);
    const [unsure, none] = [state.n_unsure + change.unsure, state.n_none + change.none];
    say(this.marks, `${count(unsure)} not sure · ${count(none)} none of these`);
    this.drawModel(state);
    this.drawFeatures(state.extraction);
    this.drawHistory(state);
  }

  drawModel({ model, classes, n_labelled: labelled }) {
    const known = model && model.accuracy !== null && model.accuracy !== undefined;
    say(this.accuracy, known ? percent(model.accuracy) : "not known yet");
    this.accuracy.classList.toggle("muted", !known);
    say(this.about, known ? aboutAccuracy(model) : whatIsMissing(classes, labelled));
    const needed = known ? model.needed : null;
    say(this.needed, needed?.text ?? "");
    this.needed.classList.toggle("muted", Boolean(needed?.stale));
    say(this.reason, needed?.reason ?? "");
    const suspects = model?.n_mistakes ?? 0;
    this.mistakes.hidden = !suspects;
    say(this.mistakes, `Look at ${several(suspects, "suspected mistake")}`);
  }

  drawFeatures({ done, total, failed, running }) {
    const broken = failed ? `, ${several(failed, "image")} unreadable` : "";
    say(this.features, `${count(done)} of ${count(total)}${running ? ", still coming" : ""}${broken}`);
    this.progress.max = Math.max(1, total);
    this.progress.value = done;
    this.progress.hidden = !running;
  }

  drawHistory(state) {
    const { history, pictures } = this.model;
    this.undo.disabled = !history.length && !state.undo;
    if (this.drawn === history) return;
    this.drawn = history;
    const shown = history.slice(-LAST).reverse();
    const renamed = (name) => make("bdi", {}, `renamed ${name}`);
    const steps = shown.map((one) => (one.effects.length ? this.step(one, pictures) : renamed(one.name)));
    this.made.replaceChildren(...steps.map((step) => make("li", {}, step)));
  }

  step(made, pictures) {
    const { effects } = made;
    const picture = make("img", { alt: "", width: "32", height: "32" });
    pictures.address(effects[0].index).then((address) => (picture.src = address));
    const name = decisionName(effects[0].after) ?? "no label";
    const same = effects.every(({ after }) => decisionName(after) === decisionName(effects[0].after));
    const times = effects.length > 1 ? ` × ${effects.length}` : "";
    return button(
      { class: "quiet", title: "Show these images again", onclick: () => this.review(made) },
      picture,
      make("bdi", {}, same ? name : "as guessed"),
      times,
    );
  }
}

function part(title, ...children) {
  return make("section", { class: "part" }, make("h2", {}, title), ...children);
}

function aboutAccuracy({ low, high, n, stale }) {
  const interval = low === null || low === undefined ? "" : `between ${percent(low)} and ${percent(high)}, `;
  return `${interval}on ${several(n, "label")}, each left out in turn${stale ? " (learning…)" : ""}`;
}

function whatIsMissing(classes, labelled) {
  if (classes.length < 2) return "It takes two classes, with two images each.";
  return labelled ? "The model is learning, or waits for features." : "It takes two classes, with two images each.";
}

/** What decisions that are not confirmed add to the server's numbers. */
function unconfirmed(entries) {
  const change = { label: 0, unsure: 0, none: 0 };
  const kind = ({ label, how }) => (label !== null && label !== undefined ? "label" : how);
  for (const { effects } of entries) {
    for (const { before, after } of effects) {
      if (kind(before) in change) change[kind(before)] -= 1;
      if (kind(after) in change) change[kind(after)] += 1;
    }
  }
  return change;
}
