/* decimal.h - whether two texts are the same decimal number, exactly.
 * Layer 4. Includes nothing of ours. Inside data/ only.
 *
 * A number is an optional sign (+, - or U+2212), an optional $ before or behind it, whole digits,
 * and optionally a point with digits, an exponent (e or E, up to 9 digits) and a %. Commas are
 * allowed in the whole digits, all or none, before every three from the right: "1,234", "12,345.6",
 * not "3,4", "1,00", "0,123". Everything else is a text: fractions ("1/2"), "inf", "0x1f", digits
 * of other scripts. */
#ifndef PLUMB_DATA_DECIMAL_H
#define PLUMB_DATA_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

/* True when both texts (n, m bytes) are numbers and equal: digit by digit, without rounding,
 * however long. 007 = 7 = +7.0 = 7. = 70e-1 = $7, and -0 = 0; a percentage equals percentages only.
 * *numbers: whether both are numbers. */
bool plumb_decimal_same(const char *a, int64_t n, const char *b, int64_t m, bool *numbers);

#endif
