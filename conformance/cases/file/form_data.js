/** FormData (XHR §4) and multipart/form-data both ways. */
const wire = async (fill, boundary) => {
  const f = new FormData(); fill(f);
  const r = new Response(f);
  const b = /boundary="?([^"]+)"?/.exec(r.headers.get("content-type"))[1];
  return (await r.text()).replaceAll(b, "BOUNDARY");
};
const parse = (body, type = "multipart/form-data; boundary=B") => new Response(body, { headers: { "content-type": type } }).formData();
const list = async (f) => { const out = []; for (const [k, v] of await f) out.push(typeof v === "string" ? [k, v] : [k, v.name, v.type, await v.text()]); return out; };

export const cases = {
  "append, get, getAll, has, delete": [() => { const f = new FormData(); f.append("a", "1"); f.append("a", 2); f.append("b", null); const x = [f.get("a"), f.getAll("a"), f.get("b"), f.has("a"), f.get("z"), f.getAll("z")]; f.delete("a"); return [x, [...f.keys()]]; }, [["1", ["1", "2"], "null", true, null, []], ["b"]]],
  "set keeps the place": [() => { const f = new FormData(); f.append("a", "1"); f.append("b", "2"); f.append("a", "3"); f.set("a", "4"); f.set("c", "5"); return [...f]; }, [["a", "4"], ["b", "2"], ["c", "5"]]],
  "Blob becomes File": [async () => { const f = new FormData(); f.append("x", new Blob(["b"], { type: "t/p" })); const g = f.get("x"); return [g instanceof File, g.name, g.type, await g.text()]; }, [true, "blob", "t/p", "b"]],
  "filename argument": [() => { const f = new FormData(); f.append("x", new Blob([]), "n.txt"); f.append("x", new File([], "old"), "new"); return f.getAll("x").map((v) => v.name); }, ["n.txt", "new"]],
  "filename with a string value": [(t) => t.error(() => new FormData().append("x", "str", "n")), "TypeError"],
  "argument counts": [(t) => { const f = new FormData(); return [t.error(() => f.append("a")), t.error(() => f.set("a")), t.error(() => f.get()), t.error(() => FormData())]; }, Array(4).fill("TypeError")],
  "a form argument is refused": [(t) => [t.error(() => new FormData({})), t.error(() => [...new FormData(undefined)])]],
  "iteration": [() => { const f = new FormData(); f.append("a", "1"); f.append("b", "2"); const e = []; f.forEach((v, k) => e.push(k + v)); return [[...f.entries()], [...f.values()], e, f.entries()[Symbol.iterator] !== undefined]; }],
  "encodes fields": [() => wire((f) => { f.append("a", "1"); f.append("é", "ü"); }), '--BOUNDARY\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--BOUNDARY\r\nContent-Disposition: form-data; name="é"\r\n\r\nü\r\n--BOUNDARY--\r\n'],
  "encodes files": [() => wire((f) => f.append("f", new File(["x"], "n.bin", { type: "a/b" })))],
  "file without type": [() => wire((f) => f.append("f", new File(["x"], "n")))],
  "escapes names": [() => wire((f) => { f.append('q"\r\n%', "v"); f.append("f", new File([], 'a"\nb')); })],
  "newlines in values": [() => wire((f) => f.append("a", "x\ny\rz\r\n"))],
  "empty form": [() => wire(() => {})],
  "parses fields and files": [() => list(parse('--B\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n--B\r\ncontent-disposition: form-data; name="f"; filename="x.txt"\r\ncontent-type: text/css\r\n\r\nbody{}\r\n--B--\r\n')), [["a", "one"], ["f", "x.txt", "text/css", "body{}"]]],
  "file without content type": [() => list(parse('--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nz\r\n--B--'))],
  "preamble and epilogue": [(t) => t.error(list(parse('pre\r\n--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B--\r\nepilogue')))],
  "quotes decoded": [() => list(parse('--B\r\nContent-Disposition: form-data; name="a%22%0D%0Ab"\r\n\r\n1\r\n--B--'))],
  "unquoted name": [(t) => t.error(list(parse("--B\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--B--")))],
  "missing final boundary": [(t) => t.error(list(parse('--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'))), "TypeError"],
  "missing name": [(t) => t.error(list(parse("--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--")))],
  "missing disposition": [(t) => t.error(list(parse("--B\r\nContent-Type: a/b\r\n\r\n1\r\n--B--")))],
  "line feeds only": [(t) => t.error(list(parse('--B\nContent-Disposition: form-data; name="a"\n\n1\n--B--\n')))],
  "no boundary parameter": [(t) => t.error(list(parse("--B--", "multipart/form-data"))), "TypeError"],
  "boundary inside the value": [() => list(parse('--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx--By --B\r\n--B--\r\n')), [["a", "x--By --B"]]],
  "empty multipart": [(t) => t.error(list(parse("--B--\r\n")))],
  "wholly empty body": [(t) => t.error(list(parse("")))],
  "binary content survives": [async () => { const f = new FormData(); const bytes = Uint8Array.from({ length: 256 }, (_, i) => i); f.append("f", new File([bytes], "b")); const g = (await new Response(f).formData()).get("f"); return new Uint8Array(await g.arrayBuffer()); }],
  "round trip of unicode names": [() => { const f = new FormData(); f.append("ключ", "значение"); f.append("f", new File(["x"], "файл.txt", { type: "text/plain" })); return list(new Response(f).formData()); }, [["ключ", "значение"], ["f", "файл.txt", "text/plain", "x"]]],
  "urlencoded parse": [() => list(parse("a=1&b=%C3%A9+x&a=2&&=e", "application/x-www-form-urlencoded; charset=utf-8")), [["a", "1"], ["b", "é x"], ["a", "2"], ["", "e"]]],
  "type is compared without case": [() => list(parse("a=1", "Application/X-WWW-Form-URLEncoded")), [["a", "1"]]],
  "tag": [() => Object.prototype.toString.call(new FormData()), "[object FormData]"],
  "lone surrogates": [() => { const f = new FormData(); f.append("\ud800", "\udc00"); return [...f]; }, [["\ufffd", "\ufffd"]]],
  "thousand fields round trip": [async () => { const f = new FormData(); for (let i = 0; i < 1000; i++) f.append("k" + i, "v".repeat(i % 50)); const g = await new Response(f).formData(); return [[...g].length, g.get("k999").length]; }, [1000, 49]],
};
