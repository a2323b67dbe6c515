// A mode is always set: the theme's script takes an empty one for an error.
const root = document.documentElement;
root.dataset.mode ||= "auto";
root.dataset.theme ||= matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

// Paper is white and has no folds.
let before = null;
addEventListener("beforeprint", () => {
  const folds = [...document.querySelectorAll(".bd-article details:not([open])")];
  before = { theme: root.dataset.theme, folds };
  root.dataset.theme = "light";
  folds.forEach((fold) => { fold.open = true; });
});
addEventListener("afterprint", () => {
  if (before === null) return;
  root.dataset.theme = before.theme;
  before.folds.forEach((fold) => { fold.open = false; });
  before = null;
});

// The scoreboard's two lists, and the search of a long table: without scripts all is shown.
addEventListener("DOMContentLoaded", () => {
  for (const form of document.querySelectorAll(".pm-choosers")) {
    const target = form.dataset.table;
    const items = [...document.querySelectorAll(target ? `#${target} tbody tr` : ".pm-scoreboard > li")];
    const shown = (item) => target
      ? item.textContent.toLowerCase().includes(form.elements.words.value.trim().toLowerCase())
      : ["verdict", "study"].every((name) => !form.elements[name].value || item.dataset[name] === form.elements[name].value);
    const choose = () => {
      items.forEach((item) => { item.hidden = !shown(item); });
      document.querySelectorAll("section:has(> .pm-scoreboard)").forEach((part) => {
        part.hidden = !part.querySelector(".pm-scoreboard > li:not([hidden])");
      });
      const left = items.filter((item) => !item.hidden).length;
      form.querySelector("output").textContent = left === items.length ? "" : `${left} of ${items.length}`;
    };
    form.hidden = false;
    form.addEventListener("input", choose);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
});
