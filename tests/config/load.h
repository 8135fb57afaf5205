/* load.h - loads configurations that a test has written, and checks the message of a refusal.
 * Test. Includes harness.h, config/, io/. */
#ifndef PLUMB_TESTS_CONFIG_LOAD_H
#define PLUMB_TESTS_CONFIG_LOAD_H

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "harness.h"
#include "io/file.h"

static char root[4096], yaml_path[5000];

static inline void write_yaml(const char *text)
{
    CHECK_OK(plumb_file_write_atomic(yaml_path, text, (int64_t)strlen(text)));
}

static inline struct plumb_config *load(const char *command, const char *yaml,
                                        char *const *override, int n)
{
    struct plumb_config *c = NULL;
    if (yaml)
        write_yaml(yaml);
    CHECK_OK(plumb_config_load(&c, command, yaml ? yaml_path : NULL, override, n));
    return c;
}

static inline void says(const char *part)
{
    CHECKF(strstr(plumb_trail_message(), part), "'%s' does not say '%s'", plumb_trail_message(),
           part);
}

static inline void bad_override(const char *command, const char *text, const char *part)
{
    struct plumb_config *c;
    char first[] = "seed=1", second[200];
    snprintf(second, sizeof(second), "%s", text);
    char *const override[] = {first, second};
    write_yaml("{}");
    CHECKF(plumb_config_load(&c, command, yaml_path, override, 2) == PLUMB_ERR_CONFIG, "%s", text);
    says("command line argument 4 (");
    says(part);
    CHECK(plumb_config_load(&c, command, NULL, override + 1, 1) == PLUMB_ERR_CONFIG);
    says("command line argument 2 (");
}

/* Creates the temporary folder into which write_yaml writes. */
static inline void load_begin(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(root, sizeof(root), "%s/plumb_test_config_XXXXXX", base ? base : "/tmp");
    CHECK(mkdtemp(root));
    snprintf(yaml_path, sizeof(yaml_path), "%s/test.yaml", root);
}

static inline void load_end(void)
{
    CHECK_OK(plumb_dir_remove(root));
}

#endif
