/* memory.c - allocates a configuration and the texts and lists that it points to.
 * Layer 3. Includes option.h, base/. */
#include <stdlib.h>

#include "config/option.h"

struct block {
    struct block *next;
    _Alignas(16) unsigned char bytes[];
};

struct owner {
    /* Must be first: a pointer to the configuration is cast to struct owner. */
    struct plumb_config config;
    struct block *blocks;
    struct plumb_config_marks marks;
};

plumb_status plumb_config_take(void **out, struct plumb_config *c, int64_t bytes)
{
    struct owner *o = (struct owner *)c;
    struct block *b = calloc(1, sizeof(*b) + (size_t)bytes);
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "cannot store a configuration value of %lld bytes",
                  (long long)bytes);
    b->next = o->blocks;
    o->blocks = b;
    *out = b->bytes;
    return PLUMB_OK;
}

void plumb_config_free(struct plumb_config **config)
{
    if (!config || !*config)
        return;
    struct owner *o = (struct owner *)*config;
    for (struct block *b = o->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(o);
    *config = NULL;
}

plumb_status plumb_config_blank(struct plumb_config **out)
{
    struct owner *o = calloc(1, sizeof(*o));
    *out = NULL;
    PLUMB_REQUIRE(o, PLUMB_ERR_NOMEM, "cannot create a configuration");
    *out = &o->config;
    o->config.marks = &o->marks;
    return PLUMB_OK;
}
