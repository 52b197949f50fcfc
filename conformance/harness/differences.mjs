/**
 * The list of known differences: rows `| case | ours | workerd | reason |` of docs/differences.md. A row holds only as long as both
 * runtimes still answer what it says, so that nothing rots there.
 */
import { existsSync, readFileSync } from "node:fs";

const limit = 120;

/** A record as it stands in a cell: one line, no bars, cut at a fixed length. */
export function cell(recorded) {
  const text = JSON.stringify(recorded).replaceAll("|", "¦").replaceAll("`", "´");
  return "`" + (text.length > limit ? `${text.slice(0, limit)}…` : text) + "`";
}

/** Rows by case id. */
export function readDifferences(file) {
  if (!existsSync(file)) return new Map();
  const rows = readFileSync(file, "utf8").split("\n").filter((line) => /^\| `?[\w-]+\/[\w-]+\//.test(line));
  return new Map(rows.map((line) => {
    const [id, ours, workerd, reason] = line.split("|").slice(1, 5).map((part) => part.trim());
    return [id.replaceAll("`", ""), { ours, workerd, reason }];
  }));
}
