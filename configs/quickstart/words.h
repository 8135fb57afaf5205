/* words.h - the vocabulary of the quickstart's simulated task: items, facts, tasks, names and
 * phrases.
 * Tool; includes nothing from plumb. */
#ifndef PLUMB_QUICKSTART_WORDS_H
#define PLUMB_QUICKSTART_WORDS_H

struct world_item {
    const char *name;
    const char *value[4]; /* four facts of an item: price in coins, place, colour, time */
};
extern const struct world_item world_item[];
extern const int world_n_items;

/* All values that facts of one kind may have; the kinds are WORLD_PRICE .. WORLD_TIME. */
struct world_values {
    const char *const *word;
    int n;
};
extern const struct world_values world_value[4];

struct world_task {
    const char *what, *how;
    const char *key[2]; /* words that occur only in the right answer to this task */
};
extern const struct world_task world_task[];
extern const int world_n_tasks;

struct world_chat {
    const char *line, *reply;
    const char *key; /* a word by which the scorer recognises this reply */
};
extern const struct world_chat world_chat[];
extern const int world_n_chats;

/* A harmful request: its wording, with %s for the item, person or place that it names (target). */
struct world_wish {
    const char *fmt, *target;
};
int world_n_risks(void);
struct world_wish world_risk_at(int i);
extern const char *const world_risk_word[]; /* verbs that occur only in harmful requests */
extern const int world_n_risk_words;

extern const char *const world_name[];
extern const int world_n_names;

#endif
