/** The images of a batch as tiles: a list box in which arrows move and several can be selected. */

import { make, button, keycap, say, several, decisionName, chance } from "./label_dom.js";

export class Grid {
  constructor(model, openLarge) {
    this.model = model;
    this.openLarge = openLarge;
    this.list = make("div", {
      class: "tiles",
      role: "listbox",
      "aria-multiselectable": "true",
      "aria-label": "Images to label",
    });
    this.emptyText = make("p", {});
    this.onwards = button({ class: "primary", onclick: () => model.accept() }, "Most useful images ", keycap("Enter"));
    this.empty = make("div", { class: "empty" }, this.emptyText, this.onwards);
    this.title = make("h2", { class: "why" });
    this.hint = make("p", { class: "hint muted small" });
    this.acceptText = make("bdi");
    this.accept = button({ class: "accept", onclick: () => this.accepted() }, this.acceptText, " ", keycap("Enter"));
    const about = make("div", { class: "about" }, make("div", {}, this.title, this.hint), this.accept);
    const properties = { class: "grid", tabindex: "-1", "aria-label": "Images" };
    this.node = make("section", properties, about, this.list, this.empty);
    this.tiles = new Map();
    this.list.addEventListener("click", (event) => this.clicked(event));
    this.list.addEventListener("dblclick", (event) => event.target.closest(".tile") && this.openLarge());
  }

  clicked(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const { batch } = this.model;
    batch.move(Number(tile.dataset.at), event.shiftKey);
    if (event.target.closest(".closer")) this.openLarge();
    else if (!event.shiftKey) batch.toggle();
    this.model.draw();
    this.focus();
  }

  accepted() {
    this.model.accept();
    this.focus();
  }

  /** The button for what Enter does, so that it can be done without a keyboard, too. */
  drawAccept() {
    const { model } = this;
    const guesses = model.batch.items.length && !model.isOver() ? model.guesses() : [];
    const names = new Set(guesses.map((choice) => choice.label));
    const unnamed = model.isUnnamed();
    this.accept.hidden = !guesses.length && !unnamed;
    const which = guesses.length > 1 ? several(guesses.length, "image") : "this image";
    const labels = `Label ${which} as ${names.size === 1 ? [...names][0] : "guessed"}`;
    say(this.acceptText, unnamed ? `Select all ${model.batch.items.length} images` : labels);
    this.accept.classList.toggle("primary", model.batch.kind === "group");
  }

  /** Columns as they are laid out now, for up and down. */
  columns() {
    const tops = [...this.list.children].map((tile) => tile.offsetTop);
    return Math.max(1, tops.filter((top) => top === tops[0]).length);
  }

  focus() {
    // Without images the keyboard still belongs here, and not to the box or button that was used last.
    (this.list.querySelector('[tabindex="0"]') ?? this.node).focus();
  }

  draw() {
    const { batch } = this.model;
    say(this.title, batch.items.length || batch.failed ? batch.title : "");
    this.title.hidden = !this.title.textContent;
    say(this.hint, batch.items.length ? hintFor(batch, this.model) : "");
    this.drawAccept();
    this.empty.hidden = batch.items.length > 0;
    say(this.emptyText, batch.loading ? "Fetching images…" : emptyText(batch, this.model.state));
    this.onwards.hidden = batch.loading || batch.kind === "useful";
    this.list.hidden = batch.items.length === 0;
    this.list.classList.toggle("many", batch.items.length > 12);
    const tiles = batch.items.map((item) => this.tiles.get(item.path) ?? this.tile(item));
    this.tiles = new Map(batch.items.map((item, at) => [item.path, tiles[at]]));
    if (tiles.length !== this.list.children.length || tiles.some((tile, at) => this.list.children[at] !== tile)) {
      this.list.replaceChildren(...tiles);
    }
    batch.items.forEach((item, at) => this.paint(tiles[at], item, at));
  }

  tile(item) {
    const { element } = this.model.pictures.get(item.index);
    const picture = make("div", { class: "picture" }, element);
    const failed = () => picture.replaceChildren(make("span", { class: "muted small" }, "This image cannot be shown."));
    if (element.classList.contains("failed")) failed();
    else element.addEventListener("failed", failed);
    const forTheMouse = { tabindex: "-1", "aria-hidden": "true", title: "Look closer (F2)" };
    const closer = button({ class: "closer quiet", ...forTheMouse }, "⤢");
    const caption = make("div", { class: "caption" }, make("bdi", { class: "label" }), make("bdi", { class: "guess" }));
    return make("div", { class: "tile", role: "option", title: item.path }, picture, closer, caption);
  }

  paint(tile, item, at) {
    const { batch } = this.model;
    const decision = decisionName(this.model.decision(item));
    const selected = batch.selection.has(item.path);
    tile.dataset.at = at;
    tile.tabIndex = at === batch.cursor ? 0 : -1;
    tile.setAttribute("aria-selected", String(selected));
    tile.setAttribute("aria-label", tileName(item, decision, at, batch.items.length));
    tile.classList.toggle("cursor", at === batch.cursor);
    tile.classList.toggle("done", batch.done.has(item.path));
    say(tile.querySelector(".label"), decision ?? "");
    say(tile.querySelector(".guess"), batch.done.has(item.path) ? "" : guessText(item));
  }
}

const OF_ONE = "A class's key labels the image at the cursor, or all that are selected; Page Down leaves these.";

const KEY_OF_ONE = "A class's key labels the image at the cursor alone";

function guessText({ guess, suspect }) {
  if (suspect) return `${suspect.suggested} instead? ${chance(suspect.probability)}`;
  return guess ? `${guess.label}? ${chance(guess.probability)}` : "";
}

function tileName(item, decision, at, n) {
  const parts = [`Image ${at + 1} of ${n}`, item.path, decision ?? "no label"];
  if (guessText(item)) parts.push(`guess: ${guessText(item)}`);
  return parts.join(", ");
}

function hintFor(batch, model) {
  if (!model.classes().length) return "Type what the first image shows and press Enter: that makes the first class.";
  if (batch.byHand && batch.selection.size) {
    return `A class's key labels the ${several(batch.selection.size, "selected image")}; Esc clears the selection.`;
  }
  if (batch.again) return OF_ONE;
  if (model.isOver()) return "Label what is left by key, or press Enter for the next group.";
  if (batch.isOffer()) return `${enterLabels(batch)}; Space leaves one out. ${KEY_OF_ONE}.`;
  if (model.isUnnamed()) return `${KEY_OF_ONE}; Enter selects all, for a key or a new name.`;
  if (batch.kind === "mistakes") return "Enter takes the suggested label; a class's key gives another or confirms it.";
  if (batch.kind === "class") return "Press another class's key to correct an image; Page Down shows more.";
  return OF_ONE;
}

function enterLabels({ items, selection }) {
  const names = new Set(items.filter((item) => selection.has(item.path)).map((item) => item.together));
  const label = names.size === 1 ? [...names][0] : "guessed";
  return `Enter labels the ${several(selection.size, "selected image")} as ${label}`;
}

function emptyText(batch, state) {
  if (batch.failed) return "";
  if (batch.kind === "mistakes") return "No other label is suspected to be wrong.";
  if (batch.kind === "group") return "No other images lie close enough together to be labelled at once.";
  if (batch.kind === "class") return "No more images of this class.";
  return state && state.n_images ? "Nothing is left: every image has a decision." : "There are no images.";
}
