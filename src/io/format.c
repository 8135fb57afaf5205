/* format.c - reads and writes the attributes that name a file's format and version.
 * Layer 1. Includes format.h, hdf5_impl.h, base/. */
#include "io/format.h"

#include <stdio.h>
#include <string.h>

#include "io/hdf5_impl.h"

static const struct {
    const char *text, *version_key;
    int64_t oldest, newest;
    const char *advice;
} table[PLUMB_FORMATS_COUNT] = {
#define X(name, text, key, oldest, newest, advice)                                                 \
    [PLUMB_FORMAT_##name] = {text, key, oldest, newest, advice},
    PLUMB_FORMATS(X)
#undef X
};

plumb_status plumb_format_put(plumb_h5 *f, enum plumb_format format)
{
    PLUMB_TRY(plumb_h5_put_attr_text(f, "format", table[format].text));
    PLUMB_TRY(plumb_h5_put_attr_i64(f, table[format].version_key, table[format].newest));
    return plumb_h5_put_attr_text(f, "plumb_version", PLUMB_VERSION);
}

/* Returns true if the file has an attribute of this name. */
static bool has_attr(const plumb_h5 *f, const char *name)
{
    return H5Aexists(f->id, name) > 0;
}

plumb_status plumb_format_get(int64_t *version, const plumb_h5 *f, enum plumb_format format)
{
    const int64_t oldest = table[format].oldest, newest = table[format].newest;
    char text[64], writer[64] = "of a version before 0.2", reads[64];
    int64_t found = 0;
    if (format != PLUMB_FORMAT_ROLLOUTS || has_attr(f, "format")) {
        PLUMB_TRY(plumb_h5_get_attr_text(f, "format", text, sizeof(text)));
        PLUMB_REQUIRE(!strcmp(text, table[format].text), PLUMB_ERR_FORMAT,
                      "%s: the format is '%s', expected '%s'", f->path, text, table[format].text);
    }
    PLUMB_TRY(plumb_h5_get_attr_i64(f, table[format].version_key, &found));
    if (has_attr(f, "plumb_version"))
        PLUMB_TRY(plumb_h5_get_attr_text(f, "plumb_version", writer, sizeof(writer)));
    if (oldest == newest)
        snprintf(reads, sizeof(reads), "version %lld", (long long)newest);
    else
        snprintf(reads, sizeof(reads), "versions %lld to %lld", (long long)oldest,
                 (long long)newest);
    PLUMB_REQUIRE(
        found >= oldest && found <= newest, PLUMB_ERR_UNSUPPORTED,
        "%s: '%s' of version %lld, written by plumb %s; plumb " PLUMB_VERSION " reads %s: %s",
        f->path, table[format].text, (long long)found, writer, reads, table[format].advice);
    if (version)
        *version = found;
    return PLUMB_OK;
}
