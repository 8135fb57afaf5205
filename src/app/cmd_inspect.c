/* cmd_inspect.c - a rollout file or a checkpoint, in words.
 * Layer 6. May include everything. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "align/scoreboard.h"
#include "app/app.h"
#include "base/num.h"
#include "data/encode.h"
#include "data/rollout_store.h"
#include "io/file.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/generate.h"
#include "model/spec.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"
#include "train/samples.h"

/* Rollouts shown one by one. */
enum { SHOWN = 8, RECORD_COLUMNS = 2000 };

static void print_summary(const struct plumb_rollouts *r, const char *path)
{
    struct plumb_moments reward[2] = {{0}, {0}};
    int64_t branch[PLUMB_BRANCH_COUNT] = {0}, stop[4] = {0}, missing = 0, answered = 0;
    for (int64_t i = 0; i < r->n; i++) {
        if (isfinite(r->reward[i]))
            plumb_moments_add(&reward[r->principled[i] != 0], (double)r->reward[i]);
        else
            missing++;
        if (r->branch[i] < PLUMB_BRANCH_COUNT)
            branch[r->branch[i]]++;
        if (r->stop_reason[i] < 4)
            stop[r->stop_reason[i]]++;
        answered += r->offsets[i + 1] - r->completion_start[i];
    }
    printf("%s: iteration %lld, %lld rollouts of seed %" PRIu64 ", written by %lld ranks\n", path,
           (long long)r->meta.iteration, (long long)r->n, r->meta.seed,
           (long long)r->meta.world_size);
    printf("  tokens      %lld, of them %lld answered (%.1f per completion)\n",
           (long long)r->n_tokens, (long long)answered,
           r->n ? (double)answered / (double)r->n : 0.0);
    for (int side = 0; side < 2; side++)
        if (reward[side].count > 0)
            printf("  reward      %-10s mean %+.4f, std %.4f, of %lld\n",
                   side ? "principled" : "plain", reward[side].mean,
                   sqrt(plumb_moments_var(&reward[side])), (long long)reward[side].count);
    printf("  missing     %lld rewards\n  branch     ", (long long)missing);
    for (int b = 0; b < PLUMB_BRANCH_COUNT; b++)
        printf(" %s %lld", plumb_branch_names[b], (long long)branch[b]);
    printf("\n  stopped by ");
    for (int s = 0; s < 4; s++)
        printf(" %s %lld", plumb_stop_name((enum plumb_stop)s), (long long)stop[s]);
    if (r->n > 0)
        printf("\n  weights     %016" PRIx64 ", tau %g\n", r->weight_fingerprint[0], r->tau[0]);
}

/* The text of the last message of rollout i's record instead of the whole prompt, for plain prompts
 * whose record is in the file. */
static plumb_status ask_last(struct plumb_buf *prompt, const struct plumb_rollouts *r, int64_t i)
{
    int64_t len;
    plumb_json *record = NULL;
    const char *text = plumb_rollouts_record(r, i, &len);
    if (!len || r->principled[i])
        return PLUMB_OK;
    PLUMB_TRY(plumb_json_parse(&record, text, len, "the record of a rollout"));
    const plumb_json *v = plumb_json_get(record, "prompt");
    const plumb_json *last = plumb_json_at(v, plumb_json_count(v) - 1);
    const char *content = plumb_json_string(plumb_json_get(last, "content"), NULL);
    plumb_status st = PLUMB_OK;
    if (content) {
        plumb_buf_clear(prompt);
        st = plumb_buf_add_text(prompt, content);
    }
    plumb_json_free(&record);
    return st;
}

/* What the rewards were given with the answers, where the file has it. */
static plumb_status print_records(const struct plumb_rollouts *r)
{
    struct plumb_buf line = {0};
    plumb_status st = PLUMB_OK;
    int64_t shown = 0, len;
    for (int64_t i = 0; i < r->n && shown < SHOWN && st == PLUMB_OK; i++) {
        const char *text = plumb_rollouts_record(r, i, &len);
        if (!len || (i > 0 && r->prompt_id[i] == r->prompt_id[i - 1]))
            continue;
        struct plumb_buf whole = {0};
        plumb_buf_clear(&line);
        st = plumb_buf_add(&whole, text, len);
        if (st == PLUMB_OK)
            st = plumb_samples_cut(&line, plumb_buf_text(&whole), RECORD_COLUMNS, NULL);
        if (st == PLUMB_OK)
            printf("  record %-4lld %s\n", (long long)r->prompt_id[i], plumb_buf_text(&line));
        plumb_buf_fini(&whole);
        shown++;
    }
    plumb_buf_fini(&line);
    return st;
}

/* Texts when a tokenizer is at hand (tokenizer=DIR or model=DIR), ids otherwise. */
static plumb_status print_texts(const struct plumb_rollouts *r, const plumb_tokenizer *tokenizer)
{
    struct plumb_buf prompt = {0}, answer = {0}, table = {0};
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < plumb_min_i64(r->n, SHOWN); i++) {
        const int64_t begin = r->offsets[i], middle = r->completion_start[i];
        plumb_buf_clear(&prompt);
        plumb_buf_clear(&answer);
        plumb_buf_clear(&table);
        PLUMB_TRY_GOTO(
            st, plumb_tokenizer_decode(tokenizer, &prompt, r->tokens + begin, middle - begin, true),
            done);
        PLUMB_TRY_GOTO(st,
                       plumb_decode_completion(tokenizer, &answer, r->tokens + begin,
                                               middle - begin, r->tokens + middle,
                                               r->offsets[i + 1] - middle),
                       done);
        PLUMB_TRY_GOTO(st, ask_last(&prompt, r, i), done);
        const struct plumb_sample_row row = {.prompt = plumb_buf_text(&prompt),
                                             .completion = plumb_buf_text(&answer),
                                             .reward = (double)r->reward[i],
                                             .principled = r->principled[i] != 0};
        PLUMB_TRY_GOTO(st, plumb_samples_format(&table, &row, 1, plumb_samples_width()), done);
        const char *text = plumb_buf_text(&table), *line = strchr(text, '\n');
        fputs(i == 0 || !line ? text : line + 1, stdout);
    }
done:
    plumb_buf_fini(&prompt);
    plumb_buf_fini(&answer);
    plumb_buf_fini(&table);
    return st;
}

static plumb_status inspect_rollouts(const struct plumb_config *cfg)
{
    struct plumb_rollouts *r = NULL;
    plumb_tokenizer *tokenizer = NULL;
    const char *dir = *cfg->tokenizer ? cfg->tokenizer : cfg->model;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_rollouts_read(&r, cfg->input), done);
    print_summary(r, cfg->input);
    PLUMB_TRY_GOTO(st, print_records(r), done);
    if (*dir) {
        PLUMB_TRY_GOTO(st, plumb_tokenizer_open(&tokenizer, dir), done);
        st = print_texts(r, tokenizer);
    }
done:
    plumb_tokenizer_close(&tokenizer);
    plumb_rollouts_destroy(&r);
    return st;
}

static plumb_status inspect_state(const char *dir)
{
    struct plumb_train_state state;
    PLUMB_TRY(plumb_checkpoint_verify(dir));
    PLUMB_TRY(plumb_checkpoint_read_state(&state, dir));
    printf(
        "  trained     step %lld of %lld, iteration %lld, %lld prompts, %lld tokens, seed %" PRIu64
        "\n",
        (long long)state.step, (long long)state.total_steps, (long long)state.iteration,
        (long long)state.prompt_cursor, (long long)state.num_tokens, state.seed);
    printf("  config      %016" PRIx64 "\n  weights     %016" PRIx64
           ", the run began with %016" PRIx64 "\n",
           state.config_hash, state.weight_fingerprint, state.start_fingerprint);
    for (int64_t i = 0; i < state.n_values; i++)
        printf("  state       %s = %.17g\n", state.value[i].name, state.value[i].value);
    printf("  files       all match hashes.json\n");
    return PLUMB_OK;
}

static plumb_status inspect_model(const char *dir)
{
    static const char *const family[] = {"llama", "mistral", "qwen2", "qwen3"};
    struct plumb_spec s;
    PLUMB_TRY(plumb_spec_read(&s, dir));
    plumb_st *st = NULL;
    PLUMB_TRY(plumb_st_open_dir(&st, dir));
    int64_t count = 0, bytes = 0;
    for (int64_t i = 0; i < plumb_st_count(st); i++) {
        count += plumb_st_at(st, i)->count;
        bytes += plumb_st_at(st, i)->bytes;
    }
    printf("%s: %s%s, %.3f M parameters in %lld tensors, %.1f MB\n", dir, family[s.family],
           s.labels > 0 ? " sequence classifier" : "", 1e-6 * (double)count,
           (long long)plumb_st_count(st), 1e-6 * (double)bytes);
    printf(
        "  shape       %lld layers, hidden %lld, feed-forward %lld, %lld heads (%lld kv) of %lld, "
        "vocabulary %lld, context %lld%s\n",
        (long long)s.l, (long long)s.c, (long long)s.f, (long long)s.h, (long long)s.hk,
        (long long)s.d, (long long)s.v, (long long)s.max_pos, s.tied ? ", tied head" : "");
    plumb_st_close(&st);
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, "trainer_state.h5"));
    return plumb_file_exists(path) ? inspect_state(dir) : PLUMB_OK;
}

plumb_status plumb_cmd_inspect(struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0) {
        if (strcmp(cfg->input, "-") == 0)
            st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                               "input: is not set; name a rollout file or a checkpoint folder");
        else
            st = plumb_dir_exists(cfg->input) ? inspect_model(cfg->input) : inspect_rollouts(cfg);
    }
    return plumb_comm_agree(app->comm, st);
}
