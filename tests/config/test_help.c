/* test_help.c - checks the text that `plumb help` prints.
 * Test. Includes harness.h, config/. */
#include <string.h>

#include "config/option.h"
#include "harness.h"

static void test_help(void)
{
    const struct plumb_command *k;
    struct plumb_buf b = {0};
    CHECK_OK(plumb_config_help(&b, NULL));
    for (int i = 0; (k = plumb_command_at(i)); i++)
        CHECKF(strstr(b.data, k->name), "%s", k->name);
    for (int i = 0; (k = plumb_command_at(i)); i++) {
        plumb_buf_clear(&b);
        CHECK_OK(plumb_config_help(&b, k->name));
        for (char *line = strtok(b.data, "\n"); line; line = strtok(NULL, "\n"))
            CHECKF(strlen(line) <= 100 && line[strlen(line) - 1] != ' ', "%s: '%s'", k->name, line);
    }
    plumb_buf_clear(&b);
    CHECK_OK(plumb_config_help(&b, "generate"));
    CHECK(strstr(b.data, "temperature") && !strstr(b.data, "learning_rate"));
    CHECK(plumb_config_help(&b, "generat") == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "did you mean 'generate'?"));
    plumb_buf_fini(&b);
}

int main(void)
{
    test_help();
    return 0;
}
