// The matcher itself, once for each width of a subject's characters. Included by regexp.h, which defines
//   RX_RUN   the function's name
//   RX_CHAR  a code unit
//   RX_MODE  0: 8 bits, 1: 16 bits, 2: 16 bits read as UTF-16
// and holds everything that does not depend on them.

#if RX_MODE == 2
#define RX_IS_UNICODE 1
#define RX_NEXT(c, p) do { (c) = *(p)++; if (is_hi_surrogate(c) && (p) < end && is_lo_surrogate(*(p))) (c) = from_surrogate(c, *(p)++); } while (0)
#define RX_BACK(p, start) do { (p)--; if (is_lo_surrogate(*(p)) && (p) > (start) && is_hi_surrogate((p)[-1])) (p)--; } while (0)
#else
#define RX_IS_UNICODE s->is_unicode
#define RX_NEXT(c, p) ((c) = *(p)++)
#define RX_BACK(p, start) ((p)--)
#endif
#if RX_MODE == 0
#define RX_IN(set, c) RX_BIT(set, c)
#define RX_MAYBE(f, p) ((p) < end ? RX_BIT(f, *(p)) : ((f)[32] & RX_FIRST_END))
#else
#define RX_IN(set, c) ((c) < 256 ? RX_BIT(set, c) : rx_high((set) + 32, c, RX_IS_UNICODE))
#define RX_MAYBE(f, p) ((p) < end ? (*(p) < 256 ? RX_BIT(f, *(p)) : ((f)[32] & RX_FIRST_HIGH)) : ((f)[32] & RX_FIRST_END))
#endif

#define RX_PUSH(kind, what, first, second)                    \
    do {                                                      \
        if (unlikely(sp == limit)) {                          \
            s->used = sp - s->stack;                          \
            if (rx_grow(s))                                   \
                return LRE_RET_MEMORY_ERROR;                  \
            sp = s->stack + s->used;                          \
            limit = s->stack + s->size;                       \
        }                                                     \
        sp->tag = (uint32_t)(what) << 3 | (kind);             \
        sp->a = (first);                                      \
        sp->b = (second);                                     \
        sp++;                                                 \
    } while (0)
#define RX_CHARGE(n)                                          \
    do {                                                      \
        if (unlikely((rx_budget -= (int)(n)) <= 0)) {         \
            rx_budget = INTERRUPT_COUNTER_INIT;               \
            if (lre_check_timeout(s->opaque))                 \
                return LRE_RET_TIMEOUT;                       \
        }                                                     \
    } while (0)
// Sets a register. Its old value need not be kept twice since the last choice; only a few places are looked at.
#define RX_SET_REGISTER(index, value)                                                  \
    do {                                                                               \
        const RxEntry *e = sp, *last = sp - s->stack > 8 ? sp - 8 : s->stack;          \
        while (e > last && (e[-1].tag & 7) == RX_UNDO && e[-1].tag >> 3 != (index))    \
            e--;                                                                       \
        if (e == last || (e[-1].tag & 7) != RX_UNDO)                                   \
            RX_PUSH(RX_UNDO, index, cap[index], 0);                                    \
        cap[index] = (value);                                                          \
    } while (0)

static int RX_RUN(RxState *s, uint32_t start)
{
    const RX_CHAR *const base = s->subject, *const end = base + s->length, *p = base + start, *at = p;
    const uint8_t *const code = s->code, *pc;
    uint32_t *const cap = s->cap;
    RxEntry *sp = s->stack, *limit = s->stack + s->size;
    uint32_t inner = RX_NONE, c, n;

    goto first;

next_start:
    // Every entry is undone: the captures are as before the attempt.
    if (s->once || at >= end)
        return 0;
    p = at;
    RX_NEXT(c, p);
    at = p;
first:
    if (!s->once && (code[0] & RX_HAS_FIRST)) {
        const RX_CHAR *from = at;
        if (code[0] & RX_ONE_CHAR) {
            at = RX_FIND(at, end, code[1]);
            if (at == end)
                return 0;
        } else {
            const uint8_t *f = code + 2;
            while (!RX_MAYBE(f, at)) {
                if (at >= end)
                    return 0;
                RX_NEXT(c, at);
            }
        }
        RX_CHARGE((at - from) / 32);
    }
    p = at;
    pc = code + RX_CODE;
    cap[0] = at - base;
    RX_CHARGE(1);

    for (;;) {
        switch (*pc++) {
        case RX_MATCH:
            cap[1] = p - base;
            return 1;

        case RX_CHAR1:
            if (p >= end || *p != get_u16(pc))
                goto fail;
            p++, pc += 2;
            break;
        case RX_STRING:
            n = *pc++;
            if ((size_t)(end - p) < n)
                goto fail;
            for (; n; n--, p++, pc += 2)
                if (*p != get_u16(pc))
                    goto fail;
            break;
        case RX_CHAR_FOLD:
            if (p >= end)
                goto fail;
            RX_NEXT(c, p);
            if (c < 256 ? c != pc[0] && c != pc[1] : lre_canonicalize(c, RX_IS_UNICODE) != get_u32(pc + 2))
                goto fail;
            pc += 6;
            break;
        case RX_SET:
            if (p >= end)
                goto fail;
            RX_NEXT(c, p);
            if (!RX_IN(pc + 4, c))
                goto fail;
            pc += 4 + get_u32(pc);
            break;

        case RX_GREEDY: {
            const uint8_t *rep = pc, *set = rep + RX_REP_HEADER, *after = rep + get_u32(rep + 9);
            const RX_CHAR *q = p, *least;
            uint32_t min = get_u32(rep + 1), max = get_u32(rep + 5);
#if RX_MODE == 2
            least = p;
            for (n = 0; n < max && q < end; n++) {
                const RX_CHAR *next = q;
                RX_NEXT(c, next);
                if (!RX_IN(set, c))
                    break;
                q = next;
                if (n + 1 == min)
                    least = q;
            }
            if (n < min)
                goto fail;
#else
            const RX_CHAR *most = max < (size_t)(end - p) ? p + max : end;
            while (q < most && RX_IN(set, *q))
                q++;
            if ((size_t)(q - p) < min)
                goto fail;
            least = p + min;
#endif
            RX_CHARGE((q - p) / 32);
            if (q == least || (rep[0] & (RX_MODE ? RX_KEEP_16 : RX_KEEP_8))) {
                p = q, pc = after;
                break;
            }
            goto choose;
        shorter:
            // One character less, down to the next place where what follows can begin.
            rep = pc, after = rep + get_u32(rep + 9);
            q = base + sp->a, least = base + sp->b;
            RX_BACK(q, least);
        choose:
            if (rep[0] & RX_HAS_FILTER) {
                const uint8_t *filter = after - RX_FILTER;
                const RX_CHAR *from = q;
                while (!RX_MAYBE(filter, q)) {
                    if (q == least)
                        goto fail;
                    RX_BACK(q, least);
                }
                RX_CHARGE((from - q) / 32);
            }
            if (q > least)
                RX_PUSH(RX_SHORTER, rep - code, q - base, least - base);
            p = q, pc = after;
            break;
        }
        case RX_LAZY: {
            const uint8_t *rep = pc, *set = rep + RX_REP_HEADER, *after = rep + get_u32(rep + 9);
            uint32_t min = get_u32(rep + 1), max = get_u32(rep + 5);
            for (n = 0; n < min; n++) {
                if (p >= end)
                    goto fail;
                RX_NEXT(c, p);
                if (!RX_IN(set, c))
                    goto fail;
            }
            RX_CHARGE(n / 32);
            goto stop;
        longer:
            rep = pc, set = rep + RX_REP_HEADER, after = rep + get_u32(rep + 9), max = get_u32(rep + 5);
            p = base + sp->a, n = sp->b;
            if (p >= end)
                goto fail;
            RX_NEXT(c, p);
            if (!RX_IN(set, c))
                goto fail;
            n++;
        stop:
            if (rep[0] & RX_HAS_FILTER) {
                const uint8_t *filter = after - RX_FILTER;
                const RX_CHAR *from = p;
                while (!RX_MAYBE(filter, p)) {
                    if (n >= max || p >= end)
                        goto fail;
                    RX_NEXT(c, p);
                    if (!RX_IN(set, c))
                        goto fail;
                    n++;
                }
                RX_CHARGE((p - from) / 32);
            }
            if (n < max)
                RX_PUSH(RX_LONGER, rep - code, p - base, n);
            pc = after;
            break;
        }

        case RX_SPLIT_NEXT:
            RX_PUSH(RX_RESUME, get_u32(pc), p - base, 0);
            pc += 4;
            break;
        case RX_SPLIT_GOTO:
            RX_PUSH(RX_RESUME, pc + 4 - code, p - base, 0);
            pc = code + get_u32(pc);
            break;
        case RX_SPLIT_FILTER: {
            // Both ways are tried only where both can go on.
            uint32_t flags = pc[4], first = pc + 5 + 2 * RX_FILTER - code, second = get_u32(pc);
            bool first_ok = !(flags & RX_FILTER_NEXT) || RX_MAYBE(pc + 5, p);
            bool second_ok = !(flags & RX_FILTER_GOTO) || RX_MAYBE(pc + 5 + RX_FILTER, p);
            if (first_ok && second_ok) {
                if (flags & RX_GOTO_FIRST) {
                    RX_PUSH(RX_RESUME, first, p - base, 0);
                    pc = code + second;
                } else {
                    RX_PUSH(RX_RESUME, second, p - base, 0);
                    pc = code + first;
                }
            } else if (first_ok) {
                pc = code + first;
            } else if (second_ok) {
                pc = code + second;
            } else {
                goto fail;
            }
            break;
        }
        case RX_GOTO:
            pc = code + get_u32(pc);
            RX_CHARGE(1);
            break;

        case RX_SAVE:
            n = get_u16(pc);
            pc += 2;
            RX_PUSH(RX_UNDO, n, cap[n], 0);
            cap[n] = p - base;
            break;
        case RX_RESET:
            for (n = 2 * pc[0]; n < 2 * pc[1] + 2u; n++) {
                if (cap[n] == RX_NONE)
                    continue;
                RX_PUSH(RX_UNDO, n, cap[n], 0);
                cap[n] = RX_NONE;
            }
            pc += 2;
            break;

        case RX_COUNT:
            n = s->registers + pc[0];
            RX_SET_REGISTER(n, get_u32(pc + 1));
            pc += 5;
            break;
        case RX_LOOP:
            n = s->registers + pc[0];
            RX_SET_REGISTER(n, cap[n] - 1);
            pc = cap[n] ? code + get_u32(pc + 1) : pc + 5;
            RX_CHARGE(1);
            break;
        case RX_LOOP_SPLIT: {
            uint32_t flags = pc[1], left;
            n = s->registers + pc[0];
            left = cap[n] - 1;
            RX_SET_REGISTER(n, left);
            RX_CHARGE(1);
            if (left > get_u32(pc + 2)) {
                pc = code + get_u32(pc + 6);
                break;
            }
            if ((flags & RX_CHECK_ADVANCE) && cap[n + 1] == (uint32_t)(p - base) && left != get_u32(pc + 2))
                goto fail;
            if (left == 0) {
                pc += 10;
            } else if (flags & RX_GOTO_FIRST) {
                RX_PUSH(RX_RESUME, pc + 10 - code, p - base, 0);
                pc = code + get_u32(pc + 6);
            } else {
                RX_PUSH(RX_RESUME, get_u32(pc + 6), p - base, 0);
                pc += 10;
            }
            break;
        }
        case RX_POSITION:
            n = s->registers + *pc++;
            RX_SET_REGISTER(n, (uint32_t)(p - base));
            break;
        case RX_ADVANCED:
            n = s->registers + *pc++;
            if (cap[n] == (uint32_t)(p - base))
                goto fail;
            break;

        case RX_START:
            if (p != base)
                goto fail;
            break;
        case RX_LINE_START:
            if (p != base && !is_line_terminator(p[-1]))
                goto fail;
            break;
        case RX_END:
            if (p != end)
                goto fail;
            break;
        case RX_LINE_END:
            if (p != end && !is_line_terminator(*p))
                goto fail;
            break;
        case RX_BOUNDARY: {
            bool before = p > base && rx_is_word(p[-1], pc[0] & RX_FOLD), after = p < end && rx_is_word(*p, pc[0] & RX_FOLD);
            if ((before != after) == !!(pc[0] & RX_NOT))
                goto fail;
            pc++;
            break;
        }
        case RX_BACK_CHAR:
            if (p == base)
                goto fail;
            RX_BACK(p, base);
            break;

        case RX_REFERENCE: {
            // The first of the groups (of one name) that took part.
            const uint8_t *group = pc + 2, *after = group + pc[1];
            uint32_t flags = pc[0];
            pc = after;
            for (; group < after; group++) {
                if (cap[2 * *group] == RX_NONE || cap[2 * *group + 1] == RX_NONE)
                    continue;
                const RX_CHAR *from = base + cap[2 * *group], *to = base + cap[2 * *group + 1];
                uint32_t d;
                RX_CHARGE(from < to ? (to - from) / 32 : 0);
                if (flags & RX_BACKWARD) {
                    while (to > from) {
                        if (p == base)
                            goto fail;
                        const RX_CHAR *q;
                        RX_BACK(to, from);
                        q = to;
                        RX_NEXT(c, q);
                        RX_BACK(p, base);
                        q = p;
                        RX_NEXT(d, q);
                        if (c != d && (!(flags & RX_FOLD) || lre_canonicalize(c, RX_IS_UNICODE) != lre_canonicalize(d, RX_IS_UNICODE)))
                            goto fail;
                    }
                } else {
                    while (from < to) {
                        if (p >= end)
                            goto fail;
                        RX_NEXT(c, from);
                        RX_NEXT(d, p);
                        if (c != d && (!(flags & RX_FOLD) || lre_canonicalize(c, RX_IS_UNICODE) != lre_canonicalize(d, RX_IS_UNICODE)))
                            goto fail;
                    }
                }
                break;
            }
            break;
        }

        case RX_LOOK:
        case RX_LOOK_NOT:
            n = pc[-1] == RX_LOOK ? RX_LOOKING : RX_LOOKING_NOT;
            RX_PUSH(n, get_u32(pc), p - base, inner);
            inner = sp - s->stack - 1;
            pc += 4;
            break;
        case RX_LOOK_MATCH: {
            // The choices within are gone for good; what they changed must still be undone if this fails later.
            RxEntry *to = s->stack + inner;
            const RxEntry *from = to + 1;
            p = base + to->a;
            inner = to->b;
            for (; from < sp; from++)
                if ((from->tag & 7) == RX_UNDO)
                    *to++ = *from;
            sp = to;
            break;
        }
        case RX_LOOK_NOT_MATCH:
            for (sp--; sp > s->stack + inner; sp--)
                if ((sp->tag & 7) == RX_UNDO)
                    cap[sp->tag >> 3] = sp->a;
            inner = sp->b;
            goto fail;

        default:
            return LRE_RET_BYTECODE_ERROR;

        fail:
            for (;;) {
                if (sp == s->stack)
                    goto next_start;
                sp--;
                n = sp->tag & 7;
                if (n == RX_UNDO) {
                    cap[sp->tag >> 3] = sp->a;
                    continue;
                }
                if (n == RX_LOOKING) {
                    inner = sp->b;
                    continue;
                }
                break;
            }
            RX_CHARGE(1);
            pc = code + (sp->tag >> 3);
            if (n == RX_SHORTER)
                goto shorter;
            if (n == RX_LONGER)
                goto longer;
            if (n == RX_LOOKING_NOT)
                inner = sp->b;
            p = base + sp->a;
            break;
        }
    }
}

#undef RX_IS_UNICODE
#undef RX_NEXT
#undef RX_BACK
#undef RX_IN
#undef RX_MAYBE
#undef RX_PUSH
#undef RX_CHARGE
#undef RX_SET_REGISTER
#undef RX_RUN
#undef RX_CHAR
#undef RX_MODE
#undef RX_FIND
