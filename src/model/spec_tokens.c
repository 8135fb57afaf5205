/* spec_tokens.c - token ids with a role, from config.json and generation_config.json.
 * Layer 4. Includes base/, io/ and model/spec_parts.h. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/file.h"
#include "model/spec_parts.h"

static plumb_status read_token(int32_t *out, const plumb_json *v, int64_t vocab, const char *key,
                               const char *path)
{
    const int64_t id = plumb_json_int(v, -1);
    PLUMB_REQUIRE(id >= 0 && id < vocab, PLUMB_ERR_FORMAT,
                  "%s: %s must hold token ids in [0, vocab_size %lld)", path, key,
                  (long long)vocab);
    *out = (int32_t)id;
    return PLUMB_OK;
}

/* Files on the hub have pad_token_id -1 or the like; transformers warns and compares with it. */
static void read_pad(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const int64_t pad = plumb_json_int(plumb_json_get(j, "pad_token_id"), -1);
    s->pad = pad >= 0 && pad < s->v ? (int32_t)pad : -1;
    if (s->pad < 0 && plumb_json_get(j, "pad_token_id"))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: pad_token_id is no id in [0, vocab_size %lld) and is not used", path,
                       (long long)s->v);
}

/* The ids that file j gives; what it leaves out stays as it was. */
static plumb_status read_stops(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const plumb_json *bos = plumb_json_get(j, "bos_token_id");
    const plumb_json *eos = plumb_json_get(j, "eos_token_id");
    if (bos)
        PLUMB_TRY(read_token(&s->bos, bos, s->v, "bos_token_id", path));
    if (!eos)
        return PLUMB_OK;
    const bool list = plumb_json_type_of(eos) == PLUMB_JSON_ARRAY;
    const int64_t n = list ? plumb_json_count(eos) : 1;
    PLUMB_REQUIRE(n <= PLUMB_MAX_EOS, PLUMB_ERR_UNSUPPORTED,
                  "%s: eos_token_id has %lld ids, at most %d are supported", path, (long long)n,
                  PLUMB_MAX_EOS);
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(
            read_token(&s->eos[i], list ? plumb_json_at(eos, i) : eos, s->v, "eos_token_id", path));
    s->n_eos = (int)n;
    return PLUMB_OK;
}

bool plumb_spec_stops_at(const struct plumb_spec *s, int32_t id)
{
    for (int i = 0; i < s->n_eos; i++)
        if (s->eos[i] == id)
            return true;
    return false;
}

/* transformers' generate() reads generation_config.json alone where there is one. A file without
 * end tokens would let it run on, which nobody wants: those of config.json stay. */
static void compare_stops(const struct plumb_spec *before, const struct plumb_spec *s,
                          const plumb_json *j, const char *path)
{
    if (before->n_eos > 0 && !plumb_json_get(j, "eos_token_id"))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: has no eos_token_id; %d ends a completion, as config.json says "
                       "(transformers' generate() would not stop there)",
                       path, (int)before->eos[0]);
    for (int i = 0; i < before->n_eos; i++)
        if (!plumb_spec_stops_at(s, before->eos[i]))
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: eos_token_id does not hold %d, which config.json gives as an end "
                           "token; generation_config.json is used, as in transformers",
                           path, (int)before->eos[i]);
    if (before->bos >= 0 && s->bos != before->bos)
        plumb_log_once(PLUMB_LOG_WARN, "%s: bos_token_id is %d, config.json says %d", path,
                       (int)s->bos, (int)before->bos);
}

plumb_status plumb_spec_read_tokens(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    read_pad(s, j, path);
    return read_stops(s, j, path);
}

plumb_status plumb_spec_read_generation(struct plumb_spec *s, const char *dir)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "generation_config.json"));
    if (!plumb_file_exists(path))
        return PLUMB_OK;
    const struct plumb_spec before = *s;
    plumb_json *j = NULL;
    PLUMB_TRY(plumb_json_read_file(&j, path));
    const plumb_status st = read_stops(s, j, path);
    if (st == PLUMB_OK)
        compare_stops(&before, s, j, path);
    plumb_json_free(&j);
    PLUMB_TRY(st);
    return PLUMB_OK;
}
