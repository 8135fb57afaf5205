/* misspelt.c - finds members of records whose names are almost a name that plumb reads.
 * Layer 4. Includes base/, io/, config/near.h, data/misspelt.h. */
#include "data/misspelt.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "config/near.h"

enum {
    IN_PROMPTS = 1 << PLUMB_DATA_PROMPTS,
    IN_SFT = 1 << PLUMB_DATA_SFT,
    IN_PAIRS = 1 << PLUMB_DATA_PAIRS,
    IN_TEXTS = 1 << PLUMB_DATA_TEXTS,
    IN_ANY = 1 << PLUMB_DATA_ANY,
};

/* The type of value that a member of this name must have. TALK: a string or a list of messages;
 * CHAT: a list of messages; IDS: a list of token ids. */
enum value { TALK, CHAT, IDS, TEXT_OR_NUMBER, NUMBER };

/* The names that record.c reads. Names with fewer than six characters ("id", "ids", "text") are
 * left out, because many other words differ from them by one edit. */
static const struct known {
    const char *name;
    enum value value;
    int kinds;
} known[] = {
    {"prompt", TALK, IN_PROMPTS | IN_SFT | IN_PAIRS | IN_ANY},
    {"completion", TALK, IN_PROMPTS | IN_SFT | IN_ANY}, /* PROMPTS: only with o->references */
    {"chosen", TALK, IN_PAIRS},
    {"rejected", TALK, IN_PAIRS},
    {"messages", CHAT, IN_PROMPTS | IN_SFT | IN_TEXTS | IN_ANY},
    {"prompt_ids", IDS, IN_PROMPTS | IN_SFT | IN_ANY},
    {"completion_ids", IDS, IN_SFT | IN_ANY},
    {"prompt_tokens", NUMBER, IN_SFT | IN_ANY},
    {"system", TALK, IN_PROMPTS | IN_SFT | IN_TEXTS | IN_ANY},
    {"solution", TEXT_OR_NUMBER, IN_PROMPTS | IN_ANY},
    {"answer", TEXT_OR_NUMBER, IN_PROMPTS | IN_ANY},
    {"score_chosen", NUMBER, IN_PAIRS},
    {"score_rejected", NUMBER, IN_PAIRS},
};

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

static bool is_read(const struct known *k, const struct plumb_data_options *o)
{
    if (o->kind == PLUMB_DATA_PROMPTS && strcmp(k->name, "completion") == 0)
        return o->references;
    return (k->kinds & 1 << o->kind) != 0;
}

static bool is_number(enum plumb_json_type t)
{
    return t == PLUMB_JSON_INT || t == PLUMB_JSON_REAL;
}

static bool fits(const plumb_json *v, enum value value)
{
    const enum plumb_json_type type = plumb_json_type_of(v);
    const plumb_json *first = type == PLUMB_JSON_ARRAY ? plumb_json_at(v, 0) : NULL;
    const bool chat =
        first && plumb_json_type_of(first) == PLUMB_JSON_OBJECT && plumb_json_get(first, "role");
    switch (value) {
    case TALK:
        return chat || type == PLUMB_JSON_STRING;
    case CHAT:
        return chat;
    case IDS:
        return first && plumb_json_type_of(first) == PLUMB_JSON_INT;
    case TEXT_OR_NUMBER:
        return type == PLUMB_JSON_STRING || is_number(type);
    case NUMBER:
        return is_number(type);
    }
    return false;
}

/* Returns true if `key` differs from `name` by so few edits that it counts as misspelt
 * (data/misspelt.h). there: the record also has the member `name`; then its plural is taken as
 * another column, not as a mistake. */
static bool is_near(const char *key, const char *name, bool there)
{
    char lower[32];
    const size_t n = strlen(name), m = strlen(key);
    const int most = n >= 8 ? 2 : 1;
    if (m + 2 < n || m > n + 2 || m >= sizeof(lower) || strcmp(key, name) == 0)
        return false;
    if (there && m == n + 1 && key[n] == 's' && strncmp(key, name, n) == 0)
        return false;
    for (size_t i = 0; i <= m; i++)
        lower[i] = (char)tolower((unsigned char)key[i]);
    return plumb_edit_distance(lower, name) <= most;
}

static bool is_known(const char *key)
{
    for (int i = 0; i < COUNT(known); i++)
        if (strcmp(known[i].name, key) == 0)
            return true;
    return false;
}

static void count(struct plumb_misspelt *m, const char *key, const char *meant, const char *where)
{
    int i = 0;
    while (i < m->n && strcmp(m->item[i].name, key) != 0)
        i++;
    if (i == PLUMB_MISSPELT_MOST)
        return;
    struct plumb_misspelt_name *name = &m->item[i];
    if (i == m->n) {
        m->n++;
        name->meant = meant;
        snprintf(name->name, sizeof(name->name), "%s", key);
        snprintf(name->first, sizeof(name->first), "%s", where);
    }
    name->records++;
    m->last = i;
}

plumb_status plumb_misspelt_look(struct plumb_misspelt *m, const plumb_json *line,
                                 const struct plumb_data_options *o, const char *where)
{
    m->last = -1;
    for (int64_t i = 0; i < plumb_json_count(line); i++) {
        const char *key;
        const plumb_json *v;
        PLUMB_TRY(plumb_json_member_at(line, i, &key, &v));
        if (is_known(key))
            continue;
        for (int k = 0; k < COUNT(known); k++)
            if (is_read(&known[k], o) &&
                is_near(key, known[k].name, plumb_json_get(line, known[k].name)) &&
                fits(v, known[k].value)) {
                count(m, key, known[k].name, where);
                break;
            }
    }
    return PLUMB_OK;
}

void plumb_misspelt_say(const struct plumb_misspelt *m)
{
    for (int i = 0; i < m->n; i++) {
        const struct plumb_misspelt_name *name = &m->item[i];
        plumb_log_alike("%s: field \"%s\" is not read: did you mean \"%s\"? %lld record%s of the "
                        "file %s it, the first in this line",
                        name->first, name->name, name->meant, (long long)name->records,
                        name->records == 1 ? "" : "s", name->records == 1 ? "has" : "have");
    }
}
