/* decimal.h - tests whether two texts are exactly the same decimal number.
 * Layer 4. Includes no other file of the project. Used only inside data/.
 *
 * A number is an optional sign (+, - or U+2212), an optional $ before or after the sign, digits
 * with or without a point, an optional exponent (e or E, an optional sign as above, 1 to 9 digits)
 * and an optional %. A digit on one side of the point is enough ("7.", ".5"). The digits before the
 * point may have commas: then there is one before each three digits, counted from the point to the
 * left ("1,234", "12,345.6"; not "3,4", "1,00", "0,123"). Everything else is not a number:
 * fractions ("1/2"), "inf", "0x1f", digits of other scripts. */
#ifndef PLUMB_DATA_DECIMAL_H
#define PLUMB_DATA_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

/* Returns true if both texts (of n and m bytes) are numbers and equal. They are compared digit by
 * digit without rounding, whatever their length: 007 = 7 = +7.0 = 7. = 70e-1 = $7, and -0 = 0. A
 * percentage equals only a percentage. *numbers tells whether both texts are numbers. */
bool plumb_decimal_same(const char *a, int64_t n, const char *b, int64_t m, bool *numbers);

#endif
