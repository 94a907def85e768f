/** Decisions on their way: in order, one at a time, kept by the browser until whoever writes them has confirmed. */

import { Refused } from "./label_transport.js";

const KEPT = "frofa-label:";
const WAITS = [300, 700, 1500, 3000, 5000]; // milliseconds between tries; the last is for all later ones

/** A name that no other window has. */
function newClient() {
  const drawn = () => Math.random().toString(36).slice(2);
  return globalThis.crypto?.randomUUID?.() ?? [drawn(), drawn(), drawn()].join("-");
}

/**
 * Entries are `{request, effects}`; effects (`{path, index, before, after}`) are what the page shows already.
 * `problem` is null, or `{text, refused}` while nothing gets through.
 */
export class Outbox {
  constructor(ask, storage, session, { changed, confirmed, dropped }) {
    Object.assign(this, { ask, storage, session, changed, confirmed, dropped });
    this.client = newClient();
    this.number = 0;
    this.entries = [];
    this.problem = null;
    this.foreign = []; // what windows on another list of images left behind
    this.busy = false;
    this.tries = 0;
    this.keeps = storage !== null;
    // Whoever holds this lock is alive, and sends what it keeps itself.
    globalThis.navigator?.locks?.request(KEPT + this.client, () => new Promise(() => {}));
  }

  get key() {
    return `${KEPT}${this.session}:${this.client}`;
  }

  /** The same labels file has another list of images now. */
  move(session) {
    const old = this.key;
    this.session = session;
    this.keep();
    if (this.keeps) this.storage?.removeItem(old);
  }

  push(request, effects) {
    this.number += 1;
    this.entries.push({ request: { ...request, client: this.client, number: this.number }, effects });
    this.keep();
    this.pump();
  }

  /** Paths whose decision is not confirmed. */
  pending() {
    return new Set(this.entries.flatMap((entry) => entry.effects.map((effect) => effect.path)));
  }

  keep() {
    if (!this.storage) return;
    try {
      if (this.entries.length) this.storage.setItem(this.key, JSON.stringify(this.entries));
      else this.storage.removeItem(this.key);
      this.keeps = true;
    } catch {
      this.keeps = false; // full or forbidden: the window itself still holds them
    }
  }

  async pump() {
    if (this.busy || !this.entries.length || this.problem?.refused) return;
    this.busy = true;
    const entry = this.entries[0];
    try {
      const answer = await this.ask(entry.request);
      this.settle(entry);
      this.confirmed(entry, answer);
    } catch (error) {
      this.fail(entry, error);
    }
    this.busy = false;
    this.changed();
    if (!this.problem) this.pump();
  }

  settle(entry) {
    this.entries = this.entries.filter((other) => other !== entry);
    this.problem = null;
    this.tries = 0;
    this.keep();
  }

  fail(entry, error) {
    if (error instanceof Refused && entry.request.op !== "label") {
      // An undo of nothing, a name that cannot be: there is nothing to keep.
      this.settle(entry);
      this.dropped(entry, error.message);
      return;
    }
    this.problem = { text: error.message, refused: error instanceof Refused };
    if (this.problem.refused) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.pump(), WAITS[Math.min(this.tries++, WAITS.length - 1)]);
  }

  again() {
    clearTimeout(this.timer);
    this.problem = null;
    this.pump();
    this.changed();
  }

  /** Gives up the first entry, which was refused. */
  discard() {
    const entry = this.entries[0];
    this.settle(entry);
    this.dropped(entry, null);
    this.again();
  }

  /** Takes over what windows that are gone could not send; their client and number keep it from counting twice. */
  async adopt() {
    for (const key of keptKeys(this.storage)) {
      const split = key.lastIndexOf(":");
      const client = key.slice(split + 1);
      if (client === this.client || !(await isGone(client))) continue;
      const left = { key, entries: readEntries(this.storage, key) };
      if (key.slice(KEPT.length, split) === this.session) this.takeOver(left);
      else if (left.entries.length) this.foreign.push(left);
    }
    this.pump();
    this.changed();
  }

  takeOver({ key, entries }) {
    this.entries = [...entries, ...this.entries];
    this.keep();
    if (this.keeps) this.storage.removeItem(key);
  }

  takeForeign() {
    this.foreign.splice(0).forEach((left) => this.takeOver(left));
    this.again();
  }

  forgetForeign() {
    this.foreign.splice(0).forEach((left) => this.storage.removeItem(left.key));
    this.changed();
  }
}

function keptKeys(storage) {
  try {
    return Object.keys(storage ?? {}).filter((key) => key.startsWith(KEPT)).sort();
  } catch {
    return [];
  }
}

function readEntries(storage, key) {
  try {
    const entries = JSON.parse(storage.getItem(key));
    return entries.filter((entry) => typeof entry.request === "object" && Array.isArray(entry.effects));
  } catch {
    return [];
  }
}

async function isGone(client) {
  const locks = globalThis.navigator?.locks;
  return locks ? locks.request(KEPT + client, { ifAvailable: true }, (lock) => lock !== null) : true;
}
