/* rewards.c - computes the score of a completion as the sum over the configured reward sources.
 * Layer 5. Includes stage/rewards.h, train/pack.h, data/, io/, model/, text/. */
#include "stage/rewards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/chat.h"
#include "data/encode.h"
#include "data/encoding.h"
#include "data/reward_builtin.h"
#include "data/reward_command.h"
#include "io/file.h"
#include "text/tokenizer.h"
#include "train/pack.h"

/* Largest number of tokens in a batch of the reward model. A longer text gets a batch of its own.
 */
enum { BATCH_TOKENS = 4096 };

struct plumb_rewards {
    const struct plumb_config *cfg;
    /* The members from here to `ids` are used for reward.model, a sequence classifier. */
    plumb_tokenizer *tokenizer;
    plumb_model *model;
    plumb_pass *pass;
    int64_t longest; /* largest number of tokens of a text; a longer text gets no score */
    const struct plumb_frozen_run *frozen;
    struct plumb_lockstep lockstep;
    struct plumb_pack pack;
    float *score;   /* (pack.max_seq,) score of each packed sequence */
    int64_t *owner; /* (pack.max_seq,) item (argument of plumb_rewards_score) of each packed
                     * sequence */
    struct plumb_encoding encoding;
    struct plumb_encoder encoder;
    struct plumb_chat_setting chat; /* the reward model's chat template, for lists of messages */
    struct plumb_encoder plain;     /* encodes the output of the chat template, which contains its
                                     * special tokens already */
    struct plumb_turns turns;
    struct plumb_buf text;
    struct plumb_ids ids; /* tokens of one text */
    /* for reward.command, a program */
    plumb_reward_command *command;
    /* for reward.functions, which are built in */
    plumb_reward_builtin *builtin;
    double *part; /* (part_cap,) scores of one source */
    int64_t part_cap;
    struct plumb_reward_missing missing; /* number of completions without a finite score since
                                          * plumb_rewards_begin, by reason */
    char first[120]; /* names the first completion with a missing score, and its source */
    char fault[512]; /* text of plumb_rewards_fault */
};

bool plumb_rewards_configured(const struct plumb_config *cfg)
{
    return *cfg->reward.model || *cfg->reward.command || cfg->reward.functions.n > 0;
}

static plumb_status set_longest(plumb_rewards *r, const struct plumb_rewards_need *need)
{
    const int64_t context = r->cfg->reward.context, most = r->model->spec.max_pos;
    const int64_t trained = r->encoding.max_tokens;
    PLUMB_REQUIRE(context <= most, PLUMB_ERR_CONFIG,
                  "reward.context: found %lld, expected at most the %lld tokens of %s",
                  (long long)context, (long long)most, r->cfg->reward.model);
    r->longest = context > 0 ? context : plumb_min_i64(most, 2 * need->longest + 16);
    if (trained > 0 && context > trained)
        plumb_log(PLUMB_LOG_WARN,
                  "reward.context is %lld, but %s/" PLUMB_ENCODING_NAME " says that the reward "
                  "model was trained on texts of at most %lld tokens",
                  (long long)context, r->cfg->reward.model, (long long)trained);
    else if (trained > 0)
        r->longest = plumb_min_i64(r->longest, trained);
    return PLUMB_OK;
}

/* Sets how texts are encoded for the reward model. The texts of the prompts already contain the
 * prompt template. If the reward model was trained with another prompt template, this function only
 * warns. */
static plumb_status open_encoding(plumb_rewards *r, const char *dir,
                                  const struct plumb_rewards_need *need)
{
    const char *given =
        need->prompt_template ? need->prompt_template : r->cfg->data.prompt_template;
    PLUMB_TRY(plumb_encoding_of(&r->encoding, r->cfg, dir, r->tokenizer));
    r->encoder = (struct plumb_encoder){
        .tokenizer = r->tokenizer,
        .append_eos = r->encoding.append_eos,
        .where = "reward.model",
    };
    r->plain = (struct plumb_encoder){.tokenizer = r->tokenizer, .no_special = true};
    if (r->tokenizer)
        PLUMB_TRY(plumb_chat_open_folder(&r->chat, dir));
    if (r->tokenizer && r->encoding.prompt_template &&
        strcmp(r->encoding.prompt_template, given) != 0)
        plumb_encoding_differs(dir, given, r->encoding.prompt_template);
    return PLUMB_OK;
}

static plumb_status open_model(plumb_rewards *r, struct plumb_backend *backend,
                               const struct plumb_rewards_need *need)
{
    const char *dir = r->cfg->reward.model;
    PLUMB_TRY(plumb_dir_check_input(dir, "reward.model"));
    if (!backend->dry)
        PLUMB_TRY(plumb_tokenizer_open(&r->tokenizer, dir));
    PLUMB_TRY(open_encoding(r, dir, need));
    static const struct plumb_frozen resident = {.mode = PLUMB_FROZEN_RESIDENT};
    r->frozen = need->frozen;
    PLUMB_TRY(plumb_model_open_frozen(&r->model, backend, dir, need->ahead ? 1 : 0,
                                      r->frozen ? &r->frozen->how : &resident));
    PLUMB_TRY(plumb_model_fit_tokenizer(r->model, r->tokenizer, dir));
    PLUMB_REQUIRE(r->model->spec.labels == 1, PLUMB_ERR_UNSUPPORTED,
                  "reward.model: %s gives %lld scores; expected a sequence classifier with one",
                  dir, (long long)r->model->spec.labels);
    PLUMB_TRY(set_longest(r, need));
    /* Rotary embeddings of type longrope get the factors for the longest text of the reward model's
     * training, if that length is known, otherwise those for r->longest. */
    PLUMB_TRY(plumb_model_set_longest(
        r->model, r->encoding.max_tokens > 0 ? r->encoding.max_tokens : r->longest, dir));
    const int64_t items = plumb_max_i64(need->items, 1);
    const int64_t all = items < BATCH_TOKENS / r->longest ? items * r->longest : BATCH_TOKENS;
    PLUMB_TRY(plumb_pack_init(&r->pack, plumb_max_i64(all, r->longest),
                              plumb_min_i64(items, BATCH_TOKENS / 4)));
    r->score = calloc((size_t)r->pack.max_seq, sizeof(*r->score));
    r->owner = calloc((size_t)r->pack.max_seq, sizeof(*r->owner));
    PLUMB_REQUIRE(r->score && r->owner, PLUMB_ERR_NOMEM, "batch of the reward model");
    const struct plumb_pass_limit limit = plumb_pack_limit(&r->pack, false, false, 0);
    const struct plumb_memory_scope outer =
        plumb_memory_enter(backend, "reward pass", PLUMB_PHASE_REWARD);
    const plumb_status st = plumb_pass_create(&r->pass, r->model, &limit);
    plumb_memory_leave(backend, outer);
    return st;
}

plumb_status plumb_rewards_create(plumb_rewards **out, const struct plumb_config *cfg,
                                  struct plumb_backend *backend,
                                  const struct plumb_rewards_need *need)
{
    *out = NULL;
    PLUMB_REQUIRE(plumb_rewards_configured(cfg), PLUMB_ERR_CONFIG,
                  "reward: nothing is configured; set reward.model (a sequence classification "
                  "checkpoint), reward.command (a program) or reward.functions");
    plumb_rewards *r = calloc(1, sizeof(*r));
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "reward sources");
    r->cfg = cfg;
    plumb_status st = PLUMB_OK;
    if (*cfg->reward.model)
        PLUMB_TRY_GOTO(st, open_model(r, backend, need), fail);
    if (*cfg->reward.command && !backend->dry) {
        PLUMB_TRY_GOTO(st,
                       plumb_reward_command_create(&r->command, cfg->reward.command,
                                                   cfg->reward.timeout, cfg->reward.restarts),
                       fail);
    }
    PLUMB_TRY_GOTO(st, plumb_reward_builtin_check(&cfg->reward.functions), fail);
    if (cfg->reward.functions.n > 0 && !backend->dry)
        PLUMB_TRY_GOTO(st, plumb_reward_builtin_create(&r->builtin, &cfg->reward.functions), fail);
    *out = r;
    return PLUMB_OK;
fail:
    plumb_rewards_destroy(&r);
    return st;
}

const plumb_model *plumb_rewards_model(const plumb_rewards *r)
{
    return r ? r->model : NULL;
}

plumb_status plumb_rewards_check_records(const plumb_rewards *r, const struct plumb_dataset *data,
                                         const char *path)
{
    const char *field = NULL;
    int64_t lacking = 0, line = 0;
    for (int64_t i = 0; r->builtin && i < data->n; i++) {
        const struct plumb_record *rec = &data->record[i];
        const char *name = plumb_reward_builtin_lacks(r->builtin, rec->json, rec->solution != NULL);
        if (name && lacking++ == 0) {
            field = name;
            line = rec->line;
        }
    }
    PLUMB_REQUIRE((double)lacking <= r->cfg->reward.max_missing * (double)data->n, PLUMB_ERR_FORMAT,
                  "%s:%lld: field \"%s\": found nothing, but reward.functions reads it; %lld of "
                  "%lld records lack a field that the reward needs (at most reward.max_missing of "
                  "the scores may be missing)",
                  path, (long long)line, field, (long long)lacking, (long long)data->n);
    return PLUMB_OK;
}

void plumb_rewards_destroy(plumb_rewards **rp)
{
    plumb_rewards *r = *rp;
    if (!r)
        return;
    plumb_reward_builtin_destroy(&r->builtin);
    plumb_reward_command_destroy(&r->command);
    plumb_pass_destroy(&r->pass);
    plumb_pack_fini(&r->pack);
    plumb_model_destroy(&r->model);
    plumb_tokenizer_close(&r->tokenizer);
    plumb_encoder_fini(&r->encoder);
    plumb_encoder_fini(&r->plain);
    plumb_chat_close(&r->chat);
    plumb_turns_fini(&r->turns);
    plumb_buf_fini(&r->text);
    plumb_encoding_fini(&r->encoding);
    plumb_ids_fini(&r->ids);
    free(r->score);
    free(r->owner);
    free(r->part);
    free(r);
    *rp = NULL;
}

const char *plumb_rewards_fault(const plumb_rewards *r)
{
    return r->fault;
}

static plumb_status flush_pack(plumb_rewards *r, double *score,
                               struct plumb_reward_missing *missing)
{
    if (r->pack.n_seq == 0)
        return PLUMB_OK;
    const struct plumb_batch batch = plumb_pack_batch(&r->pack);
    PLUMB_TRY(plumb_lockstep_pass(&r->lockstep, r->frozen, r->model));
    PLUMB_TRY(plumb_pass_score(r->pass, r->model, &batch, r->score));
    for (int64_t q = 0; q < r->pack.n_seq; q++) {
        score[r->owner[q]] = (double)r->score[q];
        missing->count[PLUMB_MISSING_NUMBER] += !isfinite(r->score[q]);
    }
    plumb_pack_clear(&r->pack);
    return PLUMB_OK;
}

/* Renders a conversation to r->text with the reward model's chat template. The conversation is the
 * record's list of messages "prompt", followed by the completion as one message of the assistant.
 * If the item's completion was given in the record as a list of messages, these follow instead. An
 * item that is `alone` has no completion; its conversation is the record's field "messages". */
static plumb_status put_turns(plumb_rewards *r, const struct plumb_reward_item *item,
                              const plumb_json *record)
{
    const plumb_json *given = plumb_json_get(record, "completion");
    const char *where = "reward.model";
    plumb_turns_clear(&r->turns);
    plumb_buf_clear(&r->text);
    PLUMB_TRY(plumb_turns_add(&r->turns, &r->chat,
                              plumb_json_get(record, item->alone ? "messages" : "prompt"), NULL,
                              item->alone ? "messages" : "prompt", 0, -1, where));
    if (!item->alone && item->given && plumb_json_type_of(given) == PLUMB_JSON_ARRAY)
        PLUMB_TRY(plumb_turns_add(&r->turns, &r->chat, given, NULL, "completion", 0, -1, where));
    else if (!item->alone)
        PLUMB_TRY(plumb_turns_add_text(&r->turns, "assistant", item->completion,
                                       item->completion_len, where));
    PLUMB_TRY(plumb_turns_complete(&r->turns, &r->chat, NULL, where));
    return plumb_turns_render(&r->turns, r->turns.n, &r->chat, record, PLUMB_TAIL_NONE, &r->text,
                              NULL, where);
}

/* Sets r->ids to the tokens of one item, and *begin to the index of its first completion token. If
 * the record holds a list of messages and the reward model has a chat template, the template
 * renders the list. Otherwise the text is the prompt followed by the completion. */
static plumb_status encode_item(plumb_rewards *r, const struct plumb_reward_item *item,
                                int64_t *begin)
{
    const struct plumb_part part[2] = {{item->prompt, item->prompt_len},
                                       {item->completion, item->completion_len}};
    const char *key = item->alone ? "messages" : "prompt";
    struct plumb_columns list = {0};
    int64_t at[3];
    if (r->chat.template && item->record.text && plumb_columns_find(item->record, key, &list) &&
        *list.text == '[') {
        plumb_json *record = NULL;
        PLUMB_TRY(plumb_json_parse(&record, item->record.text, item->record.len, "reward.model"));
        plumb_status st = put_turns(r, item, record);
        plumb_json_free(&record);
        if (st == PLUMB_OK)
            st = plumb_encode_prompt(&r->plain, &r->ids, plumb_buf_text(&r->text), r->text.len);
        *begin = plumb_min_i64(r->ids.n, 1); /* the score does not depend on *begin */
        return st;
    }
    PLUMB_TRY(plumb_encode(&r->encoder, &r->ids, at, NULL, part, item->alone ? 1 : 2));
    *begin = at[1];
    return PLUMB_OK;
}

/* Scores n items with the reward model. The model reads prompt and completion as one text, as in
 * reward training. */
static plumb_status score_model(plumb_rewards *r, const struct plumb_reward_item *item, int64_t n,
                                double *score, struct plumb_reward_missing *missing)
{
    plumb_pack_clear(&r->pack);
    for (int64_t i = 0; i < n; i++) {
        int64_t begin;
        PLUMB_TRY(encode_item(r, &item[i], &begin));
        if (r->ids.n > r->longest || r->ids.n == 0) {
            score[i] = NAN;
            missing->count[r->ids.n ? PLUMB_MISSING_LONG : PLUMB_MISSING_NUMBER]++;
            continue;
        }
        if (!plumb_pack_fits(&r->pack, 1, r->ids.n))
            PLUMB_TRY(flush_pack(r, score, missing));
        r->owner[r->pack.n_seq] = i;
        PLUMB_TRY(plumb_pack_add(&r->pack, r->ids.id, begin, r->ids.id + begin, r->ids.n - begin));
    }
    return flush_pack(r, score, missing);
}

/* Adds r->part, the scores of one source, to score (n,). Where a score is missing, the sum becomes
 * missing (NaN). Writes the first item with a missing score, and the source, to r->first. */
static void add_part(plumb_rewards *r, double *score, const struct plumb_reward_item *item,
                     int64_t n, const char *source)
{
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(r->part[i]) && !r->first[0])
            snprintf(r->first, sizeof(r->first), "%s gave none to prompt record %lld sample %d",
                     source, (long long)item[i].prompt_id, item[i].sample);
        score[i] = isfinite(r->part[i]) ? score[i] + r->part[i] : NAN;
    }
}

/* Writes the reasons for missing scores, for example "3 x no answer in time, 1 x the score is null
 * (the first: ...)". */
static void describe(char *out, size_t size, const struct plumb_reward_missing *missing)
{
    size_t at = 0;
    out[0] = '\0';
    for (int m = 0; m < PLUMB_MISSING_COUNT && at < size; m++)
        if (missing->count[m] > 0)
            at += (size_t)snprintf(out + at, size - at, "%s%lld x %s", at ? ", " : "",
                                   (long long)missing->count[m],
                                   plumb_missing_text((enum plumb_missing)m));
    if (*missing->example && at < size)
        snprintf(out + at, size - at, " (the first: %s)", missing->example);
}

void plumb_rewards_begin(plumb_rewards *r)
{
    r->missing = (struct plumb_reward_missing){0};
    r->first[0] = r->fault[0] = '\0';
}

plumb_status plumb_rewards_end(plumb_rewards *r, plumb_status local)
{
    return r->model ? plumb_lockstep_end(&r->lockstep, r->frozen, r->model, local) : local;
}

plumb_status plumb_rewards_score(plumb_rewards *r, const struct plumb_reward_item *item, int64_t n,
                                 double *score)
{
    if (n > r->part_cap) {
        double *part = realloc(r->part, (size_t)n * sizeof(*part));
        PLUMB_REQUIRE(part, PLUMB_ERR_NOMEM, "scores of %lld completions", (long long)n);
        r->part = part;
        r->part_cap = n;
    }
    for (int64_t i = 0; i < n; i++)
        score[i] = 0;
    if (r->model) {
        PLUMB_TRY(score_model(r, item, n, r->part, &r->missing));
        add_part(r, score, item, n, "reward.model");
    }
    if (r->command) {
        PLUMB_TRY(plumb_reward_command_score(r->command, r->part, item, n, &r->missing));
        add_part(r, score, item, n, "reward.command");
    }
    if (r->builtin) {
        PLUMB_TRY(plumb_reward_builtin_score(r->builtin, r->part, item, n, &r->missing));
        add_part(r, score, item, n, "reward.functions");
    }
    if (r->first[0]) {
        char why[sizeof(r->fault) - sizeof(r->first) - 2];
        describe(why, sizeof(why), &r->missing);
        snprintf(r->fault, sizeof(r->fault), "%s: %s", r->first, why);
    }
    return PLUMB_OK;
}
