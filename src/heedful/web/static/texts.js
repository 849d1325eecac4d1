// Words of the page in the language of whoever looks at it: the keys are the English ones. The server leaves the
// catalogue in the page (heedful.web.texts), so that nothing is fetched and nothing flickers.

const CATALOGUE = JSON.parse(document.querySelector('meta[name="texts"]')?.content ?? "{}");

// t("{n} in all", {n: 3}); what the catalogue has not stays English.
export function t(text, values = {}) {
  return (CATALOGUE[text] ?? text).replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
}
