/** Building strings: concatenation, joins, templates, slices, character codes. */
const escape = (s) => s.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

export function run() {
  let html = "";
  for (let i = 0; i < 25_000; i++) html += `<li class="item-${i % 10}" data-id="${i}">${escape(`Item <${i}> & "co"`)}</li>\n`;
  let hash = 0;
  for (let i = 0; i < html.length; i += 3) hash = (hash * 31 + html.charCodeAt(i)) | 0;
  const parts = [];
  for (let at = 0, end; (end = html.indexOf("\n", at)) >= 0; at = end + 1) parts.push(html.slice(at + 4, end - 5).toUpperCase());
  return hash + parts.join("|").length;
}
