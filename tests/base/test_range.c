/* test_range.c - checks intervals with open and closed ends, and lists of allowed words.
 * Test. Includes harness.h, base/range.h. */
#include "base/range.h"

#include <math.h>

#include "harness.h"

int main(void)
{
    CHECK(plumb_range_holds("[0, 1)", 0) && !plumb_range_holds("[0, 1)", 1));
    CHECK(!plumb_range_holds("(0, 1]", 0) && plumb_range_holds("(0, 1]", 1));
    CHECK(plumb_range_holds("(-0.69, 0)", -0.5) && !plumb_range_holds("(-0.69, 0)", -0.69));
    CHECK(plumb_range_holds("[0, 1e6]", 1e6) && !plumb_range_holds("[0, 1e6]", 1.1e6));
    CHECK(!plumb_range_holds("[0, 1]", NAN) && plumb_range_holds("", 1e300));
    CHECK(plumb_range_word("hinge|dpo|none", "hinge") == 0);
    CHECK(plumb_range_word("hinge|dpo|none", "none") == 2);
    CHECK(plumb_range_word("hinge|dpo|none", "hing") == -1);
    CHECK(plumb_range_word("hinge|dpo|none", "dpo|none") == -1 && plumb_range_word("", "a") == -1);
    CHECK(plumb_range_words("hinge|dpo|none") == 3 && plumb_range_words("") == 0);
    return 0;
}
