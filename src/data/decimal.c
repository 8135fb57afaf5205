/* decimal.c - compares decimal numbers in texts digit by digit.
 * Layer 4. Includes data/decimal.h. */
#include "data/decimal.h"

#include <string.h>

/* A decimal number in a text. first and end: the range of the text from the number's first to its
 * last digit that is not 0; it may contain commas and a point. An empty range is the number 0. */
struct decimal {
    const char *first, *end;
    int64_t exponent; /* the first digit has the value of 10^exponent */
    bool negative, percent;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Removes "+", "-" or U+2212 from the beginning. Returns true if there was a sign. */
static bool take_sign(const char **at, const char *end, bool *negative)
{
    static const char minus[] = "\xE2\x88\x92";
    const int64_t left = end - *at;
    const bool wide = left >= 3 && memcmp(*at, minus, 3) == 0;
    if (!wide && (left < 1 || (**at != '-' && **at != '+')))
        return false;
    *negative = wide || **at == '-';
    *at += wide ? 3 : 1;
    return true;
}

/* Moves *at behind the digits before the point: "1234", or "1,234" with a comma before each three
 * digits, counted from the right. Returns false if a comma is at another place. */
static bool take_whole(const char **at, const char *end)
{
    const char *s = *at;
    int64_t run = 0, groups = 0;
    for (; s < end && (is_digit(*s) || *s == ','); s++) {
        if (*s != ',') {
            run++;
            continue;
        }
        /* The first group has 1 to 3 digits and does not begin with 0; the other groups have 3
         * digits. */
        if (groups ? run != 3 : run < 1 || run > 3 || **at == '0')
            return false;
        groups++;
        run = 0;
    }
    *at = s;
    return groups == 0 || run == 3;
}

static bool take_exponent(const char **at, const char *end, int64_t *exponent)
{
    bool negative = false;
    int64_t digits = 0, x = 0;
    *exponent = 0;
    if (*at == end || (**at != 'e' && **at != 'E'))
        return true;
    ++*at;
    take_sign(at, end, &negative);
    for (; *at < end && is_digit(**at) && digits < 10; ++*at, digits++)
        x = 10 * x + (**at - '0');
    *exponent = negative ? -x : x;
    return digits > 0 && digits < 10;
}

static bool as_decimal(struct decimal *d, const char *s, int64_t n)
{
    const char *end = s + n, *point, *after;
    *d = (struct decimal){0};
    const bool sign = take_sign(&s, end, &d->negative);
    if (s < end && *s == '$') {
        s++;
        if (!sign)
            take_sign(&s, end, &d->negative);
    }
    const char *from = s;
    if (!take_whole(&s, end))
        return false;
    point = after = s;
    if (s < end && *s == '.')
        for (s++, after = s; s < end && is_digit(*s);)
            s++;
    if (point == from && s == after)
        return false; /* there is no digit before or after the point */
    const char *last = s;
    int64_t scale;
    if (!take_exponent(&s, end, &scale))
        return false;
    d->percent = s < end && *s == '%';
    s += d->percent;
    while (from < last && !(is_digit(*from) && *from != '0'))
        from++;
    while (last > from && !(is_digit(last[-1]) && last[-1] != '0'))
        last--;
    d->first = from;
    d->end = last;
    d->exponent = scale;
    for (const char *c = from; c < point;
         /* counts the digits before the point: 120.5 has 3, so its first digit has the value 10^2
          * and the exponent is 3 - 1 */
         c++)
        d->exponent += is_digit(*c);
    if (from < point)
        d->exponent--;
    else
        d->exponent -= from - after + 1;
    return s == end;
}

static bool same(const struct decimal *a, const struct decimal *b)
{
    const char *x = a->first, *y = b->first;
    if (a->percent != b->percent)
        return false;
    if (x == a->end || y == b->end)
        return x == a->end && y == b->end;
    if (a->negative != b->negative || a->exponent != b->exponent)
        return false;
    while (x < a->end && y < b->end) {
        if (!is_digit(*x))
            x++;
        else if (!is_digit(*y))
            y++;
        else if (*x++ != *y++)
            return false;
    }
    return x == a->end && y == b->end;
}

bool plumb_decimal_same(const char *a, int64_t n, const char *b, int64_t m, bool *numbers)
{
    struct decimal x, y;
    *numbers = as_decimal(&x, a, n) && as_decimal(&y, b, m);
    return *numbers && same(&x, &y);
}
