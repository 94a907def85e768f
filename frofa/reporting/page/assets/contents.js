// The list of contents: a menu on narrow pages, and where the reader is. Then which map of attention is shown.
const contents = byId("contents");
const toggle = byId("contents-toggle");

function openContents(open) {
  toggle.setAttribute("aria-expanded", String(open));
  contents.classList.toggle("open", open);
}

toggle.addEventListener("click", () => openContents(toggle.getAttribute("aria-expanded") !== "true"));
contents.addEventListener("click", (event) => {
  if (event.target.closest("a")) openContents(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || toggle.getAttribute("aria-expanded") !== "true") return;
  openContents(false);
  toggle.focus();
});

const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
const inView = new Set();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) inView.add(entry.target.id);
      else inView.delete(entry.target.id);
    }
    const current = [...links.keys()].find((id) => inView.has(id));
    if (!current) return;
    for (const [id, link] of links) {
      if (id === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  },
  { rootMargin: "-20% 0px -60% 0px" },
);
for (const id of links.keys()) watcher.observe(byId(id));

for (const choice of document.querySelectorAll(".attention-choice")) {
  choice.addEventListener("change", () => {
    const list = choice.closest(".finder").nextElementSibling;
    for (const heat of list.querySelectorAll("[data-attention]")) {
      const maps = data.attention[Number(heat.dataset.attention)];
      const at = Number(choice.value);
      if (at >= maps.length) continue;
      const [drawn, said] = maps[at];
      heat.src = drawn;
      heat.alt = `Attention, ${choice.selectedOptions[0].textContent}`;
      heat.closest("figure").querySelector(".said").textContent = said;
    }
  });
}
