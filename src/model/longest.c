/* longest.c - the largest number of tokens that a sequence of the run may have (data.max_tokens, at
 * most the model's own limit). This number decides whether the rotary embedding type longrope uses
 * long_factor or short_factor. It is written to checkpoints.
 * Layer 4. Includes base/, io/ and model/net.h. */
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"
#include "model/net.h"

/* Returns the rotary embedding of type longrope; NULL if the model has none. */
static const struct plumb_rope *longrope(const struct plumb_spec *s)
{
    for (int i = 0; i < s->n_rope; i++)
        if (s->rope[i].type == PLUMB_ROPE_LONGROPE)
            return &s->rope[i];
    return NULL;
}

static const char *factors(const struct plumb_rope *o, int64_t longest)
{
    return (double)longest > o->original_max_pos ? "long_factor" : "short_factor";
}

/* Warns if the run that wrote folder dir used the other list of longrope factors (long_factor
 * instead of short_factor, or the reverse). Does nothing if the folder does not have the file
 * PLUMB_LONGEST_NAME. */
static plumb_status compare(const plumb_model *m, const struct plumb_rope *o, const char *dir)
{
    char path[4096];
    plumb_json *root = NULL;
    int64_t stored = 0;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_LONGEST_NAME));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_read_file(&root, path));
    const plumb_status st = plumb_json_want_int(root, "longest_sequence", &stored, NULL, path);
    plumb_json_free(&root);
    PLUMB_TRY(st);
    PLUMB_REQUIRE(stored >= 1, PLUMB_ERR_FORMAT,
                  "%s: longest_sequence is %lld, expected at least 1; the file is damaged", path,
                  (long long)stored);
    if (strcmp(factors(o, stored), factors(o, m->longest)) != 0)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: rope_type longrope: the model was trained with %s (sequences of up to "
                       "%lld tokens), but this command uses %s, because its sequences have up to "
                       "%lld tokens; data.max_tokens=%lld gives the factors of the training",
                       dir, factors(o, stored), (long long)stored, factors(o, m->longest),
                       (long long)m->longest, (long long)stored);
    return PLUMB_OK;
}

plumb_status plumb_model_set_longest(plumb_model *m, int64_t tokens, const char *dir)
{
    const struct plumb_rope *o = longrope(&m->spec);
    m->longest = plumb_at_most(tokens, m->spec.max_pos);
    if (!o)
        return PLUMB_OK;
    plumb_log_once(PLUMB_LOG_INFO,
                   "%s: rope_type longrope: sequences have up to %lld tokens (data.max_tokens), so "
                   "%s is used for all of them; the limit of short_factor is %g tokens",
                   m->dir, (long long)m->longest, factors(o, m->longest), o->original_max_pos);
    if (dir)
        PLUMB_TRY(compare(m, o, dir));
    return plumb_rope_upload(m);
}

plumb_status plumb_model_write_longest(const plumb_model *m, const char *dir)
{
    char path[4096];
    struct plumb_buf text = {0};
    if (!longrope(&m->spec))
        return PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_LONGEST_NAME));
    plumb_status st =
        plumb_buf_addf(&text, "{\"longest_sequence\": %lld}\n", (long long)m->longest);
    if (st == PLUMB_OK)
        st = plumb_file_write_atomic(path, text.data, text.len);
    plumb_buf_fini(&text);
    return st;
}
