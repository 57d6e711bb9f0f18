// Sets the chosen theme before anything is drawn. A classic script, as modules run after the first frame.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("penstock.theme");
  } catch {
    // Storage is forbidden: the system's theme is used.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
