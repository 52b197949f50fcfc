/**
 * Numbers to text and back, the fast cases: integers, and doubles of up to 15 decimal digits.
 *
 * Included by the engine (see xtask/src/quickjs/data.rs); what is not a fast case is left to dtoa.c. Exact: a fast case
 * gives the same digits and the same bits as dtoa.c does.
 */

static const double skep_powers[23] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

static const char skep_pairs[201] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657"
    "585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

// Writes at most 10 digits, without a terminator.
static inline size_t skep_u32toa(char *out, uint32_t n)
{
    char digits[10];
    int at = 10;
    while (n >= 100) {
        uint32_t q = n / 100;
        at -= 2;
        memcpy(digits + at, skep_pairs + (n - q * 100) * 2, 2);
        n = q;
    }
    if (n >= 10) {
        at -= 2;
        memcpy(digits + at, skep_pairs + n * 2, 2);
    } else {
        digits[--at] = '0' + n;
    }
    size_t length = 10 - at;
    for (size_t i = 0; i < length; i++)
        out[i] = digits[at + i];
    return length;
}

static inline size_t skep_i32toa(char *out, int32_t n)
{
    if (n >= 0)
        return skep_u32toa(out, n);
    *out = '-';
    return skep_u32toa(out + 1, -(uint32_t)n) + 1;
}

static size_t skep_u64toa(char *out, uint64_t n)
{
    if (n >> 32 == 0)
        return skep_u32toa(out, n);
    uint64_t high = n / 1000000000;
    uint32_t low = n - high * 1000000000;
    size_t length = skep_u64toa(out, high);
    for (int i = 8; i >= 0; i--, low /= 10)
        out[length + i] = '0' + low % 10;
    return length + 9;
}

// The shortest digits of a double that has at most 15 of them and is written without an exponent; 0 otherwise. A
// decimal m / 10^k with m < 10^15 that the correctly rounded division gives back as `d` is the only one of its length,
// and the first k that has one makes the shortest.
static size_t skep_short_double(char *out, double d)
{
    size_t at = 0;
    if (d < 0) {
        out[at++] = '-';
        d = -d;
    }
    if (!(d >= 1e-6 && d < 1e15))
        return 0;
    for (int k = 0; k <= 21; k++) {
        double scaled = d * skep_powers[k];
        if (scaled >= 1e15)
            return 0;
        double m = nearbyint(scaled);
        if (m / skep_powers[k] != d)
            continue;
        if (m >= 1e15)
            return 0;
        char digits[24];
        int n = skep_u64toa(digits, (uint64_t)m);
        if (k == 0) {
            memcpy(out + at, digits, n);
            return at + n;
        }
        int whole = n - k;
        if (whole <= 0) {
            out[at++] = '0';
            out[at++] = '.';
            for (; whole < 0; whole++)
                out[at++] = '0';
            memcpy(out + at, digits, n);
            return at + n;
        }
        memcpy(out + at, digits, whole);
        out[at + whole] = '.';
        memcpy(out + at + whole + 1, digits + whole, k);
        return at + n + 1;
    }
    return 0;
}

// A power of two that is written with an exponent: dtoa.c wants its digits within the narrower half of the interval of
// texts that mean it (below a power of two doubles are twice as dense), and then gives 17 digits where 16 are enough.
static size_t skep_power_of_two(char *out, double d)
{
    JSFloat64Union u = { .d = d };
    if ((u.u64 & 0xfffffffffffffull) || !(fabs(d) < 1e-6 || fabs(d) >= 1e21) || d == 0)
        return 0;
    JSDTOATempMem memory;
    for (int digits = 10; digits <= 16; digits++) {
        size_t n = js_dtoa(out, d, 10, digits, JS_DTOA_FORMAT_FIXED | JS_DTOA_EXP_ENABLED, &memory);
        out[n] = 0;
        char *last = memchr(out, 'e', n);
        if (!last--)
            return 0;
        if (*last != '0' && strtod(out, NULL) == d)
            return n;
        // The nearest text may lie on the narrow side; the next one is on the other.
        if (*last < '9' && (++*last, strtod(out, NULL) == d))
            return n;
    }
    return 0;
}

enum { SKEP_DOUBLE_TEXT_MAX = 128 };

// The text of a finite double, as `String(d)` has it.
static size_t skep_dtoa(char *out, double d)
{
    if (d == 0) {
        *out = '0';
        return 1;
    }
    size_t n = skep_short_double(out, d);
    if (n || (n = skep_power_of_two(out, d)))
        return n;
    JSDTOATempMem memory;
    return js_dtoa(out, d, 10, 0, JS_DTOA_FORMAT_FREE, &memory);
}

// The number that begins a text as decimal digits, with a fraction if `fraction` says so: *end is behind it. False: not
// for this short cut (none, too long, followed by an exponent, a prefix or a separator, or 16-bit text).
static inline bool skep_decimal(JSString *p, bool fraction, JSValue *value, uint32_t *end)
{
    if (p->is_wide_char)
        return false;
    const uint8_t *s = str8(p);
    uint32_t n = p->len, i = n && *s == '-', first = i, digits, c;
    bool negative = i;
    uint64_t m = 0;
    int k = 0;
    while (i < n && i - first < 17 && (c = s[i] - '0') <= 9) {
        m = m * 10 + c;
        i++;
    }
    digits = i - first;
    if (!digits)
        return false;
    if (fraction && i + 1 < n && s[i] == '.' && (uint32_t)(s[i + 1] - '0') <= 9) {
        uint32_t start = ++i;
        while (i < n && i - start < 17 && (c = s[i] - '0') <= 9) {
            m = m * 10 + c;
            i++;
        }
        k = i - start;
        digits += k;
    }
    if (digits > 15)
        return false;
    if (i < n && ((c = s[i] | 0x20) == 'e' || c == 'x' || c == 'o' || c == 'b' || s[i] == '_' || s[i] == '.' || c == 'n'))
        return false;
    *end = i;
    if (!k && m <= INT32_MAX && !(negative && !m)) {
        *value = js_int32(negative ? -(int32_t)m : (int32_t)m);
        return true;
    }
    // Exact operands: the division rounds once.
    double d = (double)m / skep_powers[k];
    *value = js_number(negative ? -d : d);
    return true;
}
