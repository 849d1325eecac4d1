// Colours and text size of this browser, before anything is drawn; chosen under Account, or in the keys' help.
(() => {
  const root = document.documentElement;
  const home = new URL("../", document.currentScript.src).pathname; // below a prefix, where there is one
  const read = (name) => {
    try {
      return localStorage.getItem(`heedful:${name}`);
    } catch {
      return null;
    }
  };
  const apply = () => {
    for (const name of ["theme", "size"]) {
      const value = read(name);
      if (value) root.dataset[name] = value;
      else delete root.dataset[name];
    }
  };
  apply();
  addEventListener("storage", apply); // in another tab
  // Forms are sent by scripts. One that is sent before its script is there must not take what was typed into an address.
  addEventListener("submit", (event) => event.target.method !== "dialog" && event.preventDefault());
  addEventListener("DOMContentLoaded", () => {
    for (const select of document.querySelectorAll("select[data-language]"))
      select.addEventListener("change", () => {
        document.cookie = `heedful_language=${select.value}; path=${home}; max-age=31536000; samesite=lax`;
        location.reload();
      });
    for (const select of document.querySelectorAll("select[data-look]")) {
      select.value = read(select.dataset.look) ?? "";
      select.addEventListener("change", () => {
        try {
          if (select.value) localStorage.setItem(`heedful:${select.dataset.look}`, select.value);
          else localStorage.removeItem(`heedful:${select.dataset.look}`);
        } catch {
          root.dataset[select.dataset.look] = select.value; // for this page, where nothing can be kept
          return;
        }
        apply();
      });
    }
  });
})();
