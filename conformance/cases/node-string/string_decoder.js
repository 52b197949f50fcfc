/** node:string_decoder. */
import { StringDecoder } from "node:string_decoder";
const feed = (enc, ...chunks) => { const d = new StringDecoder(enc); return [...chunks.map((c) => d.write(Buffer.from(c))), d.end()]; };

export const cases = {
  "UTF-8 split": [() => feed("utf8", [0xe2], [0x82], [0xac], [0xf0, 0x9f], [0x98, 0x80, 97]), ["", "", "€", "", "😀a", ""]],
  "UTF-8 cut at the end": [() => feed("utf8", [97, 0xe2, 0x82]), ["a", "\ufffd"]],
  "UTF-8 broken sequence": [() => feed("utf8", [0xe2, 0x41], [0xff], [0xc3], [0xc3, 0xa9])],
  "UTF-16 split and surrogates": [() => feed("utf16le", [0x3d], [0xd8, 0x00], [0xde, 0x61, 0x00])],
  "base64 groups": [() => feed("base64", [1], [2, 3], [4]), ["", "AQID", "", "BA=="]],
  "hex and latin1": [() => [feed("hex", [1, 255]), feed("latin1", [0xe9]), feed("ascii", [0xe9])]],
  "base64url": [(t) => t.error(() => feed("base64url", [251, 255], [1]))],
  "end with bytes and reuse": [() => { const d = new StringDecoder("utf8"); const a = d.end(Buffer.from([0xe2, 0x82])); return [a, d.write(Buffer.from([0xac])), d.end()]; }],
  "encoding property": [(t) => [new StringDecoder().encoding, new StringDecoder("UCS2").encoding, t.error(() => new StringDecoder("nope"))], ["utf8", "utf16le", "TypeError[ERR_UNKNOWN_ENCODING]"]],
  "strings pass": [(t) => [new StringDecoder().write("str"), t.error(() => new StringDecoder().write(5))], ["str", "TypeError[ERR_INVALID_ARG_TYPE]"]],
  "Uint8Array and DataView": [() => [new StringDecoder().write(new Uint8Array([97])), new StringDecoder().write(new DataView(new Uint8Array([98]).buffer))], ["a", "b"]],
};
