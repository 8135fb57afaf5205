/* length.c - lengths of sequences, and warnings about limits that they exceed.
 * Layer 4. Includes base/, config/, io/, data/length.h. */
#include "data/length.h"

#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "io/json.h"

int64_t plumb_length_longest(const struct plumb_dataset *d)
{
    int64_t longest = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const struct plumb_record *r = &d->record[i];
        const int64_t guided = plumb_max_i64(r->principled.n, r->contrary.n);
        const int64_t answer = plumb_max_i64(r->completion[0].n, r->completion[1].n);
        longest = plumb_max_i64(longest, plumb_max_i64(r->prompt.n, guided) + answer);
    }
    return longest;
}

/* Returns a number from the JSON file DIR/FILE, or NaN if the file or the number is missing. */
static double number_of(const char *dir, const char *file, const char *key)
{
    char path[4096];
    plumb_json *root = NULL;
    double value = NAN;
    if (plumb_path_join(path, sizeof(path), dir, file) == PLUMB_OK && plumb_file_exists(path) &&
        plumb_json_read_file(&root, path) == PLUMB_OK)
        value = plumb_json_real(plumb_json_get(root, key), NAN);
    plumb_json_free(&root);
    return value;
}

void plumb_length_note(const struct plumb_config *cfg, int64_t longest)
{
    const double context = number_of(cfg->model, "config.json", "max_position_embeddings");
    const double most = number_of(cfg->tokenizer, "tokenizer_config.json", "model_max_length");
    double planned = (double)longest;
    if (cfg->data.max_tokens > 0)
        planned = fmin(planned, (double)cfg->data.max_tokens);
    planned = fmin(planned, context); /* if context is NaN, fmin returns planned */
    if (!(most >= 1 && planned > most))
        return;
    char known[64] = "not in config.json";
    if (!isnan(context))
        snprintf(known, sizeof(known), "%.0f in config.json", context);
    plumb_log_alike("%s/tokenizer_config.json: model_max_length is %.0f, but sequences of up to "
                    "%.0f tokens are planned (max_position_embeddings is %s): the model may not be "
                    "made for so many; data.max_tokens=%.0f limits them",
                    cfg->tokenizer, most, planned, known, most);
}

int64_t plumb_length_generated(const struct plumb_config *cfg, int64_t longest, int64_t context)
{
    const int64_t most = plumb_at_most(cfg->data.max_tokens, context);
    const int64_t wanted = longest + cfg->generate.max_new_tokens;
    if (wanted > most)
        plumb_log_once(PLUMB_LOG_WARN,
                       "generate.max_new_tokens: %lld, but prompt and completion together may have "
                       "%lld tokens (%s), and the longest prompt has %lld: its completions end "
                       "after %lld",
                       (long long)cfg->generate.max_new_tokens, (long long)most,
                       most < context ? "data.max_tokens" : "the model's context length",
                       (long long)longest, (long long)plumb_max_i64(most - longest, 0));
    return plumb_min_i64(wanted, most);
}
