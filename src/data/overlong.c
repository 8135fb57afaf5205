/* overlong.c - shortens or leaves out the records that exceed the limits, and counts them.
 * Layer 4. Includes base/, data/overlong.h. */
#include "data/overlong.h"

#include "base/log.h"
#include "base/num.h"

static void count(int64_t *n, int64_t *first_line, const struct plumb_record *rec)
{
    if ((*n)++ == 0)
        *first_line = rec->line;
}

static int64_t longer(const struct plumb_record *rec)
{
    return plumb_max_i64(rec->completion[0].n, rec->completion[1].n);
}

/* Removes n tokens from the beginning (left) or the end of a piece. */
static void shorten(struct plumb_piece *p, int64_t n, bool left)
{
    if (n <= 0 || !p->ids)
        return;
    p->ids += left ? n : 0;
    p->n -= n;
}

/* Removes tokens from the beginning (left) or the end of a piece, so that at most `most` are
 * left. */
static void shorten_prompt(struct plumb_piece *p, int64_t most, bool left)
{
    if (p->n > most)
        shorten(p, p->n - most, left);
}

static void count_trained(struct plumb_record *rec)
{
    rec->n_trained = 0;
    for (int64_t j = 0; rec->trained && j < rec->completion[0].n; j++)
        rec->n_trained += rec->trained[j];
}

/* Removes tokens from the end of each completion until prompt and completion have at most `most`
 * tokens. */
static void shorten_right(struct plumb_record *rec, int64_t most)
{
    const int64_t room = plumb_max_i64(most - rec->prompt.n, 0);
    for (int i = 0; i < 2; i++)
        shorten_prompt(&rec->completion[i], room, false);
    count_trained(rec);
}

/* Removes tokens from the beginning of a record with at most one completion, until `most` are left.
 * If that removes the whole prompt, the first token that is left becomes the prompt, because no
 * token predicts it. */
static void shorten_left(struct plumb_record *rec, int64_t most)
{
    struct plumb_piece *c = &rec->completion[0];
    if (c->n < most) {
        shorten_prompt(&rec->prompt, most - c->n, true);
        return;
    }
    const int64_t lost = c->n - most + 1;
    shorten(c, lost, true);
    rec->prompt.ids = c->ids - 1;
    rec->prompt.n = 1;
    if (rec->trained)
        rec->trained += lost;
    count_trained(rec);
}

/* Shortens a record to the limits. Returns false if the record must be dropped: no trained token is
 * left, or it still exceeds the limits. The completions of a pair have one prompt, so from the left
 * they lose only tokens of it, all but one at most; what is still too long then loses its last
 * tokens. */
static bool truncate(struct plumb_record *rec, const struct plumb_data_options *o, int64_t most)
{
    const bool left = o->overlong == PLUMB_OVERLONG_TRUNCATE_LEFT;
    const bool answered = rec->completion[0].n > 0 || rec->completion[1].n > 0;
    struct plumb_piece *const prompt[] = {&rec->prompt, &rec->principled, &rec->contrary};
    for (int i = 0; i < 3 && o->max_prompt_tokens; i++)
        shorten_prompt(prompt[i], o->max_prompt_tokens, left);
    if (o->kind == PLUMB_DATA_PROMPTS &&
        answered) /* a completion of a PROMPTS record is never cut; the record is dropped instead */
        return !most || (rec->context.n + longer(rec) <= most && rec->prompt.n <= most);
    if (most && left && o->kind == PLUMB_DATA_PAIRS)
        shorten_prompt(&rec->prompt, plumb_max_i64(most - longer(rec), 1), true);
    else if (most && left)
        shorten_left(rec, most);
    else if (most && !answered)
        shorten_prompt(&rec->prompt, most, false);
    if (most)
        shorten_right(rec, most);
    if (o->kind != PLUMB_DATA_PROMPTS)
        rec->context = (struct plumb_piece){.ids = rec->prompt.ids, .n = rec->prompt.n};
    return !answered || (plumb_record_trained(rec) > 0 &&
                         (o->kind != PLUMB_DATA_PAIRS || rec->completion[1].n > 0));
}

plumb_status plumb_overlong_fit(bool *ok, struct plumb_dataset *d, struct plumb_record *rec,
                                const struct plumb_data_options *o, const char *where)
{
    const int64_t guided = plumb_max_i64(rec->principled.n, rec->contrary.n);
    const int64_t p = plumb_max_i64(rec->prompt.n, guided), c = longer(rec);
    const bool long_prompt = o->max_prompt_tokens && p > o->max_prompt_tokens;
    *ok = !long_prompt && !(o->max_tokens && p + c > o->max_tokens);
    if (*ok)
        return PLUMB_OK;
    PLUMB_REQUIRE(o->overlong != PLUMB_OVERLONG_ERROR, PLUMB_ERR_ARG,
                  "%s: %s has %lld tokens, at most %lld are allowed (data.overlong says what else "
                  "may become of such a record)",
                  where, long_prompt ? "the prompt" : "the prompt with its completion",
                  (long long)(long_prompt ? p : p + c),
                  (long long)(long_prompt ? o->max_prompt_tokens : o->max_tokens));
    *ok = o->overlong != PLUMB_OVERLONG_DROP && truncate(rec, o, o->max_tokens);
    if (*ok)
        count(&d->truncated, &d->truncated_line, rec);
    else
        count(&d->skipped, &d->skipped_line, rec);
    return PLUMB_OK;
}

void plumb_overlong_say(const struct plumb_dataset *d, const struct plumb_data_options *o,
                        const char *path)
{
    const long long all = (long long)(d->n + d->skipped);
    if (d->truncated > 0)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: %lld of %lld record%s too long and lost the %s tokens, first in line "
                  "%lld (data.overlong)",
                  path, (long long)d->truncated, all, all == 1 ? " was" : "s were",
                  o->overlong == PLUMB_OVERLONG_TRUNCATE_LEFT ? "first" : "last",
                  (long long)d->truncated_line);
    if (d->skipped > 0)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: %lld of %lld record%s too long and left out, first in line %lld "
                  "(data.overlong)",
                  path, (long long)d->skipped, all, all == 1 ? " is" : "s are",
                  (long long)d->skipped_line);
}
