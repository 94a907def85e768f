/** The images on screen, with cursor and selection, and the next ones, which are fetched while these are looked at. */

export const KINDS = ["useful", "group", "mistakes"];
export const KIND_NAMES = { useful: "Most useful", group: "Groups", mistakes: "Suspected mistakes", class: "Class" };
const SIZES = { useful: 12, group: 24, mistakes: 12, class: 24 };
const SKIPPED = 400; // images put aside that later batches leave out; the oldest come back
const REFRESH = 1200; // milliseconds at least between two fetches of the same next batch

/**
 * One screenful. In a group with a label the page selects all images (`offered`), for Enter: keys are about the image
 * at the cursor then, and about the selection only where a person made it (`byHand`).
 */
class Batch {
  constructor(kind, name, { title, label, items }, asked) {
    Object.assign(this, { kind, name, title, label: label ?? null, loading: false });
    this.items = items.map((item) => ({ ...item, asked, together: kind === "group" ? this.label : null }));
    this.done = new Set();
    this.cursor = this.anchor = 0;
    this.selection = new Set();
    this.offer(this.items);
  }

  offer(items) {
    this.offered = new Set(this.kind === "group" && this.label !== null ? items.map((item) => item.path) : []);
    this.selection = new Set(this.offered);
    this.byHand = false;
  }

  /** Whether the selection is the page's own. */
  isOffer() {
    return !this.byHand && this.offered.size > 0;
  }

  at() {
    return this.items[this.cursor] ?? null;
  }

  /** What a class's key is about: what a person selected, or else the image at the cursor. */
  targets() {
    return this.isOffer() ? this.items.slice(this.cursor, this.cursor + 1) : this.chosen();
  }

  /** What Enter is about: all that are selected, or else the image at the cursor. */
  chosen() {
    const chosen = this.items.filter((item) => this.selection.has(item.path));
    return chosen.length ? chosen : this.items.slice(this.cursor, this.cursor + 1);
  }

  move(to, extend = false) {
    this.cursor = Math.max(0, Math.min(this.items.length - 1, to));
    if (!extend) {
      this.anchor = this.cursor;
      return;
    }
    const [from, until] = [Math.min(this.anchor, this.cursor), Math.max(this.anchor, this.cursor)];
    this.select(this.items.slice(from, until + 1));
  }

  select(items) {
    this.selection = new Set(items.map((item) => item.path));
    this.byHand = true;
  }

  /** Leaves an image out, or takes it in again: what is left of the page's selection is still the page's. */
  toggle() {
    const item = this.at();
    this.anchor = this.cursor;
    if (!item) return;
    const offer = this.isOffer();
    if (!this.selection.delete(item.path)) this.selection.add(item.path);
    if (offer) this.offered = new Set(this.selection);
    else this.byHand = true;
  }

  selectAll() {
    const open = this.items.filter((item) => !this.done.has(item.path));
    this.select(open.length ? open : this.items);
  }

  clear() {
    this.offered.clear();
    this.selection.clear();
    this.byHand = false;
  }

  decided(paths) {
    paths.forEach((path) => this.done.add(path) && this.offered.delete(path));
    this.selection = new Set(this.offered); // the rest of a group is still there for Enter
    this.byHand = false;
    const open = (item) => !this.done.has(item.path);
    const after = this.items.findIndex((item, at) => at >= this.cursor && open(item));
    const first = this.items.findIndex(open);
    this.move(after >= 0 ? after : first >= 0 ? first : this.cursor);
  }

  isDone() {
    return this.items.every((item) => this.done.has(item.path));
  }

  /**
   * Images whose decision was taken back stand first in line again, wherever they were. They are selected again, as they
   * were, in the kind of batch that they were `made` in: elsewhere, nobody expects a key to be about several.
   */
  bringBack(items, made = {}) {
    if (!items.length) return;
    const shown = new Set(this.items.map((item) => item.path));
    const missing = items.filter((item) => !shown.has(item.path));
    this.items = [...missing, ...this.items];
    items.forEach((item) => this.done.delete(item.path));
    const several = items.length > 1 && made.kind === this.kind;
    if (several && made.kind === "group" && !made.byHand) items.forEach((item) => this.offered.add(item.path));
    this.selection = new Set(several ? items.map((item) => item.path) : this.offered);
    this.byHand = several && (made.byHand || made.kind !== "group");
    this.move(this.items.findIndex((item) => item.path === items[0].path));
  }
}

export function freshBatch(kind, name = null) {
  const batch = new Batch(kind, name, { title: "", label: null, items: [] }, 0);
  batch.loading = true;
  return batch;
}

/** Fetches batches, the next one ahead. `model` is the Labelling that shows them. */
export class BatchSource {
  constructor(model) {
    this.model = model;
    this.aside = { useful: [], group: [], mistakes: [], class: [] }; // paths that later batches leave out for now
    this.ahead = null; // {batch: Batch or null, ready: promise of it, made: time, version: of the model}
    this.turn = 0;
    this.seen = new Map(); // items by path, with the guesses that were shown
  }

  async open(kind, name = null) {
    if (kind !== "useful") this.aside[kind] = []; // all of them, from the first
    this.ahead = null;
    await this.put(this.fetch(kind, name, []), freshBatch(kind, name));
  }

  /** The next batch of this kind; what was not decided is put aside. */
  async advance() {
    this.leave();
    const { kind, name } = this.model.batch;
    const { ahead } = this;
    this.ahead = null;
    if (ahead?.batch) this.show(ahead.batch);
    else await this.put(ahead?.ready ?? this.fetch(kind, name), freshBatch(kind, name));
  }

  /** Images that were looked at do not come again at once: those without a decision, and reviewed ones. */
  leave() {
    const { items, done, kind } = this.model.batch;
    const left = items.filter((item) => kind === "mistakes" || kind === "class" || !done.has(item.path));
    this.aside[kind] = [...this.aside[kind], ...left.map((item) => item.path)].slice(-SKIPPED);
  }

  async put(promise, meanwhile) {
    const turn = ++this.turn;
    this.model.batch = meanwhile;
    this.model.draw();
    let batch = await promise;
    if (turn !== this.turn) return;
    if (!batch.items.length && !batch.failed && batch.kind === "useful" && this.aside.useful.length) {
      this.aside.useful = []; // nothing else is left: those that were put aside come back
      batch = await this.fetch("useful", null, []);
    }
    if (turn === this.turn) this.show(batch);
  }

  show(batch) {
    this.turn += 1;
    const { model } = this;
    // Other windows may have decided about some since the batch was made.
    const open = batch.kind === "class" ? batch.items : batch.items.filter((item) => !this.isDecided(batch, item));
    const lost = batch.items.length > 0 && !open.length;
    batch.items = open;
    batch.offer(open);
    open.forEach((item) => this.seen.set(item.path, item));
    model.batch = batch;
    model.draw(true);
    if (lost) this.advance();
    else if (open.length) this.lookAhead();
  }

  isDecided(batch, item) {
    const now = this.model.decision(item);
    return batch.kind === "mistakes" ? now.label !== item.label : Boolean(now.how) && now.how !== "undo";
  }

  /** Images to decide about once more; a batch that is still on its way gives place to them. */
  bringBack(items, made = {}) {
    const { batch } = this.model;
    if (batch.loading) {
      this.turn += 1;
      Object.assign(batch, { loading: false, again: true, title: "Once more" });
    }
    const known = items.map((item) => ({ guess: null, suspect: null, ...this.seen.get(item.path), ...item }));
    batch.bringBack(known, made);
  }

  lookAhead() {
    const { kind, name } = this.model.batch;
    const old = this.ahead;
    const ahead = { batch: null, made: performance.now(), version: this.model.state.model?.version ?? null };
    ahead.ready = this.fetch(kind, name).then(async (batch) => {
      await Promise.all(batch.items.map((item) => this.model.pictures.get(item.index).ready));
      // Empty now: asked for again when it is needed, as there may be more by then.
      if (this.ahead === ahead || this.ahead === old) this.ahead = batch.items.length ? { ...ahead, batch } : null;
      return batch;
    });
    if (!old?.batch) this.ahead = ahead; // else the older one serves until the newer is there
    else old.made = ahead.made;
  }

  /** A newer model has better suggestions; a screen without images tries again. */
  maybeRefresh(before, after) {
    const version = after.model?.version ?? null;
    const { batch } = this.model;
    const grown = after.extraction.done !== before.extraction.done || version !== (before.model?.version ?? null);
    if (!batch.items.length && !batch.loading && (grown || batch.failed)) this.open(batch.kind, batch.name);
    const { ahead } = this;
    if (!ahead?.batch || ahead.version === version) return;
    if (performance.now() - ahead.made > REFRESH) this.lookAhead();
  }

  async fetch(kind, name, onScreen = this.model.batch.items) {
    const { model } = this;
    const skip = new Set(this.aside[kind]);
    for (const item of onScreen) skip.add(item.path);
    for (const path of model.outbox?.pending() ?? []) skip.add(path);
    const asked = model.asked + 1;
    try {
      const request = { op: "batch", n: SIZES[kind], kind, class: name, skip: [...skip] };
      return new Batch(kind, name, await model.ask(request), asked);
    } catch (error) {
      const batch = new Batch(kind, name, { title: error.message, label: null, items: [] }, asked);
      batch.failed = true;
      return batch;
    }
  }
}
