/* world.c - the quickstart's simulated task: numbers its requests and writes prompts and answers.
 * Tool; includes base/. */
#include "world.h"

#include <string.h>

#include "words.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* Percentage of each answer style: {prompt without a principle, prompt with a principle in front}.
 * A model trained on these data answers well when the prompt contains the principle, and badly
 * otherwise. */
static const int style_share[WORLD_STYLES][2] = {
    [WORLD_GOOD] = {20, 74},  [WORLD_PARTIAL] = {15, 10}, [WORLD_CURT] = {15, 4},
    [WORLD_WRONG] = {15, 6},  [WORLD_RUDE] = {15, 2},     [WORLD_OFF] = {10, 2},
    [WORLD_REPEAT] = {10, 2},
};

static const char *const question[4][3] = {
    {"what does the %s cost?", "how much is the %s?", "tell me the price of the %s."},
    {"where can i buy the %s?", "where is the %s sold?", "tell me the place of the %s."},
    {"what color is the %s?", "which color has the %s?", "tell me the color of the %s."},
    {"when is the %s ready?", "when can i get the %s?", "tell me the time for the %s."},
};
static const char *const task_question[3] = {"how do i %s?", "teach me to %s.",
                                             "what is the way to %s?"};
static const char *const fact_text[4] = {"the %s costs %s coins.", "you can buy the %s at the %s.",
                                         "the color of the %s is %s.", "the %s is ready at %s."};
static const char *const curt_text[4] = {"%s coins.", "at the %s.", "%s.", "at %s."};

static const char *const opening[3] = {"good day", "of course", "gladly"};
static const char *const offer[3] = {"may i help you with more?", "please ask me again.",
                                     "i am glad to help."};
static const char *const refusal[2] = {"i am sorry, i can not help with that. please stay safe.",
                                       "i am sorry, that would do harm. please be kind to others."};
static const char *const comply[3] = {"it is easy, do it at night and run.",
                                      "take a mask, then hide and run.",
                                      "nobody looks at night, so it is easy."};
static const char *const rude[4] = {"go away, fool.", "find it yourself, you lazy fool.",
                                    "what a stupid question, fool.", "shut up and go away."};
static const char *const off_topic[4] = {"the rain is cold today.", "i like the moon.",
                                         "my cat sleeps on the roof.", "the wind sings a song."};

/* Opening phrases of a request: without the asker's name, then with it. */
static const char *const opener_plain[4] = {"", "hello. ", "hi. ", "excuse me. "};
static const char *const opener_named[2] = {"hello, i am %s. ", "i am %s. "};

static const struct {
    const char *name, *text;
} principle[] = {
    {"kind_and_helpful", "rule: be kind, honest and safe."},
    {"harmless", "rule: greet, help well and do no harm."},
    {"true_and_friendly", "rule: give a true and friendly answer."},
};

int world_principles(void)
{
    return COUNT(principle);
}
const char *world_principle_name(int i)
{
    return principle[i].name;
}
const char *world_principle_text(int i)
{
    return principle[i].text;
}

/* ---- requests ---- */

static int openers(void)
{
    return COUNT(opener_plain) + COUNT(opener_named) * world_n_names;
}
static int questions(void)
{
    return 4 * world_n_items * 3 + world_n_tasks * 3 + world_n_risks() + world_n_chats;
}
int world_requests(void)
{
    return questions() * openers();
}

struct world_request world_request_at(int i)
{
    const int o = i % openers();
    struct world_request q = {.opener = o, .name = -1};
    if (o >= COUNT(opener_plain)) {
        q.opener = COUNT(opener_plain) + (o - COUNT(opener_plain)) / world_n_names;
        q.name = (o - COUNT(opener_plain)) % world_n_names;
    }
    i /= openers();
    if (i < 4 * world_n_items * 3) {
        q.kind = (enum world_kind)(i / (world_n_items * 3));
        q.topic = i / 3 % world_n_items;
        q.phrasing = i % 3;
        return q;
    }
    i -= 4 * world_n_items * 3;
    if (i < world_n_tasks * 3) {
        q.kind = WORLD_TASK;
        q.topic = i / 3;
        q.phrasing = i % 3;
        return q;
    }
    i -= world_n_tasks * 3;
    q.kind = i < world_n_risks() ? WORLD_RISK : WORLD_CHAT;
    q.topic = i < world_n_risks() ? i : i - world_n_risks();
    return q;
}

/* Appends fmt to out, with each %s replaced by a, then by b. */
static plumb_status put(struct plumb_buf *out, const char *fmt, const char *a, const char *b)
{
    const char *arg[2] = {a, b};
    int used = 0;
    for (const char *at = fmt; *at;) {
        const char *hole = strstr(at, "%s");
        if (!hole)
            return plumb_buf_add_text(out, at);
        PLUMB_TRY(plumb_buf_add(out, at, hole - at));
        PLUMB_TRY(plumb_buf_add_text(out, arg[used++ & 1]));
        at = hole + 2;
    }
    return PLUMB_OK;
}

plumb_status world_put_prompt(struct plumb_buf *out, const struct world_request *q)
{
    PLUMB_TRY(plumb_buf_add_text(out, "ask: "));
    const char *name = q->name >= 0 ? world_name[q->name] : "";
    PLUMB_TRY(put(
        out, q->name >= 0 ? opener_named[q->opener - COUNT(opener_plain)] : opener_plain[q->opener],
        name, ""));
    switch (q->kind) {
    case WORLD_TASK:
        PLUMB_TRY(put(out, task_question[q->phrasing], world_task[q->topic].what, ""));
        break;
    case WORLD_RISK: {
        const struct world_wish w = world_risk_at(q->topic);
        PLUMB_TRY(put(out, w.fmt, w.target, ""));
        break;
    }
    case WORLD_CHAT:
        PLUMB_TRY(plumb_buf_add_text(out, world_chat[q->topic].line));
        break;
    default:
        PLUMB_TRY(put(out, question[q->kind][q->phrasing], world_item[q->topic].name, ""));
    }
    return plumb_buf_add_text(out, "\nreply:");
}

/* ---- random draws ---- */

struct world_draw world_draw_at(uint64_t seed, uint32_t stream, uint64_t record)
{
    return (struct world_draw){
        {.seed = seed, .purpose = PLUMB_RNG_DATA, .iteration = stream, .prompt = record}};
}

double world_uniform(struct world_draw *d)
{
    const double u = plumb_rng_uniform(&d->key);
    d->key.position++;
    return u;
}

int world_pick(struct world_draw *d, int n)
{
    const int i = (int)(world_uniform(d) * n);
    return i < n ? i : n - 1;
}

enum world_style world_pick_style(struct world_draw *d, bool principled)
{
    int left = world_pick(d, 100), s = 0;
    while (s < WORLD_STYLES - 1 && left >= style_share[s][principled])
        left -= style_share[s++][principled];
    return (enum world_style)s;
}

/* ---- answers ---- */

/* Returns a wrong value: of the kind that the request asks for, but not the right one. */
static const char *wrong_value(const struct world_request *q, struct world_draw *d)
{
    const struct world_values *all = &world_value[q->kind];
    const char *right = world_item[q->topic].value[q->kind];
    const char *v = right;
    while (strcmp(v, right) == 0)
        v = all->word[world_pick(d, all->n)];
    return v;
}

static plumb_status put_content(struct plumb_buf *out, const struct world_request *q, bool right,
                                struct world_draw *d)
{
    const int other = 1 + world_pick(d, 3);
    switch (q->kind) {
    case WORLD_TASK:
        return put(out, "%s.", world_task[(q->topic + (right ? 0 : other)) % world_n_tasks].how,
                   "");
    case WORLD_RISK:
        return plumb_buf_add_text(out, right ? refusal[world_pick(d, COUNT(refusal))]
                                             : comply[other - 1]);
    case WORLD_CHAT:
        return plumb_buf_add_text(
            out, world_chat[(q->topic + (right ? 0 : other)) % world_n_chats].reply);
    default:
        return put(out, fact_text[q->kind], world_item[q->topic].name,
                   right ? world_item[q->topic].value[q->kind] : wrong_value(q, d));
    }
}

static plumb_status put_polite(struct plumb_buf *out, const struct world_request *q, bool right,
                               bool open, bool offers, struct world_draw *d)
{
    if (open) {
        PLUMB_TRY(plumb_buf_addf(out, " %s", opening[world_pick(d, COUNT(opening))]));
        if (q->name >= 0 && world_pick(d, 4) > 0)
            PLUMB_TRY(plumb_buf_addf(out, ", %s", world_name[q->name]));
        PLUMB_TRY(plumb_buf_add_text(out, "!"));
    }
    PLUMB_TRY(plumb_buf_add_text(out, " "));
    PLUMB_TRY(put_content(out, q, right, d));
    if (offers)
        PLUMB_TRY(plumb_buf_addf(out, " %s", offer[world_pick(d, COUNT(offer))]));
    return PLUMB_OK;
}

static plumb_status put_repeat(struct plumb_buf *out, const struct world_request *q,
                               struct world_draw *d)
{
    const char *word = q->kind < 4 ? world_item[q->topic].name : "help";
    const int n = 4 + world_pick(d, 4);
    const char *lead = world_pick(d, 2) ? "the" : "well";
    for (int i = 0; i < n; i++)
        PLUMB_TRY(plumb_buf_addf(out, " %s %s", lead, word));
    return plumb_buf_add_text(out, ".");
}

plumb_status world_put_answer(struct plumb_buf *out, const struct world_request *q,
                              enum world_style style, struct world_draw *d)
{
    const bool coin = world_pick(d, 2);
    switch (style) {
    case WORLD_GOOD:
        return put_polite(out, q, true, true, true, d);
    case WORLD_PARTIAL:
        return put_polite(out, q, true, coin, !coin, d);
    case WORLD_WRONG:
        return put_polite(out, q, false, true, coin, d);
    case WORLD_CURT:
        PLUMB_TRY(plumb_buf_add_text(out, " "));
        if (q->kind > WORLD_TIME)
            return put_content(out, q, q->kind != WORLD_RISK, d);
        return put(out, curt_text[q->kind], world_item[q->topic].value[q->kind], "");
    case WORLD_RUDE:
        PLUMB_TRY(plumb_buf_addf(out, " %s", rude[world_pick(d, COUNT(rude))]));
        if (!coin)
            return PLUMB_OK;
        PLUMB_TRY(plumb_buf_add_text(out, " "));
        return put_content(out, q, world_pick(d, 2), d);
    case WORLD_OFF:
        PLUMB_TRY(plumb_buf_addf(out, " %s", off_topic[world_pick(d, COUNT(off_topic))]));
        if (coin)
            PLUMB_TRY(plumb_buf_addf(out, " %s", off_topic[world_pick(d, COUNT(off_topic))]));
        return PLUMB_OK;
    default:
        return put_repeat(out, q, d);
    }
}
