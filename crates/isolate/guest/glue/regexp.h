// The matcher of regular expressions: translates what libregexp's parser emits into a program that is quick to run, and runs it.
//
// Included by the patched libregexp.c (see xtask/src/quickjs/regexp.rs) in the place of its own matcher; `lre_compile` calls
// `rx_translate`, the engine calls `lre_exec` or `rx_exec`. It matches by backtracking as the original does and finds the same
// matches (tests compare the two), but
// - a class of characters is a table of bits, with the ranges above 255 behind it;
// - a repeated class runs in a loop and leaves one entry on the stack, not one per character, and none at all if what
//   follows cannot begin with a character of the class;
// - where a match can begin, and which of two ways can go on, is decided by the next character where possible;
// - 8-bit, 16-bit and UTF-16 subjects have a matcher each (regexp_run.h).
// There is no recursion: the stack is on the heap and counts as the isolate's memory. Steps are counted, and the count is a
// function of pattern and subject alone.

#ifdef __wasm_simd128__
#include <wasm_simd128.h>
#endif

enum {
    RX_MATCH,
    RX_CHAR1,      // u16
    RX_STRING,     // u8 length, u16 each
    RX_CHAR_FOLD,  // u8, u8: those of the characters below 256 that match; u32 the folded character
    RX_SET,        // u32 length, set
    RX_GREEDY,     // repetition: u8 flags, u32 least, u32 most, u32 length, set, [filter]
    RX_LAZY,       // the same
    RX_SPLIT_NEXT, // u32 target
    RX_SPLIT_GOTO, // u32 target
    RX_SPLIT_FILTER, // u32 target, u8 flags, filter of the next, filter of the target
    RX_GOTO,       // u32 target
    RX_SAVE,       // u16 index
    RX_RESET,      // u8 first group, u8 last group
    RX_COUNT,      // u8 register, u32 value
    RX_LOOP,       // u8 register, u32 target
    RX_LOOP_SPLIT, // u8 register, u8 flags, u32 limit, u32 target
    RX_POSITION,   // u8 register
    RX_ADVANCED,   // u8 register
    RX_START,
    RX_LINE_START,
    RX_END,
    RX_LINE_END,
    RX_BOUNDARY,   // u8 flags
    RX_BACK_CHAR,
    RX_REFERENCE,  // u8 flags, u8 count, u8 groups
    RX_LOOK,       // u32 target
    RX_LOOK_NOT,   // u32 target
    RX_LOOK_MATCH,
    RX_LOOK_NOT_MATCH,
};

// A set: 256 bits, then what holds above: one of these and its operands.
enum { RX_HIGH_NONE, RX_HIGH_ALL, RX_HIGH_DOT, RX_HIGH_SPACE, RX_HIGH_NOT_SPACE, RX_HIGH_CHAR, RX_HIGH_CHAR_FOLD,
       RX_HIGH_RANGES, RX_HIGH_RANGES_FOLD, RX_HIGH_WIDE_RANGES, RX_HIGH_WIDE_RANGES_FOLD };

// What can come first from some place on: 256 bits and flags. It may promise too much, never too little.
enum { RX_FILTER = 33, RX_FIRST_HIGH = 1, RX_FIRST_END = 2 };

// A program begins with its flags, the one character it can begin with, and the filter of its begin.
enum { RX_HAS_FIRST = 1, RX_ONE_CHAR = 2, RX_ANCHORED = 4, RX_CODE = 2 + RX_FILTER };

enum { RX_HAS_FILTER = 1, RX_KEEP_8 = 2, RX_KEEP_16 = 4, RX_REP_HEADER = 13 };                 // of a repetition
enum { RX_FILTER_NEXT = 1, RX_FILTER_GOTO = 2, RX_GOTO_FIRST = 4, RX_CHECK_ADVANCE = 8 };      // of a split
enum { RX_FOLD = 1, RX_NOT = 2, RX_BACKWARD = 4 };                                             // of a boundary or reference

#define RX_BIT(bits, c) ((bits)[(c) >> 3] >> ((c) & 7) & 1)
#define RX_NONE UINT32_MAX

// What lies on the stack: a change to undo, or a place to go on from (kind, below a place in the program or an index).
enum { RX_UNDO, RX_RESUME, RX_SHORTER, RX_LONGER, RX_LOOKING, RX_LOOKING_NOT };
typedef struct { uint32_t tag, a, b; } RxEntry;

typedef struct {
    const void *subject;
    uint32_t length;
    const uint8_t *code;
    uint32_t *cap;       // positions of groups, then registers
    uint32_t registers;  // where they begin
    bool is_unicode;
    bool once;           // at the start position only
    void *opaque;
    RxEntry *stack;
    size_t size, used;
    RxEntry initial[48];
} RxState;

// Steps until the next poll; it goes on from one match to the next, so that many short ones are counted too.
static int rx_budget = INTERRUPT_COUNTER_INIT;

static no_inline int rx_grow(RxState *s)
{
    size_t size = s->size * 2;
    bool first = s->stack == s->initial;
    if (size > (1u << 30) / sizeof(RxEntry))
        return -1;
    RxEntry *stack = lre_realloc(s->opaque, first ? NULL : s->stack, size * sizeof(RxEntry));
    if (!stack)
        return -1;
    if (first)
        memcpy(stack, s->initial, s->used * sizeof(RxEntry));
    s->stack = stack;
    s->size = size;
    return 0;
}

// Whether a set has a character above 255.
static no_inline bool rx_high(const uint8_t *high, uint32_t c, bool is_unicode)
{
    int kind = *high++;
    switch (kind) {
    case RX_HIGH_NONE:
        return false;
    case RX_HIGH_ALL:
        return true;
    case RX_HIGH_DOT:
        return c != CP_LS && c != CP_PS;
    case RX_HIGH_SPACE:
        return lre_is_space(c);
    case RX_HIGH_NOT_SPACE:
        return !lre_is_space(c);
    case RX_HIGH_CHAR:
        return c == get_u32(high);
    case RX_HIGH_CHAR_FOLD:
        return lre_canonicalize(c, is_unicode) == get_u32(high);
    }
    if (kind == RX_HIGH_RANGES_FOLD || kind == RX_HIGH_WIDE_RANGES_FOLD)
        c = lre_canonicalize(c, is_unicode);
    int least = 0, most = get_u16(high) - 1;
    bool wide = kind >= RX_HIGH_WIDE_RANGES;
    high += 2;
    // 0xffff at the very end stands for infinity.
    if (!wide && c > 0xffff)
        c = 0xffff;
    while (least <= most) {
        int i = (least + most) / 2;
        uint32_t low = wide ? get_u32(high + 8 * i) : get_u16(high + 4 * i), up = wide ? get_u32(high + 8 * i + 4) : get_u16(high + 4 * i + 2);
        if (c < low)
            most = i - 1;
        else if (c > up)
            least = i + 1;
        else
            return true;
    }
    return false;
}

static inline bool rx_is_word(uint32_t c, int fold)
{
    return c < 256 ? lre_is_word_byte(c) : fold && (c == 0x017f || c == 0x212a);
}

static inline const uint8_t *rx_find_8(const uint8_t *p, const uint8_t *end, uint32_t c)
{
#ifdef __wasm_simd128__
    const v128_t all = wasm_i8x16_splat(c);
    for (; end - p >= 16; p += 16) {
        uint32_t found = wasm_i8x16_bitmask(wasm_i8x16_eq(wasm_v128_load(p), all));
        if (found)
            return p + __builtin_ctz(found);
    }
#endif
    while (p < end && *p != c)
        p++;
    return p;
}

static inline const uint16_t *rx_find_16(const uint16_t *p, const uint16_t *end, uint32_t c)
{
#ifdef __wasm_simd128__
    const v128_t all = wasm_i16x8_splat(c);
    for (; end - p >= 8; p += 8) {
        uint32_t found = wasm_i16x8_bitmask(wasm_i16x8_eq(wasm_v128_load(p), all));
        if (found)
            return p + __builtin_ctz(found);
    }
#endif
    while (p < end && *p != c)
        p++;
    return p;
}

#define RX_RUN rx_run_8
#define RX_CHAR uint8_t
#define RX_MODE 0
#define RX_FIND rx_find_8
#include "regexp_run.h"

#define RX_RUN rx_run_16
#define RX_CHAR uint16_t
#define RX_MODE 1
#define RX_FIND rx_find_16
#include "regexp_run.h"

#define RX_RUN rx_run_utf16
#define RX_CHAR uint16_t
#define RX_MODE 2
#define RX_FIND rx_find_16
#include "regexp_run.h"

// Matches from `start` on, or there only if `sticky`; 1 and the positions (RX_NONE: not there) in `cap`, which has room for
// `lre_get_alloc_count`, or 0, or an error (LRE_RET_x).
int rx_exec(uint32_t *cap, const uint8_t *bc, const void *subject, uint32_t start, uint32_t length, bool wide, bool sticky, void *opaque)
{
    RxState state, *s = &state;
    int flags = lre_get_flags(bc), result;
    s->subject = subject;
    s->length = length;
    s->code = bc + RE_HEADER_LEN;
    s->cap = cap;
    s->registers = 2 * bc[RE_HEADER_CAPTURE_COUNT];
    s->is_unicode = (flags & (LRE_FLAG_UNICODE | LRE_FLAG_UNICODE_SETS)) != 0;
    s->once = sticky;
    s->opaque = opaque;
    s->stack = s->initial;
    s->size = countof(s->initial);
    for (uint32_t i = 0; i < s->registers; i++)
        cap[i] = RX_NONE;
    if (wide && s->is_unicode && 0 < start && start < length) {
        const uint16_t *p = subject;
        if (is_lo_surrogate(p[start]) && is_hi_surrogate(p[start - 1]))
            start--;
    }
    if (s->code[0] & RX_ANCHORED) {
        if (start > 0)
            return 0;
        s->once = true;
    }
    result = !wide ? rx_run_8(s, start) : !s->is_unicode ? rx_run_16(s, start) : rx_run_utf16(s, start);
    if (s->stack != s->initial)
        lre_realloc(opaque, s->stack, 0);
    return result;
}

int lre_exec(uint8_t **capture, const uint8_t *bc, const uint8_t *subject, int start, int length, int wide, void *opaque)
{
    uint32_t cap[2 * CAPTURE_COUNT_MAX + REGISTER_COUNT_MAX];
    int result = rx_exec(cap, bc, subject, start, length, wide, lre_get_flags(bc) & LRE_FLAG_STICKY, opaque);
    for (int i = 0; result == 1 && i < 2 * bc[RE_HEADER_CAPTURE_COUNT]; i++)
        capture[i] = cap[i] == RX_NONE ? NULL : (uint8_t *)subject + ((size_t)cap[i] << wide);
    return result;
}

//
// Translation
//

typedef struct {
    const uint8_t *in;   // what the parser emitted
    uint32_t n;
    bool is_unicode;
    DynBuf *out;
    uint32_t *map;       // place in `in` → place in `out`; the top bit marks targets of jumps
    DynBuf fixups;       // places in `out` that hold a place in `in`
} RxTranslation;

#define RX_TARGET 0x80000000u

static uint32_t rx_length(const uint8_t *op)
{
    uint32_t length = reopcode_info[*op].size;
    switch (*op) {
    case REOP_range:
    case REOP_range_i:
        return length + 4 * get_u16(op + 1);
    case REOP_range32:
    case REOP_range32_i:
        return length + 8 * get_u16(op + 1);
    case REOP_back_reference:
    case REOP_back_reference_i:
    case REOP_backward_back_reference:
    case REOP_backward_back_reference_i:
        return length + op[1];
    }
    return length;
}

// Whether an operation matches exactly one character.
static bool rx_is_class(int op)
{
    switch (op) {
    case REOP_char:
    case REOP_char_i:
    case REOP_char32:
    case REOP_char32_i:
    case REOP_dot:
    case REOP_any:
    case REOP_space:
    case REOP_not_space:
    case REOP_range:
    case REOP_range_i:
    case REOP_range32:
    case REOP_range32_i:
        return true;
    }
    return false;
}

// Where an operation may jump to; its own place without a jump.
static uint32_t rx_target(const RxTranslation *t, uint32_t at)
{
    const uint8_t *op = t->in + at;
    switch (*op) {
    case REOP_goto:
    case REOP_split_goto_first:
    case REOP_split_next_first:
    case REOP_lookahead:
    case REOP_negative_lookahead:
        return at + 5 + (int)get_u32(op + 1);
    case REOP_loop:
        return at + 6 + (int)get_u32(op + 2);
    case REOP_loop_split_goto_first:
    case REOP_loop_split_next_first:
    case REOP_loop_check_adv_split_goto_first:
    case REOP_loop_check_adv_split_next_first:
        return at + 10 + (int)get_u32(op + 6);
    }
    return at;
}

static void rx_fill(uint8_t *bits, uint32_t low, uint32_t up)
{
    if (up > 255)
        up = 255;
    for (; low <= up; low++) {
        if ((low & 7) == 0 && low + 7 <= up) {
            bits[low >> 3] = 0xff;
            low += 7;
        } else {
            bits[low >> 3] |= 1 << (low & 7);
        }
    }
}

// Folded forms of the characters below 256, which each class with the flag `i` needs. Made while the image is.
static uint16_t rx_folded[2][256];

void rx_prepare(void)
{
    for (int unicode = 0; unicode < 2; unicode++)
        for (uint32_t c = 0; c < 256; c++)
            rx_folded[unicode][c] = lre_canonicalize(c, unicode);
}

// Adds the characters below 256 that a class has to `bits`; whether it may have others.
static bool rx_class_bits(const RxTranslation *t, const uint8_t *op, uint8_t *bits)
{
    uint8_t plain[32] = { 0 };
    uint32_t n, i, c, up = 0;
    bool fold = false;
    switch (*op) {
    case REOP_char:
    case REOP_char32:
        c = *op == REOP_char ? get_u16(op + 1) : get_u32(op + 1);
        if (c < 256)
            rx_fill(bits, c, c);
        return c >= 256 && c != UINT32_MAX;
    case REOP_char_i:
    case REOP_char32_i:
        c = *op == REOP_char_i ? get_u16(op + 1) : get_u32(op + 1);
        for (i = 0; i < 256; i++)
            if (rx_folded[t->is_unicode][i] == c)
                rx_fill(bits, i, i);
        return c != UINT32_MAX;
    case REOP_dot:
        rx_fill(bits, 0, '\n' - 1);
        rx_fill(bits, '\n' + 1, '\r' - 1);
        rx_fill(bits, '\r' + 1, 255);
        return true;
    case REOP_any:
        rx_fill(bits, 0, 255);
        return true;
    case REOP_space:
    case REOP_not_space:
        for (i = 0; i < 256; i++)
            if (!lre_is_space_byte(i) == (*op == REOP_not_space))
                rx_fill(bits, i, i);
        return true;
    case REOP_range_i:
        fold = true;
        // fall through
    case REOP_range:
        n = get_u16(op + 1);
        for (i = 0; i < n && get_u16(op + 3 + 4 * i) < 256; i++)
            rx_fill(fold ? plain : bits, get_u16(op + 3 + 4 * i), get_u16(op + 5 + 4 * i));
        up = n ? get_u16(op + 5 + 4 * (n - 1)) : 0;
        break;
    case REOP_range32_i:
        fold = true;
        // fall through
    case REOP_range32:
        n = get_u16(op + 1);
        for (i = 0; i < n && get_u32(op + 3 + 8 * i) < 256; i++)
            rx_fill(fold ? plain : bits, get_u32(op + 3 + 8 * i), get_u32(op + 7 + 8 * i));
        up = 256;
        break;
    }
    if (!fold)
        return up >= 256;
    for (i = 0; i < 256; i++) {
        c = rx_folded[t->is_unicode][i];
        bool in = false;
        if (c < 256) {
            in = RX_BIT(plain, c);
        } else {
            uint32_t j, width = *op == REOP_range_i ? 4 : 8;
            for (j = 0; j < n && !in; j++) {
                const uint8_t *range = op + 3 + width * j;
                uint32_t low = width == 4 ? get_u16(range) : get_u32(range);
                up = width == 4 ? get_u16(range + 2) : get_u32(range + 4);
                if (low > c)
                    break;
                in = c <= up;
            }
        }
        if (in)
            rx_fill(bits, i, i);
    }
    return true;
}

static void rx_put_set(RxTranslation *t, const uint8_t *op)
{
    uint8_t bits[32] = { 0 };
    uint32_t n, i, c;
    rx_class_bits(t, op, bits);
    dbuf_put(t->out, bits, 32);
    switch (*op) {
    case REOP_char:
    case REOP_char32:
        c = *op == REOP_char ? get_u16(op + 1) : get_u32(op + 1);
        if (c < 256 || c == UINT32_MAX) {
            dbuf_putc(t->out, RX_HIGH_NONE);
            return;
        }
        dbuf_putc(t->out, RX_HIGH_CHAR);
        dbuf_put_u32(t->out, c);
        return;
    case REOP_char_i:
    case REOP_char32_i:
        dbuf_putc(t->out, RX_HIGH_CHAR_FOLD);
        dbuf_put_u32(t->out, *op == REOP_char_i ? get_u16(op + 1) : get_u32(op + 1));
        return;
    case REOP_dot:
        dbuf_putc(t->out, RX_HIGH_DOT);
        return;
    case REOP_any:
        dbuf_putc(t->out, RX_HIGH_ALL);
        return;
    case REOP_space:
        dbuf_putc(t->out, RX_HIGH_SPACE);
        return;
    case REOP_not_space:
        dbuf_putc(t->out, RX_HIGH_NOT_SPACE);
        return;
    case REOP_range:
    case REOP_range_i:
        n = get_u16(op + 1);
        i = 0;
        if (*op == REOP_range)
            while (i < n && get_u16(op + 5 + 4 * i) < 256)
                i++;
        if (i == n) {
            dbuf_putc(t->out, RX_HIGH_NONE);
        } else if (*op == REOP_range && get_u16(op + 3 + 4 * i) <= 256 && get_u16(op + 5 + 4 * i) == 0xffff) {
            dbuf_putc(t->out, RX_HIGH_ALL);
        } else {
            dbuf_putc(t->out, *op == REOP_range ? RX_HIGH_RANGES : RX_HIGH_RANGES_FOLD);
            dbuf_put_u16(t->out, n - i);
            dbuf_put(t->out, op + 3 + 4 * i, 4 * (n - i));
        }
        return;
    default:
        n = get_u16(op + 1);
        dbuf_putc(t->out, *op == REOP_range32 ? RX_HIGH_WIDE_RANGES : RX_HIGH_WIDE_RANGES_FOLD);
        dbuf_put_u16(t->out, n);
        dbuf_put(t->out, op + 3, 8 * n);
        return;
    }
}

// Adds to the filter what can come first from `at` on; false if that is unknown.
static bool rx_first(const RxTranslation *t, uint32_t at, uint8_t *filter, int *steps)
{
    while (--*steps > 0) {
        const uint8_t *op = t->in + at;
        if (rx_is_class(*op)) {
            if (rx_class_bits(t, op, filter))
                filter[32] |= RX_FIRST_HIGH;
            return true;
        }
        switch (*op) {
        case REOP_save_start:
        case REOP_save_end:
        case REOP_save_reset:
        case REOP_set_i32:
        case REOP_set_char_pos:
        case REOP_check_advance:
        case REOP_line_start:
        case REOP_line_start_m:
        case REOP_word_boundary:
        case REOP_word_boundary_i:
        case REOP_not_word_boundary:
        case REOP_not_word_boundary_i:
            // These look at most, and what they forbid only makes the filter promise too much.
            at += rx_length(op);
            break;
        case REOP_line_end_m:
            rx_fill(filter, '\n', '\n');
            rx_fill(filter, '\r', '\r');
            filter[32] |= RX_FIRST_HIGH | RX_FIRST_END;
            return true;
        case REOP_line_end:
            filter[32] |= RX_FIRST_END;
            return true;
        case REOP_goto:
        case REOP_lookahead:
        case REOP_negative_lookahead:
            at = rx_target(t, at);
            break;
        case REOP_split_goto_first:
        case REOP_split_next_first:
        case REOP_loop:
        case REOP_loop_split_goto_first:
        case REOP_loop_split_next_first:
        case REOP_loop_check_adv_split_goto_first:
        case REOP_loop_check_adv_split_next_first:
            if (!rx_first(t, rx_target(t, at), filter, steps))
                return false;
            at += rx_length(op);
            break;
        default:
            return false;
        }
    }
    return false;
}

// The filter from `at` on; false if there is none worth asking.
static bool rx_filter(const RxTranslation *t, uint32_t at, uint8_t *filter)
{
    int steps = 40;
    memset(filter, 0, RX_FILTER);
    if (!rx_first(t, at, filter, &steps))
        return false;
    for (int i = 0; i < 32; i++)
        if (filter[i] != 0xff)
            return true;
    return (filter[32] & (RX_FIRST_HIGH | RX_FIRST_END)) != (RX_FIRST_HIGH | RX_FIRST_END);
}

static void rx_put_target(RxTranslation *t, uint32_t at)
{
    dbuf_put_u32(&t->fixups, t->out->size);
    dbuf_put_u32(t->out, at);
}

// The class `op`, `least` to `most` times; `after` is what follows.
static void rx_put_repetition(RxTranslation *t, const uint8_t *op, bool greedy, uint32_t least, uint32_t most, uint32_t after)
{
    uint8_t filter[RX_FILTER], bits[32] = { 0 }, flags = 0;
    bool high = rx_class_bits(t, op, bits);
    if (rx_filter(t, after, filter)) {
        bool common = false;
        for (int i = 0; i < 32; i++)
            common |= (bits[i] & filter[i]) != 0;
        flags |= RX_HAS_FILTER;
        if (!common)
            flags |= RX_KEEP_8;
        if (!common && !(high && (filter[32] & RX_FIRST_HIGH)))
            flags |= RX_KEEP_16;
    }
    dbuf_putc(t->out, greedy ? RX_GREEDY : RX_LAZY);
    size_t rep = t->out->size;
    dbuf_putc(t->out, flags);
    dbuf_put_u32(t->out, least);
    dbuf_put_u32(t->out, most);
    dbuf_put_u32(t->out, 0);
    rx_put_set(t, op);
    if (flags & RX_HAS_FILTER)
        dbuf_put(t->out, filter, RX_FILTER);
    if (!dbuf_error(t->out))
        put_u32(t->out->buf + rep + 9, t->out->size - rep);
}

static bool rx_is_target(const RxTranslation *t, uint32_t at) { return (t->map[at] & RX_TARGET) != 0; }

// A counted loop around the class at `body`, whose counter is set to `count`: the place after it, or 0 if it is none.
static uint32_t rx_counted(const RxTranslation *t, uint32_t body, int reg, uint32_t count, bool *greedy, uint32_t *least)
{
    if (!rx_is_class(t->in[body]))
        return 0;
    uint32_t at = body + rx_length(t->in + body);
    const uint8_t *op = t->in + at;
    if (rx_is_target(t, at) || rx_target(t, at) != body || op[1] != reg)
        return 0;
    switch (*op) {
    case REOP_loop:
        *greedy = true;
        *least = count;
        return at + 6;
    case REOP_loop_split_goto_first:
    case REOP_loop_split_next_first:
        *greedy = *op == REOP_loop_split_goto_first;
        *least = count - get_u32(op + 2);
        return at + 10;
    }
    return 0;
}

// Translates a repetition that begins at `at`; the place after it, or 0 if there is none.
static uint32_t rx_repetition(RxTranslation *t, uint32_t at)
{
    const uint8_t *op = t->in + at;
    bool greedy;
    uint32_t after, least;
    switch (*op) {
    case REOP_split_goto_first:
    case REOP_split_next_first: {
        uint32_t body = at + 5, target = rx_target(t, at);
        greedy = *op == REOP_split_next_first;
        if (rx_is_target(t, body))
            return 0;
        if (rx_is_class(t->in[body])) {
            after = body + rx_length(t->in + body);
            if (target == after) {
                rx_put_repetition(t, t->in + body, greedy, 0, 1, after);
                return after;
            }
            if (t->in[after] != REOP_goto || rx_is_target(t, after) || rx_target(t, after) != at || target != after + 5)
                return 0;
            rx_put_repetition(t, t->in + body, greedy, 0, INT32_MAX, target);
            return target;
        }
        if (t->in[body] == REOP_set_i32) {
            bool inner;
            uint32_t count = get_u32(t->in + body + 2);
            after = rx_counted(t, body + 6, t->in[body + 1], count, &inner, &least);
            if (!after || after != target || least != 0 || inner != greedy)
                return 0;
            rx_put_repetition(t, t->in + body + 6, greedy, 0, count, after);
            return after;
        }
        return 0;
    }
    case REOP_set_i32: {
        uint32_t count = get_u32(op + 2);
        after = rx_counted(t, at + 6, op[1], count, &greedy, &least);
        if (after)
            rx_put_repetition(t, t->in + at + 6, greedy, least, count, after);
        return after;
    }
    }
    if (rx_is_class(*op)) {
        after = at + rx_length(op);
        if ((t->in[after] != REOP_split_goto_first && t->in[after] != REOP_split_next_first) || rx_is_target(t, after) ||
            rx_target(t, after) != at)
            return 0;
        rx_put_repetition(t, op, t->in[after] == REOP_split_goto_first, 1, INT32_MAX, after + 5);
        return after + 5;
    }
    return 0;
}

// Translates one class, or as many plain characters as there are in a row; the place after it.
static uint32_t rx_class(RxTranslation *t, uint32_t at)
{
    const uint8_t *op = t->in + at;
    if (*op == REOP_char && !(t->is_unicode && is_surrogate(get_u16(op + 1)))) {
        uint32_t n = 1;
        for (; n < 255; n++) {
            const uint8_t *next = op + 3 * n;
            if (*next != REOP_char || rx_is_target(t, at + 3 * n) || (t->is_unicode && is_surrogate(get_u16(next + 1))))
                break;
        }
        if (n == 1) {
            dbuf_putc(t->out, RX_CHAR1);
        } else {
            dbuf_putc(t->out, RX_STRING);
            dbuf_putc(t->out, n);
        }
        for (uint32_t i = 0; i < n; i++)
            dbuf_put_u16(t->out, get_u16(op + 3 * i + 1));
        return at + 3 * n;
    }
    if (*op == REOP_char_i) {
        uint32_t c = get_u16(op + 1), found[2] = { 0 }, n = 0;
        for (uint32_t i = 0; i < 256; i++)
            if (rx_folded[t->is_unicode][i] == c && n++ < 2)
                found[n - 1] = i;
        if (n == 1 || n == 2) {
            dbuf_putc(t->out, RX_CHAR_FOLD);
            dbuf_putc(t->out, found[0]);
            dbuf_putc(t->out, found[n - 1]);
            dbuf_put_u32(t->out, c);
            return at + 3;
        }
    }
    dbuf_putc(t->out, RX_SET);
    size_t length = t->out->size;
    dbuf_put_u32(t->out, 0);
    rx_put_set(t, op);
    if (!dbuf_error(t->out))
        put_u32(t->out->buf + length, t->out->size - length - 4);
    return at + rx_length(op);
}

static uint32_t rx_operation(RxTranslation *t, uint32_t at)
{
    const uint8_t *op = t->in + at;
    uint32_t after = rx_repetition(t, at);
    if (after)
        return after;
    if (rx_is_class(*op))
        return rx_class(t, at);
    after = at + rx_length(op);
    switch (*op) {
    case REOP_split_goto_first:
    case REOP_split_next_first: {
        uint8_t next[RX_FILTER], target[RX_FILTER];
        int flags = (rx_filter(t, after, next) ? RX_FILTER_NEXT : 0) | (rx_filter(t, rx_target(t, at), target) ? RX_FILTER_GOTO : 0);
        dbuf_putc(t->out, flags ? RX_SPLIT_FILTER : *op == REOP_split_goto_first ? RX_SPLIT_GOTO : RX_SPLIT_NEXT);
        rx_put_target(t, rx_target(t, at));
        if (flags) {
            dbuf_putc(t->out, flags | (*op == REOP_split_goto_first ? RX_GOTO_FIRST : 0));
            dbuf_put(t->out, next, RX_FILTER);
            dbuf_put(t->out, target, RX_FILTER);
        }
        break;
    }
    case REOP_goto:
        dbuf_putc(t->out, RX_GOTO);
        rx_put_target(t, rx_target(t, at));
        break;
    case REOP_match:
        dbuf_putc(t->out, RX_MATCH);
        break;
    case REOP_save_start:
    case REOP_save_end:
        // The whole match is known without.
        if (op[1] == 0)
            break;
        dbuf_putc(t->out, RX_SAVE);
        dbuf_put_u16(t->out, 2 * op[1] + (*op == REOP_save_end));
        break;
    case REOP_save_reset:
        dbuf_putc(t->out, RX_RESET);
        dbuf_put(t->out, op + 1, 2);
        break;
    case REOP_set_i32:
        dbuf_putc(t->out, RX_COUNT);
        dbuf_put(t->out, op + 1, 5);
        break;
    case REOP_loop:
        dbuf_putc(t->out, RX_LOOP);
        dbuf_putc(t->out, op[1]);
        rx_put_target(t, rx_target(t, at));
        break;
    case REOP_loop_split_goto_first:
    case REOP_loop_split_next_first:
    case REOP_loop_check_adv_split_goto_first:
    case REOP_loop_check_adv_split_next_first:
        dbuf_putc(t->out, RX_LOOP_SPLIT);
        dbuf_putc(t->out, op[1]);
        dbuf_putc(t->out, (*op == REOP_loop_split_goto_first || *op == REOP_loop_check_adv_split_goto_first ? RX_GOTO_FIRST : 0) |
                              (*op >= REOP_loop_check_adv_split_goto_first ? RX_CHECK_ADVANCE : 0));
        dbuf_put(t->out, op + 2, 4);
        rx_put_target(t, rx_target(t, at));
        break;
    case REOP_set_char_pos:
        dbuf_putc(t->out, RX_POSITION);
        dbuf_putc(t->out, op[1]);
        break;
    case REOP_check_advance:
        dbuf_putc(t->out, RX_ADVANCED);
        dbuf_putc(t->out, op[1]);
        break;
    case REOP_line_start:
        dbuf_putc(t->out, RX_START);
        break;
    case REOP_line_start_m:
        dbuf_putc(t->out, RX_LINE_START);
        break;
    case REOP_line_end:
        dbuf_putc(t->out, RX_END);
        break;
    case REOP_line_end_m:
        dbuf_putc(t->out, RX_LINE_END);
        break;
    case REOP_word_boundary:
    case REOP_word_boundary_i:
    case REOP_not_word_boundary:
    case REOP_not_word_boundary_i:
        dbuf_putc(t->out, RX_BOUNDARY);
        dbuf_putc(t->out, (*op == REOP_word_boundary_i || *op == REOP_not_word_boundary_i ? RX_FOLD : 0) |
                              (*op == REOP_not_word_boundary || *op == REOP_not_word_boundary_i ? RX_NOT : 0));
        break;
    case REOP_prev:
        dbuf_putc(t->out, RX_BACK_CHAR);
        break;
    case REOP_back_reference:
    case REOP_back_reference_i:
    case REOP_backward_back_reference:
    case REOP_backward_back_reference_i:
        dbuf_putc(t->out, RX_REFERENCE);
        dbuf_putc(t->out, (*op == REOP_back_reference_i || *op == REOP_backward_back_reference_i ? RX_FOLD : 0) |
                              (*op >= REOP_backward_back_reference ? RX_BACKWARD : 0));
        dbuf_put(t->out, op + 1, 1 + op[1]);
        break;
    case REOP_lookahead:
    case REOP_negative_lookahead:
        dbuf_putc(t->out, *op == REOP_lookahead ? RX_LOOK : RX_LOOK_NOT);
        rx_put_target(t, rx_target(t, at));
        break;
    case REOP_lookahead_match:
        dbuf_putc(t->out, RX_LOOK_MATCH);
        break;
    case REOP_negative_lookahead_match:
        dbuf_putc(t->out, RX_LOOK_NOT_MATCH);
        break;
    }
    return after;
}

// Replaces what follows the header in `code` by its translation. Returns < 0 without memory.
static int rx_translate(DynBuf *code, bool is_unicode, bool is_sticky, void *opaque)
{
    DynBuf out;
    RxTranslation t = { .in = code->buf + RE_HEADER_LEN, .n = code->size - RE_HEADER_LEN, .is_unicode = is_unicode, .out = &out };
    uint8_t filter[RX_FILTER];
    int result = -1;
    if (!rx_folded[0]['a'])
        rx_prepare();
    dbuf_init2(&out, opaque, lre_bytecode_realloc);
    dbuf_init2(&t.fixups, opaque, lre_bytecode_realloc);
    t.map = lre_bytecode_realloc(opaque, NULL, (t.n + 1) * sizeof(*t.map));
    if (!t.map)
        return -1;
    memset(t.map, 0, (t.n + 1) * sizeof(*t.map));
    // The loop that tries each position is not part of the program.
    uint32_t begin = is_sticky ? 0 : 11, at;
    for (at = begin; at < t.n; at += rx_length(t.in + at))
        if (rx_target(&t, at) != at)
            t.map[rx_target(&t, at)] |= RX_TARGET;

    int flags = rx_filter(&t, begin, filter) ? RX_HAS_FIRST : 0, only = 0, bits = 0;
    for (int c = 0; c < 256; c++)
        if (RX_BIT(filter, c))
            only = c, bits++;
    if (flags && bits == 1 && filter[32] == 0)
        flags |= RX_ONE_CHAR;
    at = begin;
    while (t.in[at] == REOP_save_start)
        at += 2;
    if (t.in[at] == REOP_line_start)
        flags |= RX_ANCHORED;
    dbuf_putc(&out, flags);
    dbuf_putc(&out, only);
    dbuf_put(&out, filter, RX_FILTER);

    for (at = begin; at < t.n && !dbuf_error(&out);) {
        t.map[at] = (t.map[at] & RX_TARGET) | out.size;
        at = rx_operation(&t, at);
    }
    if (dbuf_error(&out) || dbuf_error(&t.fixups))
        goto done;
    for (uint32_t i = 0; i < t.fixups.size; i += 4) {
        uint8_t *place = out.buf + get_u32(t.fixups.buf + i);
        put_u32(place, t.map[get_u32(place)] & ~RX_TARGET);
    }
    code->size = RE_HEADER_LEN;
    if (dbuf_put(code, out.buf, out.size))
        goto done;
    result = 0;
done:
    lre_realloc(opaque, t.map, 0);
    dbuf_free(&t.fixups);
    dbuf_free(&out);
    return result;
}
