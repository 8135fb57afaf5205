/* completion.c - converts one completion to a JSON line and back.
 * Layer 6. Includes app/completion.h, io/json.h. */
#include "app/completion.h"

#include <string.h>

#include "io/json.h"

static plumb_status put_ids(struct plumb_buf *out, const char *key, const int32_t *ids, int64_t n)
{
    PLUMB_TRY(plumb_buf_addf(out, ",\"%s\":[", key));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_addf(out, i ? ",%d" : "%d", (int)ids[i]));
    return plumb_buf_add_text(out, "]");
}

/* If a member of the record has one of these names, it is written inside of the object "record".
 * plumb writes a member of this name itself, or a command that reads the line would take the member
 * for the answer instead of the completion (data/dataset.h). */
static const char *const taken[] = {
    "prompt_id",    "sample",        "completion_ids", "logprobs",      "text",
    "stop_reason",  "ids",           "prompt_tokens",  "completion",    "completion_messages",
    "messages",     "chosen",        "rejected",       "conversations", "instruction",
    "score_chosen", "score_rejected"};
/* Members of the record that are not copied, because plumb writes a member of the same name and
 * meaning. */
static const char *const there[] = {"id", "prompt_ids", NULL};

plumb_status plumb_completion_put(struct plumb_buf *out, int64_t prompt_id,
                                  const struct plumb_record *r, const struct plumb_completion *c,
                                  const struct plumb_buf *text)
{
    PLUMB_TRY(plumb_buf_addf(out, "{\"prompt_id\":%lld", (long long)prompt_id));
    if (r->id)
        PLUMB_TRY(plumb_buf_addf(out, ",\"id\":%s", r->id));
    PLUMB_TRY(plumb_buf_addf(out, ",\"sample\":%d", (int)c->sample));
    PLUMB_TRY(plumb_columns_add(out, r->json, taken, sizeof taken / sizeof taken[0], there));
    PLUMB_TRY(put_ids(out, "prompt_ids", r->prompt.ids, r->prompt.n));
    PLUMB_TRY(put_ids(out, "completion_ids", c->ids, c->n));
    PLUMB_TRY(plumb_buf_add_text(out, ",\"logprobs\":["));
    for (int64_t i = 0; i < c->n; i++) {
        if (i)
            PLUMB_TRY(plumb_buf_add_text(out, ","));
        PLUMB_TRY(plumb_json_put_f32(out, c->logp[i]));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "],\"text\":"));
    PLUMB_TRY(plumb_json_put_string(out, plumb_buf_text(text), text->len));
    PLUMB_TRY(plumb_buf_addf(out, ",\"stop_reason\":\"%s\"", plumb_stop_name(c->stop)));
    return plumb_buf_add_text(out, "}\n");
}

static plumb_status read_members(struct plumb_completion *c, int32_t *ids, float *logp, int64_t max,
                                 const plumb_json *v, const char *where)
{
    const plumb_json *id = plumb_json_get(v, "completion_ids");
    const plumb_json *lp = plumb_json_get(v, "logprobs");
    const char *stop;
    int64_t sample;
    PLUMB_TRY(plumb_json_want_int(v, "sample", &sample, NULL, where));
    PLUMB_TRY(plumb_json_want_string(v, "stop_reason", &stop, NULL, where));
    const int64_t n = plumb_json_count(id);
    PLUMB_REQUIRE(n > 0 && n <= max && plumb_json_count(lp) == n, PLUMB_ERR_FORMAT,
                  "%s: has %lld completion_ids and %lld logprobs, expected the same number of "
                  "both, from 1 to %lld",
                  where, (long long)n, (long long)plumb_json_count(lp), (long long)max);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)plumb_json_int(plumb_json_at(id, i), -1);
        logp[i] = (float)plumb_json_real(plumb_json_at(lp, i), 0);
    }
    enum plumb_stop s = PLUMB_STOP_EOS;
    while (s < PLUMB_STOP_PAUSED && strcmp(plumb_stop_name(s), stop) != 0)
        s++;
    PLUMB_REQUIRE(s < PLUMB_STOP_PAUSED, PLUMB_ERR_FORMAT, "%s: unknown stop_reason \"%s\"", where,
                  stop);
    *c = (struct plumb_completion){.sample = (int32_t)sample,
                                   .ids = ids,
                                   .logp = logp,
                                   .logp_sampled = logp,
                                   .n = n,
                                   .stop = s};
    return PLUMB_OK;
}

plumb_status plumb_completion_read(struct plumb_completion *c, int32_t *ids, float *logp,
                                   int64_t max, const char *line, int64_t len, const char *where)
{
    plumb_json *v = NULL;
    PLUMB_TRY(plumb_json_parse(&v, line, len, where));
    const plumb_status st = read_members(c, ids, logp, max, v, where);
    plumb_json_free(&v);
    return st;
}
