// Runs before the first paint, as a plain script, so that a chosen theme does not flash the other one.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("textrl:theme"); } catch { /* storage may be switched off */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
