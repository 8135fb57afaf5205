/* plan_json.c - writes a plan as one JSON object.
 * Layer 6. Includes app/plan.h, io/. */
#include <string.h>

#include "app/plan.h"
#include "io/json.h"

plumb_status plumb_plan_put(struct plumb_buf *out, const struct plumb_plan *p)
{
    const struct plumb_memory *m = &p->best->memory;
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    if (p->stage)
        PLUMB_TRY(plumb_buf_addf(out, "\"stage\": \"%s\", ", p->stage));
    PLUMB_TRY(plumb_buf_addf(
        out,
        "\"command\": \"%s\", \"device\": \"%s\", \"world_size\": %d, \"rank\": %d, "
        "\"bytes\": %lld, \"bytes_with_host\": %lld, \"margin\": %lld, \"budget\": %lld, \"fits\": "
        "%s",
        p->job->name, p->best->name, p->world, p->rank, (long long)m->most,
        (long long)plumb_plan_bytes(p->best), (long long)p->best->margin, (long long)p->budget,
        plumb_plan_bytes(p->best) <= p->budget ? "true" : "false"));
    if (p->micro_batch >= 0)
        PLUMB_TRY(
            plumb_buf_addf(out, ", \"largest_micro_batch_size\": %lld", (long long)p->micro_batch));
    if (p->micro_batch_tokens >= 0)
        PLUMB_TRY(plumb_buf_addf(out, ", \"largest_micro_batch_tokens\": %lld",
                                 (long long)p->micro_batch_tokens));
    if (p->slots >= 0)
        PLUMB_TRY(plumb_buf_addf(out, ", \"largest_slots\": %lld", (long long)p->slots));
    const int shard = p->cfg.train.shard == PLUMB_SHARD_AUTO ? p->shard : p->cfg.train.shard;
    PLUMB_TRY(plumb_buf_addf(out, ", \"frozen\": \"%s\", \"shard\": \"%s\"",
                             plumb_frozen_name(p->cfg.frozen),
                             shard == PLUMB_SHARD_GRADIENTS ? "gradients" : "optimizer"));
    PLUMB_TRY(plumb_plan_put_time(out, p));
    PLUMB_TRY(plumb_buf_add_text(out, ", \"assumed\": ["));
    const char *line = plumb_buf_text(&p->assumed);
    for (int i = 0; *line; line += strcspn(line, "\n") + 1, i++) {
        PLUMB_TRY(plumb_buf_add_text(out, i ? ", " : ""));
        PLUMB_TRY(plumb_json_put_string(out, line, (int64_t)strcspn(line, "\n")));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "], \"phases\": {"));
    for (int i = 0; i < PLUMB_PHASES; i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s\"%s\": %lld", i ? ", " : "", plumb_phase_names[i],
                                 (long long)m->held[i]));
    PLUMB_TRY(plumb_buf_add_text(out, "}, \"rows\": ["));
    for (int64_t i = 0; i < m->rows; i++) {
        const struct plumb_memory_row *r = &m->row[i];
        PLUMB_TRY(plumb_buf_add_text(out, i ? ",\n {\"owner\": " : "\n {\"owner\": "));
        PLUMB_TRY(plumb_json_put_string(out, r->owner, (int64_t)strlen(r->owner)));
        PLUMB_TRY(plumb_buf_add_text(out, ", \"what\": "));
        PLUMB_TRY(plumb_json_put_string(out, r->what, (int64_t)strlen(r->what)));
        PLUMB_TRY(plumb_buf_addf(out, ", \"phase\": \"%s\", \"host\": %s, \"bytes\": %lld}",
                                 plumb_phase_names[r->phase], r->beside ? "true" : "false",
                                 (long long)r->bytes));
    }
    return plumb_buf_add_text(out, "]}");
}
