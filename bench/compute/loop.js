/** Integer arithmetic in a loop: a xorshift generator with a running checksum. */
export function run() {
  let x = 123456789;
  let sum = 0;
  for (let i = 0; i < 2_000_000; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    sum = (sum + (x & 0xffff)) | 0;
  }
  return sum;
}
