// Word-level differences by the longest common subsequence; long texts are compared by lines first.

const MOST = 4_000_000; // cells of the table

export const words = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];

// [["same" | "gone" | "new", text], …] that turns a into b.
export function compare(a, b, split = words) {
  const x = split(a);
  const y = split(b);
  let start = 0;
  while (start < x.length && start < y.length && x[start] === y[start]) start++;
  let end = 0;
  while (end < x.length - start && end < y.length - start && x[x.length - 1 - end] === y[y.length - 1 - end]) end++;
  const left = x.slice(start, x.length - end);
  const right = y.slice(start, y.length - end);
  const parts = [];
  const add = (kind, text) => {
    if (!text) return;
    if (parts.length && parts[parts.length - 1][0] === kind) parts[parts.length - 1][1] += text;
    else parts.push([kind, text]);
  };
  add("same", x.slice(0, start).join(""));
  if (left.length * right.length > MOST) {
    add("gone", left.join(""));
    add("new", right.join(""));
  } else {
    const width = right.length + 1;
    const table = new Uint32Array((left.length + 1) * width);
    for (let i = left.length - 1; i >= 0; i--)
      for (let j = right.length - 1; j >= 0; j--)
        table[i * width + j] =
          left[i] === right[j]
            ? table[(i + 1) * width + j + 1] + 1
            : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    let i = 0;
    let j = 0;
    while (i < left.length && j < right.length) {
      if (left[i] === right[j]) {
        add("same", left[i++]);
        j++;
      } else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) add("gone", left[i++]);
      else add("new", right[j++]);
    }
    add("gone", left.slice(i).join(""));
    add("new", right.slice(j).join(""));
  }
  add("same", x.slice(x.length - end).join(""));
  return parts;
}

// Nodes of one side: what is only there is marked.
export function marked(parts, side) {
  const other = side === "gone" ? "new" : "gone";
  return parts
    .filter(([kind]) => kind !== other)
    .map(([kind, text]) => {
      if (kind === "same") return document.createTextNode(text);
      const node = document.createElement(side === "gone" ? "del" : "ins");
      node.textContent = text;
      return node;
    });
}
