/** Regular expressions over log lines: match with groups, global replace, split, test. */
const lines = Array.from({ length: 600 }, (_, i) =>
  `2026-0${1 + (i % 9)}-${10 + (i % 19)}T12:${10 + (i % 49)}:00Z [${["info", "warn", "error"][i % 3]}] user${i}@example.com GET /api/v1/items/${i}?page=${i % 7} ${i % 2 ? 200 : 404} ${i * 3}ms`);

export function run() {
  let sum = 0;
  for (let round = 0; round < 12; round++) {
    for (const line of lines) {
      const m = /^(\d{4})-(\d\d)-(\d\d)T[\d:]+Z \[(\w+)\] (\S+)@(\S+) (GET|POST) (\/[^ ?]*)(?:\?(\S*))? (\d{3}) (\d+)ms$/.exec(line);
      sum += Number(m[10]) + m[8].length;
      if (/error|warn/i.test(line)) sum++;
      sum += line.replace(/\d+/g, "#").length;
      sum += line.split(/[\s/?=]+/).length;
    }
  }
  return sum;
}
