/* fuzz_config.c - reads any bytes as a YAML file or as a command line argument. plumb must refuse
 * them with a configuration error, or give a configuration whose effective YAML loads to the same
 * values.
 * Test. Includes config/, io/, base/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static plumb_status load_bytes(struct plumb_config **out, const void *data, size_t size)
{
    const int fd = memfd_create("fuzz", 0);
    char path[64];
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    const plumb_status st = plumb_config_load(out, "align", path, NULL, 0);
    close(fd);
    return st;
}

static void check_round_trip(const struct plumb_config *c)
{
    struct plumb_config *again;
    struct plumb_buf yaml = {0};
    if (plumb_config_to_yaml(&yaml, c, NULL) != PLUMB_OK ||
        load_bytes(&again, yaml.data, (size_t)yaml.len) != PLUMB_OK) {
        fprintf(stderr, "%s\n%s\n", plumb_trail(), plumb_buf_text(&yaml));
        abort();
    }
    if (plumb_config_hash(c, NULL) != plumb_config_hash(again, NULL))
        abort();
    plumb_config_free(&again);
    plumb_buf_fini(&yaml);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plumb_config *c;
    plumb_status st = load_bytes(&c, data, size);
    if (st == PLUMB_OK)
        check_round_trip(c);
    else if (st != PLUMB_ERR_CONFIG)
        abort();
    plumb_config_free(&c);

    char *argument = malloc(size + 1);
    if (!argument)
        return 0;
    memcpy(argument, data, size);
    argument[size] = '\0';
    st = plumb_config_load(&c, "align", NULL, &argument, 1);
    if (st == PLUMB_OK)
        check_round_trip(c);
    else if (st != PLUMB_ERR_CONFIG)
        abort();
    plumb_config_free(&c);
    free(argument);
    return 0;
}
