/* eval_judge.c - asks an external command which of two answers is better.
 * Layer 6. Includes app/eval.h, base/, data/line_client.h, io/.
 *
 * The command reads {"id": n, "prompt": "..", "a": "..", "b": "..", ..}; the other members are
 * those of the record, as for reward commands (data/reward_command.h). It answers {"winner": "a"},
 * "b" or "tie", or {"score": x}, where x in [0, 1] is the preference for a: a wins if x > 1/2, b
 * wins if x < 1/2. If the answer has an id, it must be that of the request. Judges are biased by
 * position, so each pair is sent twice, the second time with a and b exchanged. If the two verdicts
 * disagree, the pair is a tie (Zheng et al. 2023, arXiv:2306.05685, section 3.4). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "app/eval.h"
#include "base/log.h"
#include "data/line_client.h"
#include "io/json.h"

/* State of the comparison of one model with the first model. Pair j is answer j of both models.
 * Request 2 j sends pair j with this model's answer as a, request 2 j + 1 with this model's answer
 * as b. */
struct judging {
    const struct plumb_eval *e;
    const struct plumb_dataset *data;
    struct plumb_eval_model *m;
    int first_verdict; /* verdict of the pair's first request; NO_VERDICT if the judge gave none */
    int64_t missing;
    char example[200];
};
enum { NO_VERDICT = 2 };

/* The members of a request, besides "prompt", that plumb sets itself. A member of the record with
 * such a name is written inside of the request's member "record" (plumb_columns_put). */
static const char *const taken[] = {"id", "a", "b"};

static plumb_status put_question(void *arg, int64_t i, struct plumb_buf *out)
{
    const struct judging *j = arg;
    const struct plumb_rollout *ours = &j->m->answers.at[i / 2];
    const struct plumb_rollout *theirs = &j->e->model[0].answers.at[i / 2];
    const struct plumb_piece *prompt = &j->data->record[ours->record].prompt;
    const struct plumb_buf *a = i % 2 ? &theirs->text : &ours->text;
    const struct plumb_buf *b = i % 2 ? &ours->text : &theirs->text;
    PLUMB_TRY(plumb_buf_addf(out, "{\"id\": %lld, \"prompt\": ", (long long)i));
    PLUMB_TRY(plumb_json_put_string(out, prompt->text, prompt->len));
    PLUMB_TRY(plumb_buf_add_text(out, ", \"a\": "));
    PLUMB_TRY(plumb_json_put_string(out, plumb_buf_text(a), a->len));
    PLUMB_TRY(plumb_buf_add_text(out, ", \"b\": "));
    PLUMB_TRY(plumb_json_put_string(out, plumb_buf_text(b), b->len));
    PLUMB_TRY(plumb_columns_put(out, j->data->record[ours->record].json, taken,
                                sizeof taken / sizeof taken[0], NULL));
    return plumb_buf_add_text(out, "}\n");
}

/* Takes the verdict for request i: 1 = a wins, -1 = b wins, 0 = tie, or NO_VERDICT, where `why`
 * says why there is none. Stores a pair's result if both of its requests have a verdict. */
static void take_verdict(struct judging *j, int64_t i, int verdict, const char *why)
{
    if (verdict == NO_VERDICT && !j->missing++)
        snprintf(j->example, sizeof(j->example), "%.190s", why);
    if (i % 2 == 0) {
        j->first_verdict = verdict;
        return;
    }
    if (j->first_verdict == NO_VERDICT || verdict == NO_VERDICT)
        return;
    const struct plumb_rollout *o = &j->m->answers.at[i / 2];
    double *v =
        j->m->value + (o->prompt * j->e->app->cfg->eval.samples + o->sample) * PLUMB_EVAL_VALUES;
    const int swapped = -verdict; /* in this second request this model's answer was b */
    v[EVAL_JUDGED] = 1;
    v[EVAL_VERDICT] = j->first_verdict == swapped ? swapped : 0;
    v[EVAL_DISAGREED] = j->first_verdict != swapped;
}

static bool take_answer(void *arg, int64_t i, const char *line, int64_t len)
{
    plumb_json *root = NULL;
    int verdict = NO_VERDICT;
    bool sense = false;
    if (plumb_json_parse(&root, line, len, "the judge's answer") == PLUMB_OK) {
        const plumb_json *winner = plumb_json_member(root, "winner");
        const plumb_json *score = plumb_json_member(root, "score");
        const char *name = plumb_json_string(winner, "");
        const double x = plumb_json_real(score, NAN);
        const bool ours = plumb_json_int(plumb_json_member(root, "id"), i) == i;
        if (!ours)
            verdict = NO_VERDICT;
        else if (!strcmp(name, "a") || !strcmp(name, "b") || !strcmp(name, "tie"))
            verdict = *name == 'a' ? 1 : *name == 'b' ? -1 : 0;
        else if (!winner && x >= 0 && x <= 1)
            verdict = (x > 0.5) - (x < 0.5);
        const plumb_json *said = winner ? winner : score;
        sense =
            verdict != NO_VERDICT || (ours && said && plumb_json_type_of(said) == PLUMB_JSON_NULL);
    }
    take_verdict(arg, i, verdict, line);
    plumb_json_free(&root);
    return sense;
}

static void no_answer(void *arg, int64_t i, enum plumb_line_end why)
{
    take_verdict(arg, i, NO_VERDICT,
                 why == PLUMB_LINE_TIMEOUT ? "no answer in time" : "the command died");
}

plumb_status plumb_eval_judge(struct plumb_eval *e, const struct plumb_dataset *data)
{
    const struct plumb_config *cfg = e->app->cfg;
    plumb_line_client *ask = NULL;
    PLUMB_TRY(plumb_line_client_create(&ask, "judge", cfg->eval.judge, cfg->reward.timeout,
                                       cfg->reward.restarts));
    plumb_status st = PLUMB_OK;
    for (int64_t k = 1; k < e->n && st == PLUMB_OK; k++) {
        struct judging j = {.e = e, .data = data, .m = &e->model[k]};
        const struct plumb_line_job job = {
            .n = 2 * j.m->answers.prompts * j.m->answers.group_size,
            .put = put_question,
            .take = take_answer,
            .miss = no_answer,
            .arg = &j,
        };
        st = plumb_line_client_run(ask, &job);
        if (j.missing)
            plumb_log(PLUMB_LOG_WARN,
                      "%s: no verdict to %lld questions of the judge; the first: %s", j.m->name,
                      (long long)j.missing, j.example);
    }
    plumb_line_client_destroy(&ask);
    return st;
}
