/* spec_tokens.c - reads special token ids from config.json and generation_config.json.
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

/* Reads pad_token_id. Some files on the Hugging Face hub have -1 or another invalid id. plumb then
 * logs a warning and uses no padding token. */
static void read_pad(struct plumb_spec *s, const plumb_json *j, const char *path)
{
    const int64_t absent =
        plumb_json_member(j, "pad_token_id") ? -1 : plumb_family_row(s->family)->pad;
    const int64_t pad = plumb_json_int(plumb_json_get(j, "pad_token_id"), absent);
    s->pad = pad >= 0 && pad < s->v ? (int32_t)pad : -1;
    if (s->pad < 0 && plumb_json_get(j, "pad_token_id"))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: pad_token_id is not an id in [0, vocab_size %lld) and is ignored", path,
                       (long long)s->v);
}

/* Reads the begin and end tokens of file j. A field that is missing or null leaves the old value.
 */
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

/* Warns if generation_config.json (j) and config.json disagree. before: the tokens of config.json.
 * If generation_config.json exists, transformers' generate() ignores the tokens in config.json.
 * Without an end token in generation_config.json, generate() would not stop, so plumb then keeps
 * the end tokens of config.json. */
static void compare_stops(const struct plumb_spec *before, const struct plumb_spec *s,
                          const plumb_json *j, const char *path)
{
    if (before->n_eos > 0 && !plumb_json_get(j, "eos_token_id"))
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: the file has no eos_token_id; completions end at token %d, as "
                       "config.json says (transformers' generate() would not stop there)",
                       path, (int)before->eos[0]);
    for (int i = 0; i < before->n_eos; i++)
        if (!plumb_spec_stops_at(s, before->eos[i]))
            plumb_log_once(PLUMB_LOG_WARN,
                           "%s: eos_token_id does not contain %d, which is an end token in "
                           "config.json; generation_config.json is used, as in transformers",
                           path, (int)before->eos[i]);
    if (before->bos >= 0 && s->bos != before->bos)
        plumb_log_once(PLUMB_LOG_WARN,
                       "%s: bos_token_id is %d, which is used, but config.json says %d", path,
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
    plumb_status st = PLUMB_OK;
    if (plumb_json_type_of(j) != PLUMB_JSON_OBJECT)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done, "%s: found %s, expected an object", path,
                        plumb_json_type_name(plumb_json_type_of(j)));
    PLUMB_TRY_GOTO(st, read_stops(s, j, path), done);
    compare_stops(&before, s, j, path);
done:
    plumb_json_free(&j);
    return st;
}
