/* test_near.c - checks edit distances between names.
 * Test. Includes harness.h, config/near.h. */
#include "config/near.h"

#include "harness.h"

static void test_distance(void)
{
    CHECK(plumb_edit_distance("", "") == 0 && plumb_edit_distance("abc", "") == 3);
    CHECK(plumb_edit_distance("abc", "abc") == 0 && plumb_edit_distance("abc", "acb") == 1);
    CHECK(plumb_edit_distance("kitten", "sitting") == 3 && plumb_edit_distance("ab", "ba") == 1);
    CHECK(plumb_edit_distance("ca", "abc") == 3); /* two swapped letters are not edited again */
}

int main(void)
{
    test_distance();
    return 0;
}
