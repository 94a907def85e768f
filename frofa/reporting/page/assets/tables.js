// The table of classes can be sorted and searched, any confusion can be looked up, and common ones show pictures.
const classTable = byId("class-table");
const valueOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};

function sortBy(header) {
  const column = header.cellIndex;
  const body = classTable.tBodies[0];
  // Names begin with A, numbers with the smallest: the weakest class comes first.
  const falling = header.ariaSort === "ascending";
  const rows = [...body.rows].sort((a, b) => {
    const [one, other] = [valueOf(a, column), valueOf(b, column)];
    const order = typeof one === "number" ? one - other : one.localeCompare(other);
    return falling ? -order : order;
  });
  for (const other of classTable.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  body.append(...rows);
}

classTable.tHead.addEventListener("click", (event) => {
  const button = event.target.closest("button.sort");
  if (button) sortBy(button.parentElement);
});

byId("class-filter")?.addEventListener("input", (event) => {
  const wanted = event.target.value.trim().toLowerCase();
  for (const row of classTable.tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
});

byId("find")?.addEventListener("click", () => {
  const [truth, predicted] = [byId("find-true"), byId("find-predicted")].map((one) => numberOf(one.value));
  const [of, as] = [truth, predicted].map((k) => (k === null ? "any class" : label(k)));
  const found = select({ truth, predicted });
  openGroup(`${images(found.length)} of ${of} predicted as ${as}`, found);
});

for (const strip of document.querySelectorAll("[data-strip]")) {
  const [truth, predicted] = strip.dataset.strip.split(" ").map(Number);
  const some = select({ truth, predicted }).filter(pictureOf).slice(0, 4);
  strip.append(...some.map((i) => picture(i)));
}
