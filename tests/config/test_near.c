/* test_near.c - checks the edit distance between names, which finds the option that a misspelt name
 * means.
 * Test. Includes harness.h, config/near.h. */
#include "config/near.h"

#include "harness.h"

static void test_distance(void)
{
    CHECK(plumb_edit_distance("", "") == 0 && plumb_edit_distance("abc", "") == 3);
    CHECK(plumb_edit_distance("abc", "abc") == 0 && plumb_edit_distance("abc", "acb") == 1);
    CHECK(plumb_edit_distance("kitten", "sitting") == 3 && plumb_edit_distance("ab", "ba") == 1);
    /* 3 and not 2: after a swap, no letter may be inserted between the swapped letters */
    CHECK(plumb_edit_distance("ca", "abc") == 3);
}

int main(void)
{
    test_distance();
    return 0;
}
