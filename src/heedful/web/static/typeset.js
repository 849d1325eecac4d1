// Mathematics that the server has left in data-tex, drawn by KaTeX where the page has it.

export function typeset(root) {
  for (const node of root.querySelectorAll(".math[data-tex]")) {
    if (!globalThis.katex) continue;
    const source = node.dataset.tex;
    try {
      katex.render(source, node, { displayMode: Boolean(node.dataset.display), throwOnError: true, trust: false, maxSize: 20, maxExpand: 200, strict: "ignore", output: "htmlAndMathml" });
    } catch {
      node.textContent = source;
    }
  }
}
