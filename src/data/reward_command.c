/* reward_command.c - scores from an external command.
 * Layer 4. Includes base/, io/, data/line_client.h, data/reward.h. */
#include "data/reward_command.h"

#include "data/line_client.h"
#include "io/json.h"
#include <float.h>
#include <math.h>
#include <stdio.h>

/* Arguments of one call of plumb_reward_command_score. */
struct scoring {
    double *score;
    const struct plumb_reward_item *item;
    struct plumb_reward_missing *missing;
};

plumb_status plumb_reward_command_create(plumb_reward_command **out, const char *command,
                                         double timeout_s, int64_t restarts)
{
    return plumb_line_client_create(out, "reward command", command, timeout_s, restarts);
}

void plumb_reward_command_destroy(plumb_reward_command **c)
{
    plumb_line_client_destroy(c);
}

/* Members that plumb itself writes into each line. */
static const char *const taken[] = {"prompt_id", "sample", "completion", "completion_messages"};

/* Appends the member "solution" if the solution is known but the record has no such member. Its
 * value is the record's "answer" as written, or item->solution if there is no "answer" either. */
static plumb_status put_solution(struct plumb_buf *b, const struct plumb_reward_item *item)
{
    struct plumb_columns value;
    if (!item->solution || plumb_columns_find(item->record, "solution", &value))
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_add_text(b, ", \"solution\": "));
    if (plumb_columns_find(item->record, "answer", &value))
        return plumb_buf_add(b, value.text, value.len);
    return plumb_json_put_string(b, item->solution, item->solution_len);
}

static plumb_status put_line(void *arg, int64_t i, struct plumb_buf *b)
{
    const struct plumb_reward_item *item = &((struct scoring *)arg)->item[i];
    PLUMB_TRY(plumb_buf_addf(b, "{\"prompt_id\": %lld, \"sample\": %d, \"prompt\": ",
                             (long long)item->prompt_id, item->sample));
    PLUMB_TRY(plumb_json_put_string(b, item->prompt, item->prompt_len));
    PLUMB_TRY(plumb_buf_add_text(b, ", \"completion\": "));
    PLUMB_TRY(plumb_json_put_string(b, item->completion, item->completion_len));
    PLUMB_TRY(plumb_buf_add_text(
        b, ", \"completion_messages\": [{\"role\": \"assistant\", \"content\": "));
    PLUMB_TRY(plumb_json_put_string(b, item->completion, item->completion_len));
    PLUMB_TRY(plumb_buf_add_text(b, "}]"));
    PLUMB_TRY(plumb_columns_put(b, item->record, taken, sizeof taken / sizeof taken[0],
                                item->given ? "completion" : NULL));
    PLUMB_TRY(put_solution(b, item));
    return plumb_buf_add_text(b, "}\n");
}

static bool miss(struct scoring *s, int64_t i, enum plumb_missing why, const char *what)
{
    s->score[i] = NAN;
    if (!s->missing->example[0])
        snprintf(s->missing->example, sizeof s->missing->example, "%.100s", what);
    s->missing->count[why]++;
    return why != PLUMB_MISSING_FORMAT;
}

static bool take_answer(void *arg, int64_t i, const char *line, int64_t len)
{
    struct scoring *s = arg;
    const struct plumb_reward_item *item = &s->item[i];
    plumb_json *root = NULL;
    const plumb_status parsed = plumb_json_parse(&root, line, len, "the reward command's answer");
    const plumb_json *v = plumb_json_member(root, "score");
    const enum plumb_json_type type = plumb_json_type_of(v);
    const double x = plumb_json_real(v, NAN);
    const bool ours =
        plumb_json_int(plumb_json_get(root, "prompt_id"), item->prompt_id) == item->prompt_id &&
        plumb_json_int(plumb_json_get(root, "sample"), item->sample) == item->sample;
    bool sense = true;
    if (parsed != PLUMB_OK || !ours || plumb_json_type_of(root) != PLUMB_JSON_OBJECT || !v)
        sense = miss(s, i, PLUMB_MISSING_FORMAT, line);
    else if (type == PLUMB_JSON_NULL)
        sense = miss(s, i, PLUMB_MISSING_NULL, line);
    else if ((type != PLUMB_JSON_REAL && type != PLUMB_JSON_INT) || !(fabs(x) <= FLT_MAX))
        sense = miss(s, i, PLUMB_MISSING_NUMBER, line);
    else
        s->score[i] = x;
    plumb_json_free(&root);
    return sense;
}

static void no_answer(void *arg, int64_t i, enum plumb_line_end why)
{
    struct scoring *s = arg;
    (void)miss(s, i, why == PLUMB_LINE_TIMEOUT ? PLUMB_MISSING_TIMEOUT : PLUMB_MISSING_DIED,
               s->item[i].completion);
}

plumb_status plumb_reward_command_score(plumb_reward_command *c, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing)
{
    struct scoring s = {.score = score, .item = item, .missing = missing};
    const struct plumb_line_job job = {
        .n = n, .put = put_line, .take = take_answer, .miss = no_answer, .arg = &s};
    return plumb_line_client_run(c, &job);
}
