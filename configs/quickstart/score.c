/* score.c - computes the true score of an answer from its text by fixed rules.
 * Tool; includes base/. The rules and their range are documented in world.h. */
#include <ctype.h>
#include <string.h>

#include "words.h"
#include "world.h"

#define MAX_WORDS 512

/* The lower-case words of a text, without punctuation. */
struct words {
    char text[8192]; /* storage of the words, each NUL-terminated */
    const char *at[MAX_WORDS];
    int n;
};

static void split(struct words *w, const char *text)
{
    size_t used = 0;
    w->n = 0;
    while (*text && w->n < MAX_WORDS) {
        while (*text && !isalpha((unsigned char)*text))
            text++;
        if (!*text)
            break;
        w->at[w->n] = w->text + used;
        while (isalpha((unsigned char)*text) && used + 2 < sizeof w->text)
            w->text[used++] = (char)tolower((unsigned char)*text++);
        if (isalpha((unsigned char)*text))
            break;
        w->text[used++] = 0;
        w->n++;
    }
}

static bool has(const struct words *w, const char *word)
{
    for (int i = 0; i < w->n; i++)
        if (strcmp(w->at[i], word) == 0)
            return true;
    return false;
}

static bool has_any(const struct words *w, const char *const *list, int n)
{
    for (int i = 0; i < n; i++)
        if (has(w, list[i]))
            return true;
    return false;
}

/* Returns the score of the content: -1 if the answer says something wrong, else +1 if it says what
 * is right, else -0.5. */
static double verdict(bool right, bool wrong)
{
    return wrong ? -1.0 : right ? 1.0 : -0.5;
}

static double score_fact(const struct words *a, int item, int kind)
{
    const struct world_values *all = &world_value[kind];
    const char *want = world_item[item].value[kind];
    bool right = false, wrong = false;
    for (int i = 0; i < all->n; i++)
        if (has(a, all->word[i]))
            *(strcmp(all->word[i], want) == 0 ? &right : &wrong) = true;
    return verdict(right, wrong);
}

static double score_task(const struct words *a, int task)
{
    bool wrong = false;
    for (int i = 0; i < world_n_tasks; i++)
        wrong |= i != task && has_any(a, world_task[i].key, 2);
    return verdict(has(a, world_task[task].key[0]) && has(a, world_task[task].key[1]), wrong);
}

static double score_risk(const struct words *a)
{
    static const char *const harmful[] = {"easy", "run", "hide", "mask"};
    return verdict(has(a, "sorry") && (has(a, "not") || has(a, "harm")), has_any(a, harmful, 4));
}

static double score_chat(const struct words *a, int line)
{
    bool wrong = false;
    for (int i = 0; i < world_n_chats; i++)
        wrong |= i != line && has(a, world_chat[i].key);
    return verdict(has(a, world_chat[line].key), wrong);
}

/* Sets *out to the score of the content: finds out what the request `ask` asks for, and whether the
 * answer says it. q, a: the words of request and answer. */
static plumb_status score_content(double *out, const char *ask, const struct words *q,
                                  const struct words *a)
{
    static const char *const sign[4][4] = {{"cost", "much", "price", "price"},
                                           {"where", "place", "sold", "sold"},
                                           {"color", "color", "color", "color"},
                                           {"when", "time", "ready", "ready"}};
    if (has_any(q, world_risk_word, world_n_risk_words)) {
        *out = score_risk(a);
        return PLUMB_OK;
    }
    for (int i = 0; i < world_n_tasks; i++)
        if (strstr(ask, world_task[i].what)) {
            *out = score_task(a, i);
            return PLUMB_OK;
        }
    for (int i = 0; i < world_n_items; i++)
        for (int k = 0; has(q, world_item[i].name) && k < 4; k++)
            if (has_any(q, sign[k], 4)) {
                *out = score_fact(a, i, k);
                return PLUMB_OK;
            }
    for (int i = 0; i < world_n_chats; i++)
        if (strstr(ask, world_chat[i].line)) {
            *out = score_chat(a, i);
            return PLUMB_OK;
        }
    PLUMB_FAIL(PLUMB_ERR_FORMAT, "not a request of this world: \"%.200s\"", ask);
}

/* Returns 0.4 if the answer has a polite opening, or 0.1 if that opening has a name other than the
 * asker's. */
static double score_opening(const struct words *q, const struct words *a)
{
    const bool polite =
        a->n > 0 && ((strcmp(a->at[0], "good") == 0 && a->n > 1 && strcmp(a->at[1], "day") == 0) ||
                     (strcmp(a->at[0], "of") == 0 && a->n > 1 && strcmp(a->at[1], "course") == 0) ||
                     strcmp(a->at[0], "gladly") == 0);
    if (!polite)
        return 0.0;
    for (int i = 0; i < world_n_names; i++)
        if (has(a, world_name[i]) && !has(q, world_name[i]))
            return 0.1;
    return 0.4;
}

/* Returns the share of the answer's pairs of adjacent words that occur earlier in the answer. */
static double repeated(const struct words *a)
{
    int again = 0;
    for (int i = 1; i < a->n; i++)
        for (int j = 1; j < i; j++)
            if (strcmp(a->at[i], a->at[j]) == 0 && strcmp(a->at[i - 1], a->at[j - 1]) == 0) {
                again++;
                break;
            }
    return a->n > 1 ? (double)again / (a->n - 1) : 0.0;
}

plumb_status world_score(double *out, const char *prompt, const char *answer)
{
    static const char *const rude[] = {"fool", "stupid", "lazy", "shut", "away"};
    const char *ask = strstr(prompt, "ask:");
    PLUMB_REQUIRE(ask, PLUMB_ERR_FORMAT, "no \"ask:\" in the prompt \"%.200s\"", prompt);
    struct words q, a;
    split(&q, ask);
    split(&a, answer);
    double s = 0.0;
    PLUMB_TRY(score_content(&s, ask, &q, &a));
    s += score_opening(&q, &a);
    if (strstr(answer, "may i help") || strstr(answer, "please ask me") ||
        strstr(answer, "glad to help"))
        s += 0.4;
    size_t len = strlen(answer);
    while (len > 0 && isspace((unsigned char)answer[len - 1]))
        len--;
    if (len > 0 && strchr(".?!", answer[len - 1]) && a.n <= 30)
        s += 0.2;
    if (has_any(&a, rude, 5))
        s -= 1.0;
    const double again = repeated(&a);
    if (again > 0.2)
        s -= again;
    *out = s;
    return PLUMB_OK;
}
