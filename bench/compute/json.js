/** JSON there and back: a list of records as an API would send it. */
const records = Array.from({ length: 400 }, (_, i) => ({
  id: i, name: `user ${i}`, email: `user${i}@example.com`, active: i % 3 === 0, score: i * 1.25, tags: ["alpha", "beta", `tag-${i % 17}`],
  address: { street: `${i} Main Street`, city: "Springfield", location: { lat: 51.5 + i / 1000, lon: -0.12 } }, note: i % 5 ? null : "a \"quoted\" note\nwith lines",
}));

export function run() {
  let text = "";
  let sum = 0;
  for (let i = 0; i < 40; i++) {
    text = JSON.stringify(records);
    const back = JSON.parse(text);
    sum += back[i].score + back.length;
  }
  return text.length + sum;
}
