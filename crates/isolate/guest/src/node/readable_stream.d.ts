/** The package ships no types; stream.ts states what it relies on. */
declare module "readable-stream/lib/stream.js" {
  const stream: unknown;
  export default stream;
}

declare module "punycode/punycode.js" {
  const punycode: object;
  export default punycode;
}
