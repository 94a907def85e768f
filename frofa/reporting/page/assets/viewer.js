// Two dialogs: many images, and one with all that is known of it.
const PAGE = 120;
const groupDialog = byId("group");
const imageDialog = byId("image");
let group = [];
let shownOfGroup = 0;
let series = [];
let place = 0;

/** Open the images of a list under a title. */
function openGroup(title, positions) {
  group = positions;
  shownOfGroup = 0;
  byId("group-title").textContent = title;
  const right = positions.filter(isRight).length;
  const without = positions.filter((i) => !pictureOf(i)).length;
  const notes = [`${right.toLocaleString("en")} right, ${(positions.length - right).toLocaleString("en")} mistaken; the surest first.`];
  if (data.hasPictures && without) notes.push(`${images(without)} have no picture, as the file would be too large.`);
  byId("group-about").textContent = positions.length ? notes.join(" ") : "There is no such image.";
  byId("group-images").replaceChildren();
  showMore();
  groupDialog.showModal();
  groupDialog.scrollTop = 0;
}

/** Show the next images of the group that is open. */
function showMore() {
  const next = group.slice(shownOfGroup, shownOfGroup + PAGE);
  byId("group-images").append(
    ...next.map((i, at) => {
      const button = element("button", {
        type: "button",
        className: `thumb ${isRight(i) ? "right" : "wrong"}`,
        "aria-label": `${data.names[i]}: ${outcome(i)}`,
        title: data.names[i],
      });
      button.append(picture(i), element("span", { className: "small" }, chance(topShare(i))));
      const first = shownOfGroup;
      button.addEventListener("click", () => openImage(group, first + at));
      return element("li", {}, button);
    }),
  );
  shownOfGroup += next.length;
  const rest = group.length - shownOfGroup;
  byId("group-more").hidden = rest <= 0;
  byId("group-more").textContent = `Show ${images(Math.min(rest, PAGE))} more`;
}

/** Open one image of a list, from which the neighbours can be reached. */
function openImage(positions, at) {
  series = positions;
  place = at;
  showImage();
  if (!imageDialog.open) imageDialog.showModal();
}

function showImage() {
  const i = series[place];
  byId("image-title").replaceChildren(named(data.names[i]));
  const large = element("div", { className: "large" }, picture(i, data.names[i]));
  byId("image-content").replaceChildren(large, element("div", {}, verdict(i), probabilities(i), confidence(i)));
  byId("image-position").textContent = `${(place + 1).toLocaleString("en")} of ${series.length.toLocaleString("en")}`;
  byId("image-previous").disabled = place === 0;
  byId("image-next").disabled = place === series.length - 1;
}

function verdict(i) {
  const right = isRight(i);
  const mark = element("strong", { className: right ? "good" : "bad" }, right ? "✓ Right: " : "✗ Mistaken: ");
  const said = element("p", {}, mark, named(label(data.predicted[i])));
  if (!right) said.append(", in truth ", named(label(data.truth[i])));
  return said;
}

function probabilities(i) {
  const rows = [];
  for (let j = 0; j < data.nTop; j++) rows.push([data.top[i * data.nTop + j], data.shares[i * data.nTop + j] / PARTS]);
  if (!rows.some(([k]) => k === data.truth[i])) rows.push([data.truth[i], data.trueShare[i] / PARTS]);
  const lines = rows.map(([k, share]) => {
    const meter = element("span", { className: "share", "aria-hidden": "true" }, element("span"));
    meter.firstChild.style.width = `${100 * share}%`;
    const name = element("th", { scope: "row" }, named(label(k)));
    if (k === data.truth[i]) name.append(" ", element("span", { className: "tag" }, "truth"));
    const number = element("td", { className: "number" }, percent(share));
    return element("tr", {}, name, element("td", {}, meter), number);
  });
  const caption = element("caption", {}, `Probabilities${data.nTop < data.labels.length ? ", the largest" : ""}`);
  return element("table", { className: "probabilities" }, caption, element("tbody", {}, ...lines));
}

/** The prediction set, and whether the image is like the training images. */
function confidence(i) {
  const lines = element("div", { className: "small" });
  if (data.sets) {
    const [size, ...members] = data.sets[i];
    const set = element("p", {}, `Prediction set at ${percent(data.level, 0)}: `);
    members.forEach((k, j) => set.append(j ? ", " : "", named(label(k))));
    if (!size) set.append("empty");
    if (size > members.length) set.append(`, and ${(size - members.length).toLocaleString("en")} more`);
    lines.append(set);
  }
  if (data.novelty) {
    const p = data.novelty[i] / PARTS;
    const said = p < 0.05 ? "it is unlike the training images" : "it is like the training images";
    lines.append(element("p", {}, `Novelty: p = ${p.toFixed(3)}; ${said}.`));
  }
  return lines;
}

function step(by) {
  const next = place + by;
  if (next < 0 || next >= series.length) return;
  place = next;
  showImage();
}

byId("group-more").addEventListener("click", showMore);
byId("image-previous").addEventListener("click", () => step(-1));
byId("image-next").addEventListener("click", () => step(1));
imageDialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else return;
  event.preventDefault();
});

/** Positions of the pictures beside a button: those of its gallery, or itself alone. */
function seriesOf(button) {
  const gallery = button.closest(".gallery, .attention");
  const buttons = gallery ? [...gallery.querySelectorAll("button[data-image]")] : [button];
  return [buttons.map((one) => Number(one.dataset.image)), buttons.indexOf(button)];
}

const numberOf = (text) => (text === undefined || text === "" ? null : Number(text));

document.addEventListener("click", (event) => {
  // A click on the backdrop closes a dialog.
  if (event.target instanceof HTMLDialogElement) {
    const box = event.target.getBoundingClientRect();
    const inside =
      event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside && event.detail) event.target.close();
  }
  const button = event.target.closest?.("button");
  if (!button) return;
  const { image, true: truth, predicted, not, close } = button.dataset;
  if (close !== undefined) button.closest("dialog").close();
  else if (image !== undefined) openImage(...seriesOf(button));
  else if (truth !== undefined) {
    const others = not === undefined ? null : new Set(not.split(" ").map(Number));
    const found = select({ truth: numberOf(truth), predicted: numberOf(predicted), not: others });
    openGroup(button.getAttribute("aria-label")?.replace(/^Open /, "") ?? button.textContent, found);
  }
});
