/** Sorting: numbers with a comparator, objects by a string key, strings by default order. */
function numbers(n) {
  let x = 42;
  return Array.from({ length: n }, () => (x = (x * 1664525 + 1013904223) % 4294967296));
}

export function run() {
  const plain = numbers(60_000).sort((a, b) => a - b);
  const people = numbers(15_000).map((n) => ({ name: `n${n % 9973}`, n })).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.n - b.n));
  const words = numbers(20_000).map((n) => n.toString(36)).sort();
  return plain[100] + people[77].n + words[5000].length;
}
