/** Map with string and integer keys: count, look up, delete. */
export function run() {
  const counts = new Map();
  for (let i = 0; i < 300_000; i++) {
    const key = `key${(i * 7919) % 5000}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const numbers = new Map();
  for (let i = 0; i < 200_000; i++) numbers.set(i & 8191, i);
  let sum = 0;
  for (const [key, n] of counts) if (key.length & 1) sum += n;
  for (let i = 0; i < 8192; i += 2) numbers.delete(i);
  for (const n of numbers.values()) sum = (sum + n) | 0;
  return sum + counts.size + numbers.size;
}
