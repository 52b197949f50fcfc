/** CompressionStream and DecompressionStream (Compression Standard). */
const through = async (stream, ...chunks) => {
  const w = stream.writable.getWriter();
  const pump = (async () => { for (const c of chunks) await w.write(c); await w.close(); })();
  pump.catch(() => {}); w.closed.catch(() => {});
  return new Uint8Array(await new Response(stream.readable).arrayBuffer());
};
const pack = (format, ...c) => through(new CompressionStream(format), ...c);
const unpack = (format, ...c) => through(new DecompressionStream(format), ...c);
const utf8 = (s) => new TextEncoder().encode(s);
const text = (b) => new TextDecoder().decode(b);
const hex = (s) => Uint8Array.from(s.match(/../g), (x) => parseInt(x, 16));
const gz = hex("1f8b0800000000000003cb48cdc9c95728cf2fca49e102002d3b08af0c000000");

export const cases = {
  "round trips": [async () => Promise.all(["gzip", "deflate", "deflate-raw"].map(async (f) => text(await unpack(f, await pack(f, utf8("hello ".repeat(100)))))).map(async (p) => (await p).length)), [600, 600, 600]],
  "gunzips what others packed": [async () => text(await unpack("gzip", gz)), "hello world\n"],
  "deflate header": [async () => { const b = await pack("deflate", utf8("abc")); return [b[0] & 15, (b[0] * 256 + b[1]) % 31]; }, [8, 0]],
  "gzip header": [async () => [...(await pack("gzip", utf8("abc"))).slice(0, 3)], [31, 139, 8]],
  "compresses": [async () => (await pack("gzip", utf8("a".repeat(100000)))).length < 400, true],
  "byte by byte": [async () => text(await unpack("gzip", ...Array.from(gz, (b) => new Uint8Array([b])))), "hello world\n"],
  "many chunks": [async () => text(await unpack("deflate", await pack("deflate", utf8("a"), utf8("b"), new Uint8Array(0), utf8("c")))), "abc"],
  "empty input": [async () => (await unpack("gzip", await pack("gzip"))).length, 0],
  "truncated": [(t) => t.error(unpack("gzip", gz.slice(0, 20))), "TypeError"],
  "truncated footer": [(t) => t.error(unpack("gzip", gz.slice(0, -1))), "TypeError"],
  "bad magic": [(t) => t.error(unpack("gzip", utf8("not gzip at all"))), "TypeError"],
  "bad checksum": [(t) => { const b = gz.slice(); b[b.length - 8] ^= 1; return t.error(unpack("gzip", b)); }, "TypeError"],
  "bad length": [(t) => { const b = gz.slice(); b[b.length - 1] ^= 1; return t.error(unpack("gzip", b)); }, "TypeError"],
  "trailing junk": [(t) => t.error(unpack("gzip", new Uint8Array([...gz, 0]))), "TypeError"],
  "trailing junk in deflate": [async (t) => t.error(unpack("deflate", new Uint8Array([...(await pack("deflate", utf8("x"))), 1]))), "TypeError"],
  "two gzip members": [(t) => t.error(unpack("gzip", new Uint8Array([...gz, ...gz])))],
  "empty to the decompressor": [(t) => t.error(unpack("gzip")), "TypeError"],
  "wrong format": [async (t) => t.error(unpack("deflate", await pack("gzip", utf8("x")))), "TypeError"],
  "bad formats": [(t) => t.each(["zip", "GZIP", "", undefined, "br"], (f) => typeof new CompressionStream(f))],
  "BufferSource chunks": [async () => text(await unpack("gzip", await pack("gzip", utf8("ab").buffer, new DataView(utf8("xcd").buffer, 1), new Uint16Array([0x6665])))), "abcdef"],
  "string chunks are refused": [(t) => t.error(pack("gzip", "str")), "TypeError"],
  "other chunks are refused": [async (t) => { const out = []; for (const x of [null, 1, {}, [1]]) out.push(await t.settled(pack("gzip", x))); return out; }, Array(4).fill("TypeError")],
  "large random data": [async () => { let x = 1; const b = Uint8Array.from({ length: 300000 }, () => (x = (x * 1103515245 + 12345) & 0x7fffffff) >> 16); const c = await unpack("deflate-raw", await pack("deflate-raw", b)); return c.length === b.length && c.every((v, i) => v === b[i]); }, true],
  "expands in pieces": [async () => { const small = await pack("gzip", new Uint8Array(2_000_000)); const s = new DecompressionStream("gzip"); const w = s.writable.getWriter(); w.write(small).then(() => w.close()); let n = 0; let pieces = 0; for await (const c of s.readable) { n += c.length; pieces++; } return [n, pieces > 1]; }],
  "pipeThrough a response": [async () => new Response(new Response("zip me".repeat(10)).body.pipeThrough(new CompressionStream("gzip")).pipeThrough(new DecompressionStream("gzip"))).text(), "zip me".repeat(10)],
  "tag": [() => Object.prototype.toString.call(new CompressionStream("gzip")), "[object CompressionStream]"],
};
