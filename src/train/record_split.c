/* record_split.c - counts the tokens of records in a micro-batch, and splits a whole file.
 * Layer 5. Includes train/record_split.h, base/. */
#include "train/record_split.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

static int64_t tokens_of(const struct plumb_record *r, int completions)
{
    int64_t tokens = completions * r->prompt.n;
    for (int c = 0; c < completions; c++)
        tokens += r->completion[c].n;
    return tokens;
}

void plumb_record_place(char *out, int64_t size, const struct plumb_record *rec, const char *path)
{
    out[0] = '\0';
    if (rec->line > 0)
        snprintf(out, (size_t)size, "%s:%lld: ", path, (long long)rec->line);
}

/* Fails if a record alone has more tokens than `limit`. */
static plumb_status check_length(const struct plumb_record *rec, int completions, int64_t limit,
                                 const char *path)
{
    const int64_t tokens = tokens_of(rec, completions);
    char place[4200];
    if (tokens <= limit)
        return PLUMB_OK;
    plumb_record_place(place, sizeof(place), rec, path);
    PLUMB_FAIL(PLUMB_ERR_ARG,
               "%s%s has %lld tokens%s, more than train.micro_batch_tokens (%lld): raise it, or "
               "limit the records with data.max_tokens and data.overlong",
               place, completions > 1 ? "the pair" : "the record", (long long)tokens,
               completions > 1 ? ", with the prompt before each answer" : "", (long long)limit);
}

plumb_status plumb_record_lengths(int64_t **length, const struct plumb_dataset *data,
                                  int completions, const struct plumb_config *cfg, const char *path)
{
    const int64_t limit = cfg->train.micro_batch_tokens;
    *length = NULL;
    for (int64_t i = 0; i < data->n && limit > 0; i++)
        PLUMB_TRY(check_length(&data->record[i], completions, limit, path));
    *length = calloc((size_t)data->n + 1, sizeof(**length));
    PLUMB_REQUIRE(*length, PLUMB_ERR_NOMEM, "lengths of %lld records", (long long)data->n);
    for (int64_t i = 0; i < data->n; i++)
        (*length)[i] = tokens_of(&data->record[i], completions);
    return PLUMB_OK;
}

static int descending(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

plumb_status plumb_longest_batch(int64_t *out, const struct plumb_dataset *data, int completions,
                                 int64_t micro_batch)
{
    int64_t *length = calloc((size_t)data->n, sizeof(*length));
    PLUMB_REQUIRE(length, PLUMB_ERR_NOMEM, "lengths of %lld records", (long long)data->n);
    for (int64_t i = 0; i < data->n; i++)
        length[i] = tokens_of(&data->record[i], completions);
    qsort(length, (size_t)data->n, sizeof(*length), descending);
    *out = 0;
    for (int64_t i = 0; i < plumb_min_i64(data->n, micro_batch); i++)
        *out += length[i];
    free(length);
    return PLUMB_OK;
}

plumb_status plumb_record_split(struct plumb_batch_split *c, struct plumb_split_most *most,
                                const struct plumb_dataset *data, int completions,
                                const struct plumb_config *cfg, const char *path)
{
    const int64_t size = cfg->train.micro_batch_size;
    int64_t *length;
    *most = (struct plumb_split_most){0};
    PLUMB_TRY(plumb_split_init(c, data->n, data->n, size, cfg->train.micro_batch_tokens));
    if (c->tokens == 0) {
        most->micro_batches = plumb_split_micro_batches(c, 0);
        most->items = size;
        return plumb_longest_batch(&most->tokens, data, completions, size);
    }
    PLUMB_TRY(plumb_record_lengths(&length, data, completions, cfg, path));
    plumb_split_cut(c, length);
    plumb_split_raise(most, c, length);
    free(length);
    return PLUMB_OK;
}
