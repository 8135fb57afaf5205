/* inspect_hdf5.c - describes the HDF5 files of plumb: rollouts, trainer state, replay, paused
 * rollouts.
 * Layer 6. Includes inspect.h, align/, data/, io/, model/, text/, train/. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align/scoreboard.h"
#include "app/inspect.h"
#include "base/log.h"
#include "base/num.h"
#include "data/encode.h"
#include "data/rollout_store.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "io/json.h"
#include "model/generate.h"
#include "report/samples.h"
#include "train/replay.h"
#include "train/state.h"

/* Number of rollouts that are printed one by one, and number of columns of a printed record. */
enum { SHOWN = 8, RECORD_COLUMNS = 2000 };

/* ---- rollouts ------------------------------------------------------------------------------- */

static void print_rewards(const struct plumb_rollout_store *r)
{
    struct plumb_moments reward[2] = {{0}, {0}};
    int64_t missing = 0;
    for (int64_t i = 0; i < r->n; i++) {
        if (isfinite(r->reward[i]))
            plumb_moments_add(&reward[r->principled[i] != 0], (double)r->reward[i]);
        else
            missing++;
    }
    for (int side = 0; side < 2; side++)
        if (reward[side].count > 0)
            plumb_inspect_row("reward", "%-10s mean %+.4f, std %.4f, of %lld",
                              side ? "principled" : "plain", reward[side].mean,
                              sqrt(plumb_moments_var(&reward[side])),
                              (long long)reward[side].count);
    plumb_inspect_row("missing", "%lld rewards", (long long)missing);
}

static plumb_status print_counts(const struct plumb_rollout_store *r)
{
    int64_t branch[PLUMB_BRANCH_COUNT] = {0}, stop[4] = {0}, answered = 0;
    struct plumb_buf text = {0};
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < r->n; i++) {
        if (r->branch[i] < PLUMB_BRANCH_COUNT)
            branch[r->branch[i]]++;
        if (r->stop_reason[i] < 4)
            stop[r->stop_reason[i]]++;
        answered += r->offsets[i + 1] - r->completion_start[i];
    }
    plumb_inspect_row("tokens", "%lld, of them %lld answered (%.1f per completion)",
                      (long long)r->n_tokens, (long long)answered,
                      r->n ? (double)answered / (double)r->n : 0.0);
    print_rewards(r);
    for (int b = 0; b < PLUMB_BRANCH_COUNT; b++)
        PLUMB_TRY_GOTO(st,
                       plumb_buf_addf(&text, "%s%s %lld", b ? ", " : "", plumb_branch_names[b],
                                      (long long)branch[b]),
                       done);
    plumb_inspect_row("branch", "%s", plumb_buf_text(&text));
    plumb_buf_clear(&text);
    for (int s = 0; s < 4; s++)
        PLUMB_TRY_GOTO(st,
                       plumb_buf_addf(&text, "%s%s %lld", s ? ", " : "",
                                      plumb_stop_name((enum plumb_stop)s), (long long)stop[s]),
                       done);
    plumb_inspect_row("stopped by", "%s", plumb_buf_text(&text));
    if (r->n > 0)
        plumb_inspect_row("weights", "%016" PRIx64 ", tau %g", r->weight_fingerprint[0], r->tau[0]);
done:
    plumb_buf_fini(&text);
    return st;
}

/* Replaces the prompt by the text of its last message, if the file has the record of rollout i, the
 * record's prompt is a list of messages, and the rollout has no principle. */
static plumb_status ask_last(struct plumb_buf *prompt, const struct plumb_rollout_store *r,
                             int64_t i)
{
    int64_t len;
    plumb_json *record = NULL;
    const char *text = plumb_rollout_store_record(r, i, &len);
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

/* Prints the records from which the rewards were computed, if the file has them. */
static plumb_status print_records(const struct plumb_rollout_store *r)
{
    struct plumb_buf line = {0};
    plumb_status st = PLUMB_OK;
    int64_t shown = 0, len;
    for (int64_t i = 0; i < r->n && shown < SHOWN && st == PLUMB_OK; i++) {
        const char *text = plumb_rollout_store_record(r, i, &len);
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

static plumb_status print_texts(const struct plumb_rollout_store *r,
                                const plumb_tokenizer *tokenizer)
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

/* Opens the tokenizer that the option tokenizer names, or else the tokenizer of the run that wrote
 * the rollout file. *out is NULL if there is none. */
static plumb_status open_words(plumb_tokenizer **out, const struct plumb_inspect *w)
{
    char dir[4096], latest[4096], file[4096];
    *out = NULL;
    if (*w->words)
        return plumb_tokenizer_open(out, w->words);
    PLUMB_TRY(plumb_inspect_folder_of(dir, w->path));
    PLUMB_TRY(plumb_path_join(latest, sizeof(latest), dir, "../latest"));
    PLUMB_TRY(plumb_path_join(file, sizeof(file), latest, "tokenizer.json"));
    return plumb_file_exists(file) ? plumb_tokenizer_open(out, latest) : PLUMB_OK;
}

static plumb_status inspect_rollouts(const struct plumb_inspect *w)
{
    struct plumb_rollout_store *r = NULL;
    plumb_tokenizer *tokenizer = NULL;
    plumb_status st;
    PLUMB_TRY_GOTO(st, plumb_rollout_store_read(&r, w->path), done);
    plumb_inspect_head(
        w, "iteration %lld, %lld rollout%s of seed %" PRIu64 ", written by %lld rank%s",
        (long long)r->meta.iteration, (long long)r->n, plumb_plural(r->n), r->meta.seed,
        (long long)r->meta.world_size, plumb_plural(r->meta.world_size));
    PLUMB_TRY_GOTO(st, print_counts(r), done);
    PLUMB_TRY_GOTO(st, print_records(r), done);
    PLUMB_TRY_GOTO(st, open_words(&tokenizer, w), done);
    if (tokenizer)
        st = print_texts(r, tokenizer);
    else
        plumb_inspect_row("texts", "with tokenizer=DIR");
done:
    plumb_tokenizer_close(&tokenizer);
    plumb_rollout_store_destroy(&r);
    return st;
}

/* Prints one line for each iteration whose rollouts are in the folder. */
plumb_status plumb_inspect_rollout_folder(const struct plumb_inspect *w)
{
    struct plumb_names names = {0};
    char path[4096];
    plumb_status st;
    PLUMB_TRY(plumb_dir_list(&names, w->path));
    plumb_inspect_head(w, "a folder of rollouts");
    for (int64_t i = 0; i < names.n; i++) {
        struct plumb_rollout_store *r = NULL;
        struct plumb_moments reward = {0};
        if (strncmp(names.name[i], "iteration-", 10) != 0 || strstr(names.name[i], ".rank-"))
            continue;
        PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), w->path, names.name[i]), done);
        PLUMB_TRY_GOTO(st, plumb_rollout_store_read(&r, path), done);
        for (int64_t k = 0; k < r->n; k++)
            if (isfinite(r->reward[k]))
                plumb_moments_add(&reward, (double)r->reward[k]);
        printf("  %s  %lld rollouts, %lld tokens, mean reward %+.4f\n", names.name[i],
               (long long)r->n, (long long)r->n_tokens, reward.count ? reward.mean : (double)NAN);
        plumb_rollout_store_destroy(&r);
    }
done:
    plumb_names_fini(&names);
    return st;
}

/* ---- trainer state -------------------------------------------------------------------------- */

plumb_status plumb_inspect_state(const struct plumb_inspect *w)
{
    struct plumb_train_state s;
    plumb_h5 *f = NULL;
    plumb_status st;
    PLUMB_TRY(plumb_h5_open(&f, w->path));
    PLUMB_TRY_GOTO(st, plumb_state_read(&s, f), done);
    plumb_inspect_row(
        "trained", "step %lld of %lld, iteration %lld, %lld prompt%s, %lld tokens, seed %" PRIu64,
        (long long)s.step, (long long)s.total_steps, (long long)s.iteration,
        (long long)s.prompt_cursor, plumb_plural(s.prompt_cursor), (long long)s.num_tokens, s.seed);
    plumb_inspect_row("config", "%016" PRIx64, s.config_hash);
    plumb_inspect_row("weights", "%016" PRIx64 ", the run began with %016" PRIx64,
                      s.weight_fingerprint, s.start_fingerprint);
    if (s.stored_fingerprint)
        plumb_inspect_row("", "%016" PRIx64 " in the weights files, which are rounded",
                          s.stored_fingerprint);
    for (int64_t i = 0; i < s.n_values; i++)
        plumb_inspect_row("state", "%s = %.17g", s.value[i].name, s.value[i].value);
done:
    plumb_h5_close(&f);
    return st;
}

/* ---- replay files, and answers of a run paused in an iteration ------------------------------ */

static plumb_status inspect_replay(const struct plumb_inspect *w)
{
    struct plumb_replay r = {0};
    struct plumb_micro m = {0};
    char records[400];
    PLUMB_TRY(plumb_replay_read(&r, &m, w->path));
    plumb_micro_describe(records, sizeof(records), &m);
    plumb_inspect_head(w, "micro-batch %lld of step %lld of %s %s; plumb replay %s runs it again",
                       (long long)r.micro_batch, (long long)r.step, r.command, r.method, w->path);
    plumb_inspect_row("recorded", "%s: %s", plumb_replay_outcomes[r.outcome], r.reason);
    plumb_inspect_row("records", "%s", records);
    plumb_inspect_row("sequences", "%lld", (long long)m.pack.n_seq);
    if (r.outcome != PLUMB_REPLAY_FORWARD)
        plumb_inspect_row("loss", "%.9g, gradient %016" PRIx64, r.loss, r.gradient_hash);
    plumb_inspect_row("weights", "%016" PRIx64 " in %s", r.fingerprint, r.weights);
    plumb_micro_fini(&m);
    plumb_replay_fini(&r);
    return PLUMB_OK;
}

static plumb_status count_ones(int64_t *out, const plumb_h5 *f, const char *name, int64_t n)
{
    uint8_t *x = malloc((size_t)n + 1);
    PLUMB_REQUIRE(x, PLUMB_ERR_NOMEM, "flags of %lld completions", (long long)n);
    const plumb_status st = plumb_h5_read(f, name, PLUMB_H5_U8, 0, n, x);
    *out = 0;
    for (int64_t i = 0; i < n && st == PLUMB_OK; i++)
        *out += x[i] != 0;
    free(x);
    return st;
}

/* Describes an HDF5 file of paused answers, which stage/pause.c wrote. */
static plumb_status inspect_answers(const struct plumb_inspect *w, const plumb_h5 *f)
{
    int64_t n, tokens, finished, scored;
    PLUMB_TRY(plumb_h5_count(f, "slot", &n));
    PLUMB_TRY(plumb_h5_count(f, "ids", &tokens));
    PLUMB_TRY(count_ones(&finished, f, "finished", n));
    PLUMB_TRY(count_ones(&scored, f, "scored", n));
    plumb_inspect_head(w, "completions of a run that was paused in an iteration, of one rank");
    plumb_inspect_row("answers", "%lld, of them %lld finished and %lld scored", (long long)n,
                      (long long)finished, (long long)scored);
    plumb_inspect_row("tokens", "%lld", (long long)tokens);
    return PLUMB_OK;
}

plumb_status plumb_inspect_hdf5(const struct plumb_inspect *w)
{
    plumb_h5 *f = NULL;
    char format[64] = "";
    PLUMB_TRY(plumb_h5_open(&f, w->path));
    plumb_status st = PLUMB_OK;
    if (!plumb_h5_has(f, "completion_start") &&
        plumb_h5_get_attr_text(f, "format", format, sizeof(format)) != PLUMB_OK)
        format[0] = '?';
    if (!strcmp(format, "plumb answers"))
        st = inspect_answers(w, f);
    plumb_h5_close(&f);
    if (!*format)
        return inspect_rollouts(w);
    if (!strcmp(format, "plumb replay"))
        return inspect_replay(w);
    if (!strcmp(format, "plumb trainer state")) {
        plumb_inspect_head(w, "the trainer state of a checkpoint");
        return plumb_inspect_state(w);
    }
    PLUMB_REQUIRE(!strcmp(format, "plumb answers"), PLUMB_ERR_UNSUPPORTED,
                  "%s: is an HDF5 file that plumb did not write; expected rollouts, a trainer "
                  "state, a replay file or paused answers",
                  w->path);
    return st;
}
