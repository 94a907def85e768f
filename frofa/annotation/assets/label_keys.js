/** What each key does. Letters and digits are classes; commands are all the rest. */

export const HELP = [
  [["1", "–", "9", "a", "–", "z"], "label the image at the cursor, or all that you selected, with its class"],
  [["+"], "name a new class (or find one by its name) and take it"],
  [["Enter"], "take the guesses that are shown; label a group, but for what you left out"],
  [["?"], "not sure"],
  [["0"], "none of these classes"],
  [["Backspace", "Ctrl Z"], "undo"],
  [["←", "→", "↑", "↓", "Home", "End"], "move"],
  [["Space"], "select the image, or leave it out"],
  [["Shift ←", "Shift →"], "select several"],
  [["Ctrl A"], "select all"],
  [["Esc"], "clear the selection"],
  [["."], "next kind of images: most useful, groups, suspected mistakes"],
  [["Page Down"], "other images; these come again later"],
  [["F2"], "look at the image closely"],
  [["F1"], "these keys"],
];

/** The key of a class that was pressed, on any layout, or null. */
function classKey(event) {
  const key = event.key.toLowerCase();
  if (/^[a-z1-9]$/.test(key)) return key;
  const [, digit, letter] = /^(?:(?:Digit|Numpad)([1-9])|Key([A-Z]))$/.exec(event.code ?? "") ?? [];
  if (digit && !event.shiftKey) return digit; // French and Czech rows of digits
  return letter && key.length === 1 && key > "\x7f" ? letter.toLowerCase() : null; // Greek, Cyrillic
}

const MOVES = { ArrowLeft: -1, ArrowRight: 1 };
const ROWS = { ArrowUp: -1, ArrowDown: 1 };

/** `{name, ...}` of the command that a key event means, or null. */
export function commandOf(event) {
  const { key } = event;
  if (event.isComposing || key === undefined) return null;
  const control = event.ctrlKey || event.metaKey;
  if (control && !event.altKey && !event.shiftKey) {
    return { a: { name: "all" }, z: { name: "undo" } }[key.toLowerCase()] ?? null;
  }
  // AltGr writes "?" or "+" on some layouts, and no letters that are classes.
  const graph = event.getModifierState?.("AltGraph") ?? false;
  if ((control || event.altKey) && !(graph && "?+.".includes(key))) return null;
  if (key in MOVES) return { name: "move", by: MOVES[key], extend: event.shiftKey };
  if (key in ROWS) return { name: "row", by: ROWS[key], extend: event.shiftKey };
  if (key === "Home" || key === "End") return { name: "end", last: key === "End", extend: event.shiftKey };
  const plain = {
    " ": "toggle",
    "+": "new",
    "?": "unsure",
    0: "none",
    ".": "kind",
    Enter: "accept",
    Backspace: "undo",
    Escape: "clear",
    PageDown: "next",
    F1: "help",
    F2: "large",
  }[key];
  if (plain) return { name: plain };
  const found = classKey(event);
  if (found) return { name: "class", key: found };
  return event.code === "Digit0" && !event.shiftKey ? { name: "none" } : null;
}

/** Held keys move and nothing else: a key that is held too long must not label one image after another. */
export function mayRepeat(command) {
  return ["move", "row"].includes(command.name);
}
