/** What is on screen and what was decided; it draws nothing itself. Decisions show at once and are sent afterwards. */

import { several, decisionName } from "./label_dom.js";
import { freshBatch, BatchSource, KINDS } from "./label_batches.js";
import { Outbox } from "./label_outbox.js";
import { Away } from "./label_transport.js";

const KEYS = "123456789abcdefghijklmnopqrstuvwxyz";
const NOTHING = "There is nothing to undo.";
const SHOWN_AGAIN = 24; // images of one decision that was taken back: all of a renamed class are not shown
const HISTORY = 200; // decisions that this window can undo and show

/** A name of the list of images and of its file of labels, which a restart leaves as it is. */
function listOf(state) {
  return state.images ?? state.session.split("-")[0];
}

export class Labelling {
  constructor(transport, storage, pictures, draw) {
    Object.assign(this, { transport, storage, pictures, draw });
    this.state = null;
    this.decisions = new Map(); // path to {label, how, asked}: what is known beyond the batch's own word
    this.history = [];
    this.asked = this.taken = 0;
    this.batch = freshBatch("useful");
    this.source = new BatchSource(this);
    this.status = "";
    this.away = null;
  }

  async start() {
    await this.ask({ op: "state" });
    this.pictures.session = listOf(this.state);
    this.outbox = new Outbox((request) => this.ask(request), this.storage, listOf(this.state), {
      changed: () => this.draw(),
      confirmed: (entry, answer) => this.confirmed(entry, answer),
      dropped: (entry, why) => this.dropped(entry, why),
    });
    await this.outbox.adopt();
    await this.source.open("useful");
  }

  // ---- answers ----

  async ask(request) {
    const asked = ++this.asked;
    try {
      const answer = await this.transport.send({ since: this.state?.version ?? null, ...request });
      if (this.away) this.outbox?.again();
      this.away = null;
      this.take(answer, asked);
      return answer;
    } catch (error) {
      this.away = error instanceof Away ? error.message : null;
      throw error;
    }
  }

  take(answer, asked) {
    if (answer.version === undefined || answer.extraction === undefined || asked < this.taken) return;
    this.taken = asked;
    const before = this.state;
    this.state = answer;
    const pending = this.outbox?.pending() ?? new Set();
    for (const { path, label, how } of answer.changes ?? []) {
      if (!pending.has(path)) this.decisions.set(path, { label, how, asked });
    }
    if (before && listOf(before) !== listOf(answer)) this.anotherList();
    else if (before) this.source.maybeRefresh(before, answer);
  }

  /** The server came back with other images: indices mean something else now. */
  anotherList() {
    this.outbox.move(listOf(this.state));
    this.pictures.kept.clear();
    this.pictures.session = listOf(this.state);
    this.history = [];
    this.source.open("useful");
  }

  confirmed(entry, answer) {
    if (entry.request.op !== "undo" || entry.effects.length) return;
    // Another window's, or from before a reload, or another name for a class: only the server knew of what.
    const restored = answer.restored ?? [];
    restored.forEach(({ path, label, how }) => this.decisions.set(path, { label, how, asked: this.asked }));
    if (restored.length <= SHOWN_AGAIN) this.source.bringBack(restored);
    const taken = `Took back ${several(restored.length, "decision")} (of another window, of earlier, or a renaming)`;
    this.status = restored.length ? `${taken}: ${restored[0].path}${restored.length > 1 ? " …" : ""}.` : NOTHING;
  }

  dropped(entry, why) {
    this.apply(entry.effects, "before");
    this.history = this.history.filter((made) => made.effects !== entry.effects);
    if (why) this.status = why;
  }

  async poll() {
    try {
      await this.ask({ op: "state" });
    } catch {
      // `away` says so, and the next poll tries again.
    }
    this.draw();
  }

  // ---- what is decided ----

  decision(item) {
    const known = this.decisions.get(item.path);
    return known && known.asked >= (item.asked ?? 0) ? known : { label: item.label, how: item.how };
  }

  targets() {
    return this.batch.targets();
  }

  label(name) {
    const items = this.targets();
    const how = this.batch.kind === "group" && items.length > 1 ? "cluster" : "key";
    this.decide(items.map((item) => ({ item, label: name, how })));
  }

  mark(how) {
    this.decide(this.targets().map((item) => ({ item, label: null, how })));
  }

  /** What Enter decides: the guess of each image, and in a group its label for all that are selected. */
  guesses() {
    const items = this.batch.chosen();
    const choices = items.map((item) => ({
      item,
      label: item.suspect?.suggested ?? item.together ?? item.guess?.label ?? null,
      how: item.together && items.length > 1 ? "cluster" : "guess",
    }));
    return choices.filter((choice) => choice.label !== null);
  }

  accept() {
    if (this.isOver()) return this.batch.items.length ? this.next() : this.open("useful");
    if (this.isUnnamed()) return this.takeAll();
    const known = this.guesses();
    if (!known.length) return this.tell("There is no guess to accept yet: press a class's key, or + for a new class.");
    return this.decide(known);
  }

  /** Enter goes on: a group of which the rest was left out, or a screen without images. */
  isOver() {
    const { kind, items, selection, again } = this.batch;
    if (!items.length) return kind !== "useful";
    return kind === "group" && !selection.size && !again && !this.isUnnamed();
  }

  /** A group of no class that is known: Enter selects all of it, and then a key or a new name is about all. */
  isUnnamed() {
    const { kind, label, items, selection, done, again } = this.batch;
    return kind === "group" && label === null && items.length > 0 && !selection.size && !done.size && !again;
  }

  takeAll() {
    this.batch.selectAll();
    this.tell(`${several(this.batch.selection.size, "image")} selected: press a class's key, or + for a new class.`);
  }

  decide(choices) {
    const effects = choices.map(({ item, label, how }) => ({
      path: item.path,
      index: item.index,
      before: this.decision(item),
      after: { label, how },
    }));
    if (!effects.length) return;
    const anew = effects.filter(({ before, after }) => before.label !== after.label || before.how !== after.how);
    if (anew.length) this.send(anew);
    const name = decisionName(effects[0].after);
    const same = effects.every(({ after }) => decisionName(after) === name);
    this.status = `${several(effects.length, "image")}: ${same ? name : "as guessed"}.`;
    this.batch.decided(effects.map((effect) => effect.path));
    if (this.batch.isDone()) this.next();
    else this.draw();
  }

  send(effects) {
    const { kind, byHand } = this.batch;
    this.history = [...this.history.slice(-HISTORY), { effects, kind, byHand }];
    this.apply(effects, "after");
    this.outbox.push({ op: "label", labels: effects.map(({ path, after }) => ({ path, ...after })) }, effects);
  }

  undo() {
    const made = this.history.at(-1);
    if (!made && !this.state.undo) return this.tell(NOTHING);
    const effects = (made?.effects ?? []).map((e) => ({ ...e, before: e.after, after: e.before }));
    this.history = this.history.slice(0, -1);
    this.apply(effects, "after");
    this.source.bringBack(effects.map(({ path, index, after }) => ({ path, index, ...after })), made);
    this.outbox.push({ op: "undo" }, effects);
    const what = effects.length ? several(effects.length, "decision") : "the last step";
    return this.tell(`Took back ${what}.`);
  }

  /** Images of an earlier decision, to look at them once more. */
  showAgain(made) {
    this.source.bringBack(made.effects.map(({ path, index }) => ({ path, index, ...this.decisions.get(path) })), made);
    this.draw(true);
  }

  apply(effects, side) {
    for (const effect of effects) this.decisions.set(effect.path, { ...effect[side], asked: Infinity });
  }

  // ---- classes ----

  /** Classes with what is not confirmed yet counted in, `{name, key, n}`. */
  classes() {
    const found = new Map(this.state.classes.map((one) => [one.name, { ...one }]));
    const add = (name, n) => {
      if (name === null || name === undefined) return;
      if (!found.has(name)) found.set(name, { name, key: this.freeKey(found), n: 0 });
      found.get(name).n = Math.max(0, found.get(name).n + n);
    };
    for (const { request, effects } of this.outbox?.entries ?? []) {
      if (request.op === "add_class") add(request.name, 0);
      effects.forEach(({ before, after }) => (add(before.label, -1), add(after.label, 1)));
    }
    return [...found.values()];
  }

  freeKey(found) {
    const taken = new Set([...found.values()].map((one) => one.key));
    return [...KEYS].find((key) => !taken.has(key)) ?? null;
  }

  /** The class of that name, also if it is written with other capitals. */
  known(name) {
    const fold = (text) => text.normalize("NFC").toLowerCase();
    return this.classes().find((one) => fold(one.name) === fold(name))?.name ?? null;
  }

  /** A name was typed: it is taken for the selection, or waits for images. */
  name(text) {
    const name = this.known(text) ?? text;
    if (this.targets().length) this.label(name);
    else this.outbox.push({ op: "add_class", name }, []);
    this.draw();
  }

  rename(from, to) {
    // Without images nothing is written, and there is nothing to undo.
    const hasImages = this.classes().some((one) => one.name === from && one.n);
    if (hasImages) this.history = [...this.history, { effects: [], name: to }];
    this.outbox.push({ op: "rename_class", from, to }, []);
    this.tell(`Renaming ${from} to ${to}.`);
  }

  // ---- moving on ----

  tell(text) {
    this.status = text;
    this.draw();
  }

  next() {
    return this.source.advance();
  }

  open(kind, name = null) {
    return this.source.open(kind, name);
  }

  /** The next kind of batch that has something to show. */
  async nextKind() {
    const at = KINDS.indexOf(this.batch.kind);
    const after = [1, 2, 3].map((step) => KINDS[(at + step) % KINDS.length]);
    for (const kind of after) {
      await this.open(kind);
      if (this.batch.items.length) break;
    }
  }
}
