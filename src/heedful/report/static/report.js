// The theme, before the first paint; without scripts the page follows the system.
(function () {
  var root = document.documentElement, key = "heedful-theme";
  try { var kept = localStorage.getItem(key); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch (e) {}
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("theme");
    function name() { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", "Switch to " + (isDark() ? "light" : "dark") + " colours"); }
    button.hidden = false;
    name();
    button.addEventListener("click", function () {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem(key, root.dataset.theme); } catch (e) {}
      name();
    });
  });
})();
