/** Elements and words: text from files and classes goes in as text, and is never interpreted. */

/** An element with attributes, listeners (`onclick: f`) and children; what is null or false is left out. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** A button that is no form's. */
export function button(properties, ...children) {
  return make("button", { type: "button", ...properties }, ...children);
}

/** A key as it is printed on a keyboard. */
export function keycap(text) {
  return make("kbd", {}, text);
}

/** Sets text only where it differs, so that a screen reader hears a live region once. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function count(n) {
  return n.toLocaleString("en-GB");
}

/** "1 image", "1,200 images". */
export function several(n, one, more = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : more}`;
}

/** A probability, not rounded to certainty. */
export function chance(share) {
  if (share < 0.01) return "under 1 %";
  return share > 0.99 ? "over 99 %" : percent(share);
}

export function percent(share, digits = 0) {
  return `${(100 * share).toFixed(digits)} %`;
}

/** What a decision is called on the page. */
export function decisionName({ label, how } = {}) {
  if (label !== null && label !== undefined) return label;
  return { unsure: "not sure", none: "none of these" }[how] ?? null;
}
