// Light and dark: as the system has it, unless the switch says otherwise. Runs in the head, before anything is shown.
(() => {
  "use strict";
  const KEY = "frofa-theme";
  const CHOICES = ["automatic", "light", "dark"];
  const root = document.documentElement;

  // Storage may be refused: in a sandboxed frame, or where the reader forbids it.
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  const store = (choice) => {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // The choice then holds until the page is closed.
    }
  };

  let choice = CHOICES.includes(stored()) ? stored() : "automatic";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  const apply = () => {
    if (choice === "automatic") delete root.dataset.theme;
    else root.dataset.theme = choice;
    const dark = choice === "dark" || (choice === "automatic" && system.matches);
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = `Theme: ${choice}`;
      button.title = "Choose light, dark, or what the system has";
    }
    // Canvases and the like draw anew: the event says how.
    root.dispatchEvent(new CustomEvent("themechange", { bubbles: true, detail: { dark } }));
  };

  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", apply);
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("[data-theme-switch]")) return;
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    store(choice);
    apply();
  });
  apply();
})();
