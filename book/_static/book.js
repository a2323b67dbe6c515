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
