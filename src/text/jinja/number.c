/* number.c - converts text to numbers and rounds them like Python's int(), float() and round().
 * Layer 3. Private to text/jinja. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja/run.h"

static void strip(const char **s, int64_t *n)
{
    while (*n && (isspace((unsigned char)**s) || (**s >= 0x1c && **s <= 0x1f))) {
        ++*s;
        --*n;
    }
    while (*n &&
           (isspace((unsigned char)(*s)[*n - 1]) || ((*s)[*n - 1] >= 0x1c && (*s)[*n - 1] <= 0x1f)))
        --*n;
}

/* Parses an integer. With base 0 its prefix (such as 0x) determines the base. Underscores may stand
 * between digits. Returns false if the text is not an integer, or if the integer does not fit
 * int64_t; then *big is true. */
bool plumb_jinja_parse_int(const char *s, int64_t n, int base, int64_t *out, bool *big)
{
    bool negative = false, digit_before = false, some = false;
    uint64_t x = 0;
    *big = false;
    strip(&s, &n);
    if (n && (*s == '-' || *s == '+')) {
        negative = *s == '-';
        s++;
        n--;
    }
    const bool guess = base == 0;
    if (n > 2 && *s == '0') {
        const char c = (char)tolower((unsigned char)s[1]);
        const int prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (prefix && (guess || base == prefix)) {
            base = prefix;
            s += 2;
            n -= 2;
            digit_before = true; /* an underscore may follow the prefix */
        }
    }
    if (!base)
        base = 10;
    for (int64_t i = 0; i < n; i++) {
        if (s[i] == '_') {
            if (!digit_before || i + 1 == n)
                return false;
            digit_before = false;
            continue;
        }
        const int c = tolower((unsigned char)s[i]);
        const int d = isdigit(c) ? c - '0' : isalpha(c) && c < 0x80 ? c - 'a' + 10 : 99;
        if (d >= base)
            return false;
        *big |= __builtin_mul_overflow(x, (uint64_t)base, &x) ||
                __builtin_add_overflow(x, (uint64_t)d, &x);
        digit_before = some = true;
    }
    *big |= x > (uint64_t)INT64_MAX + negative;
    *out = *big ? 0 : negative ? (int64_t)(0 - x) : (int64_t)x;
    return some && !*big;
}

bool plumb_jinja_parse_float(const char *s, int64_t n, double *out)
{
    char text[512];
    int len = 0;
    strip(&s, &n);
    if (!n || n >= (int64_t)sizeof(text))
        return false;
    for (int64_t i = 0; i < n; i++) {
        const char c = s[i];
        if (c == '_') {
            if (i == 0 || i + 1 == n || !isdigit((unsigned char)s[i - 1]) ||
                !isdigit((unsigned char)s[i + 1]))
                return false;
            continue;
        }
        text[len++] = (char)tolower((unsigned char)c);
    }
    text[len] = 0;
    const char *word = text + (*text == '-' || *text == '+');
    const bool special =
        strcmp(word, "inf") == 0 || strcmp(word, "infinity") == 0 || strcmp(word, "nan") == 0;
    if (!special && strspn(word, "0123456789.e+-") != strlen(word))
        return false;
    char *end;
    *out = strtod(text, &end);
    return end == text + len;
}

plumb_status plumb_jinja_round(struct plumb_jrun *r, jv *out, jv v, int64_t digits)
{
    char text[400];
    if (plumb_jv_is_int(v)) {
        const int64_t i = plumb_jv_as_int(v);
        if (digits >= 0) {
            *out = plumb_jv_int(i);
            return PLUMB_OK;
        }
        int64_t unit = 1, z;
        if (digits < -18)
            JREFUSE(r, "rounding to more than 18 digits before the point is not supported");
        for (int64_t k = digits; k < 0; k++)
            unit *= 10;
        const int64_t rest = ((i % unit) + unit) % unit;
        /* true if i / unit, rounded down, is even; a tie is rounded to the even multiple of unit */
        const bool even = ((i / unit) - (i % unit < 0)) % 2 == 0;
        const bool up = rest > unit - rest || (rest == unit - rest && !even);
        if (__builtin_sub_overflow(i, rest, &z) || (up && __builtin_add_overflow(z, unit, &z)))
            JREFUSE(r, "an integer of more than 64 bits is not supported");
        *out = plumb_jv_int(z);
        return PLUMB_OK;
    }
    if (digits < 0)
        JREFUSE(r, "rounding a float to tens is not supported");
    *out = v;
    if (digits > 300 || !isfinite(v.u.d))
        return PLUMB_OK;
    const int n = snprintf(text, sizeof(text), "%.*f", (int)digits, v.u.d);
    if (n > 0 && n < (int)sizeof(text))
        *out = plumb_jv_float(strtod(text, NULL));
    return PLUMB_OK;
}
