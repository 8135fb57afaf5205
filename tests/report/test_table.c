/* test_table.c - checks the console text and the Markdown text of a table, and the removal of empty
 * columns.
 * Test. Includes harness.h, report/. */
#include "report/table.h"

#include "harness.h"

int main(void)
{
    struct plumb_table t = {.title = "T", .cols = 4, .best_row = 1};
    const char *const cell[] = {"model", "x", "none",      "y", "a|b", "1.25",
                                "-",     "-", "caf\u00e9", "-", "",    "22"};
    for (size_t i = 0; i < sizeof(cell) / sizeof(cell[0]); i++)
        CHECK_OK(plumb_table_add(&t, "%s", cell[i]));
    plumb_table_prune(&t);
    struct plumb_buf b = {0};
    CHECK_OK(plumb_table_console(&b, &t));
    CHECKF(!strcmp(plumb_buf_text(&b), "model     x   y\na|b    1.25   -\ncaf\u00e9      -  22\n"),
           "%s", plumb_buf_text(&b));
    plumb_buf_clear(&b);
    CHECK_OK(plumb_table_markdown(&b, &t));
    CHECKF(!strcmp(plumb_buf_text(&b), "| model | x | y |\n|---|--:|--:|\n| a\\|b | 1.25 | - |\n"
                                       "| caf\u00e9 | - | 22 |\n"),
           "%s", plumb_buf_text(&b));
    const struct plumb_report_table r = plumb_table_report(&t);
    CHECK(r.n_rows == 2 && r.n_cols == 3 && r.best_row == 1 && !strcmp(r.cell[5], "22"));
    plumb_buf_fini(&b);
    plumb_table_fini(&t);
    return 0;
}
