// What is known of the images. The files of this folder are joined into one module, in the order that render.py says.
const data = JSON.parse(document.getElementById("report-data").textContent);
const byId = (id) => document.getElementById(id);
const count = data.truth.length;
const everyImage = Array.from({ length: count }, (_, i) => i);
const PARTS = 10000;

document.documentElement.classList.add("scripted");

/** Make an element; children are nodes or text, and text is never interpreted. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** A name from outside, apart from the direction of the text around it. */
const named = (text) => element("bdi", {}, text);
const label = (k) => data.labels[k];
const isRight = (i) => data.truth[i] === data.predicted[i];
const topShare = (i) => data.shares[i * data.nTop] / PARTS;
const images = (n) => `${n.toLocaleString("en")} ${n === 1 ? "image" : "images"}`;

function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

/** A probability, not rounded to certainty. */
function chance(share) {
  if (share < 0.01) return "under 1 %";
  return share > 0.99 ? "over 99 %" : percent(share, 0);
}

// Pictures that stand in the text of the page are in it once.
const inText = new Map();
for (const image of document.querySelectorAll("button.picture[data-image] img")) {
  inText.set(Number(image.parentElement.dataset.image), { uri: image.src, tiny: image.classList.contains("pixels") });
}

/** Address of a picture, or null where there is none. */
function pictureOf(i) {
  if (inText.has(i)) return inText.get(i);
  const encoded = data.pictures[i];
  return encoded ? { uri: data.prefix + encoded, tiny: data.tiny } : null;
}

/** A picture, or words where there is none. */
function picture(i, alt = "") {
  const found = pictureOf(i);
  if (!found) return element("span", { className: "blank" }, "no picture");
  return element("img", { src: found.uri, alt, className: found.tiny ? "pixels" : "", decoding: "async" });
}

/** What happened to an image, as text: for names of buttons and for what is read aloud. */
function outcome(i) {
  const said = `predicted ${label(data.predicted[i])}, ${chance(topShare(i))}`;
  return isRight(i) ? `${said}, right` : `${said}, truth ${label(data.truth[i])}`;
}

/** Positions of images of a true class and a predicted one, each optional, the surest first. */
function select({ truth = null, predicted = null, not = null }) {
  const found = everyImage.filter(
    (i) =>
      (truth === null || data.truth[i] === truth) &&
      (predicted === null || data.predicted[i] === predicted) &&
      (not === null || !not.has(data.predicted[i])),
  );
  return found.sort((a, b) => topShare(b) - topShare(a) || a - b);
}
