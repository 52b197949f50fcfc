/**
 * Hashing of strings: eight characters at a time, and remembered in the string.
 *
 * Included by the engine where its own hash functions stood (see xtask/src/quickjs/data.rs). A string of 8-bit and one
 * of 16-bit characters with the same text have the same hash. The hash is not secret: who floods a table with colliding
 * keys spends the time of their own isolate, which ends at its CPU limit like any other loop.
 */

#define SKEP_HASH_K 0x9E3779B97F4A7C15ull

static inline uint64_t skep_load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint32_t skep_load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline uint64_t skep_hash_mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * SKEP_HASH_K;
    return h ^ (h >> 32);
}

// The last 1 to 7 characters as one word.
static inline uint64_t skep_hash_tail(const uint8_t *s, size_t n)
{
    if (n >= 4)
        return skep_load32(s) | (uint64_t)skep_load32(s + n - 4) << 32;
    return s[0] | (uint32_t)s[n / 2] << 8 | (uint32_t)s[n - 1] << 16;
}

static inline uint32_t skep_hash_end(uint64_t h)
{
    h *= SKEP_HASH_K;
    return h >> 32;
}

static inline uint32_t hash_string8(const uint8_t *s, size_t n, uint32_t seed)
{
    uint64_t h = ((uint64_t)n << 32) ^ seed;
    for (; n >= 8; n -= 8, s += 8)
        h = skep_hash_mix(h, skep_load64(s));
    return skep_hash_end(n ? skep_hash_mix(h, skep_hash_tail(s, n)) : h);
}

static uint32_t hash_string16(const uint16_t *s, size_t n, uint32_t seed)
{
    uint64_t h = ((uint64_t)n << 32) ^ seed;
    while (n) {
        size_t block = n < 8 ? n : 8;
        uint16_t wide = 0;
        uint8_t narrow[8];
        for (size_t i = 0; i < block; i++) {
            wide |= s[i];
            narrow[i] = s[i];
        }
        h = skep_hash_mix(h, block == 8 ? skep_load64(narrow) : skep_hash_tail(narrow, block));
        if (wide > 0xff) {
            for (size_t i = 0; i < block; i++)
                narrow[i] = s[i] >> 8;
            h = skep_hash_mix(h, block == 8 ? skep_load64(narrow) : skep_hash_tail(narrow, block));
        }
        s += block;
        n -= block;
    }
    return skep_hash_end(h);
}

// As an atom's hash (28 bits). Strings remember it; a string that grows in place forgets it (JS_ConcatString2).
static inline uint32_t skep_string_hash(JSString *p)
{
    if (p->hash && p->atom_type <= JS_ATOM_TYPE_STRING)
        return p->hash;
    uint32_t h = p->is_wide_char ? hash_string16(str16(p), p->len, JS_ATOM_TYPE_STRING) : hash_string8(str8(p), p->len, JS_ATOM_TYPE_STRING);
    h &= JS_ATOM_HASH_MASK;
    // Not in strings of the image: writing there would cost the isolate a page.
    if (!p->atom_type && (uintptr_t)p >= skep_image_end)
        p->hash = h;
    return h;
}

static uint32_t hash_string(JSString *p, uint32_t seed)
{
    if (seed == JS_ATOM_TYPE_STRING)
        return skep_string_hash(p);
    return p->is_wide_char ? hash_string16(str16(p), p->len, seed) : hash_string8(str8(p), p->len, seed);
}
