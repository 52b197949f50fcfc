// Memory primitives that the C library of wasi implements byte by byte: here they go by words or vectors.
//
// Included once, by guest.c; the linker takes these definitions instead of the library's. `memcpy`, `memmove` and `memset` are not here:
// with bulk memory they are instructions.

#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

// Unrolled by hand on purpose: were the loops recognised as a comparison of memory, they would call themselves.
__attribute__((no_builtin("memcmp", "bcmp"))) int memcmp(const void *left, const void *right, size_t n)
{
    const uint8_t *l = left, *r = right;
    while (n >= 16) {
        uint32_t same = wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(l), wasm_v128_load(r)));
        if (same != 0xffff) {
            uint32_t at = __builtin_ctz(~same);
            return l[at] - r[at];
        }
        l += 16, r += 16, n -= 16;
    }
    if (n >= 8) {
        uint64_t a, b;
        __builtin_memcpy(&a, l, 8);
        __builtin_memcpy(&b, r, 8);
        if (a != b) {
            uint32_t at = __builtin_ctzll(a ^ b) / 8;
            return l[at] - r[at];
        }
        l += 8, r += 8, n -= 8;
    }
    for (; n; l++, r++, n--)
        if (*l != *r)
            return *l - *r;
    return 0;
}
