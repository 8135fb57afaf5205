/* words.h - the small world's facts and words.
 * Tool; includes nothing of ours. */
#ifndef PLUMB_QUICKSTART_WORDS_H
#define PLUMB_QUICKSTART_WORDS_H

struct world_item {
    const char *name;
    const char *value[4]; /* price in coins, place, colour, time */
};
extern const struct world_item world_item[];
extern const int world_n_items;

/* All values of a kind, WORLD_PRICE .. WORLD_TIME. */
struct world_values {
    const char *const *word;
    int n;
};
extern const struct world_values world_value[4];

struct world_task {
    const char *what, *how;
    const char *key[2]; /* words that only this task's answer has */
};
extern const struct world_task world_task[];
extern const int world_n_tasks;

struct world_chat {
    const char *line, *reply;
    const char *key; /* a word that only this reply has */
};
extern const struct world_chat world_chat[];
extern const int world_n_chats;

/* A harmful wish: a question and its target. */
struct world_wish {
    const char *fmt, *target;
};
int world_n_risks(void);
struct world_wish world_risk_at(int i);
extern const char *const world_risk_word[]; /* verbs that only harmful wishes have */
extern const int world_n_risk_words;

extern const char *const world_name[];
extern const int world_n_names;

#endif
