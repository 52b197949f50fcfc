/**
 * Looking through bytes sixteen at a time. Included by the engine (see xtask/src/quickjs/data.rs). Reads nothing beyond
 * the end that it is given.
 */

#ifdef __wasm_simd128__
#include <wasm_simd128.h>

// One bit for each of 16 bytes: those that a JSON text cannot hold inside a string as they are.
static inline uint32_t skep_json_specials(v128_t v)
{
    v128_t m = wasm_v128_or(wasm_i8x16_eq(v, wasm_i8x16_splat('"')), wasm_i8x16_eq(v, wasm_i8x16_splat('\\')));
    return wasm_i8x16_bitmask(wasm_v128_or(m, wasm_u8x16_lt(v, wasm_i8x16_splat(0x20))));
}
#endif

// The first byte at or after `p` that is a quote, a backslash or a control character; `end` when there is none.
static inline const uint8_t *skep_find_special(const uint8_t *p, const uint8_t *end)
{
#ifdef __wasm_simd128__
    for (; end - p >= 16; p += 16) {
        uint32_t mask = skep_json_specials(wasm_v128_load(p));
        if (mask)
            return p + __builtin_ctz(mask);
    }
#endif
    while (p < end && *p != '"' && *p != '\\' && *p >= 0x20)
        p++;
    return p;
}

// The first `c` at or after `p`; `end` when there is none.
static inline const uint8_t *skep_find_byte(const uint8_t *p, const uint8_t *end, uint8_t c)
{
#ifdef __wasm_simd128__
    v128_t wanted = wasm_i8x16_splat(c);
    for (; end - p >= 16; p += 16) {
        uint32_t mask = wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(p), wanted));
        if (mask)
            return p + __builtin_ctz(mask);
    }
#endif
    while (p < end && *p != c)
        p++;
    return p;
}
