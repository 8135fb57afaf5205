/* world.h - the quickstart's small world: requests, answers of several styles, and the truth.
 * Tool; includes base/. Nothing here is part of the product: it makes the data to try it on. */
#ifndef PLUMB_QUICKSTART_WORLD_H
#define PLUMB_QUICKSTART_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/rng.h"
#include "base/status.h"

/* A village shop assistant is asked for the price, place, colour and time of goods, how small
 * things are done, for a word of greeting, and now and then for help with something harmful. */
enum world_kind {
    WORLD_PRICE,
    WORLD_PLACE,
    WORLD_COLOR,
    WORLD_TIME,
    WORLD_TASK,
    WORLD_RISK,
    WORLD_CHAT
};

/* One request; every combination exists exactly once, numbered 0 .. world_requests()-1. */
struct world_request {
    enum world_kind kind;
    int topic;    /* item, task, risky wish or chat line */
    int phrasing; /* of the question */
    int opener;   /* how the asker begins */
    int name;     /* the asker's name, -1 = not given */
};
int world_requests(void);
struct world_request world_request_at(int i);

/* How an answer is written. Shares of each style in the data are in world.c. */
enum world_style {
    WORLD_GOOD,    /* polite opening, right content (or a kind refusal), an offer */
    WORLD_PARTIAL, /* right content, but the opening or the offer is missing */
    WORLD_CURT,    /* right content in two words; a risky wish is granted */
    WORLD_WRONG,   /* polite, but the content is wrong; a risky wish is granted */
    WORLD_RUDE,
    WORLD_OFF,    /* about something else */
    WORLD_REPEAT, /* says the same words again and again */
    WORLD_STYLES,
};

/* Draws from the keyed generator; position counts up with every draw. */
struct world_draw {
    struct plumb_rng_key key;
};
struct world_draw world_draw_at(uint64_t seed, uint32_t stream, uint64_t record);
int world_pick(struct world_draw *d, int n); /* uniform in [0, n) */
double world_uniform(struct world_draw *d);  /* [0, 1) */
/* A style by the shares of plain prompts, or of prompts with a principle in front. */
enum world_style world_pick_style(struct world_draw *d, bool principled);

/* out += "ask: <request>\nreply:" */
plumb_status world_put_prompt(struct plumb_buf *out, const struct world_request *q);
/* out += the answer, beginning with a space. */
plumb_status world_put_answer(struct plumb_buf *out, const struct world_request *q,
                              enum world_style style, struct world_draw *d);

/* The principle texts of this world; name and text are static. */
int world_principles(void);
const char *world_principle_name(int i);
const char *world_principle_text(int i);

/* The true score of an answer to a prompt, by rule, from the texts alone:
 *     content right +1, missing -0.5, wrong or harmful -1       (refusing is right for a wish
 *     polite opening +0.4 (+0.1 with a name that is not the asker's)    that would do harm)
 *     an offer to help +0.4        a closed last sentence within 30 words +0.2
 *     rude words -1                share of repeated word pairs, when above 0.2, times -1
 * Range [-3, 2]. PLUMB_ERR_FORMAT when the prompt is no request of this world. */
plumb_status world_score(double *out, const char *prompt, const char *answer);

/* ---- annotators ---- */

/* What a truth is worth: itself; 1 when the content is right and nothing is said amiss, else 0, so
 * that every gap has the same size; or e^(2 truth), so that few gaps are most of it. */
enum world_shape { WORLD_NATURAL, WORLD_EQUAL, WORLD_HEAVY };
/* natural, equal or heavy; false for another name. */
bool world_shape_find(enum world_shape *out, const char *name);

struct world_annotator {
    enum world_shape shape;
    double noise; /* >= 0 */
    double flip;  /* [0, 1] */
    uint64_t seed;
};
/* The score that this annotator gives to an answer whose true score is `truth`: its worth plus
 * Gumbel noise of scale `noise`, drawn from seed, prompt and answer; then, for a share `flip` of
 * the prompts, drawn from seed and prompt, with the sign changed. So of two answers to a prompt the
 * one that is worth more has the higher score with probability p = sigma(gap / noise) without flips
 * Source: Bradley and Terry 1952 (1 - flip) p + flip (1 - p) with flips and the same question
 * always has the same answer. */
double world_annotate(const struct world_annotator *a, const char *prompt, const char *answer,
                      double truth);

/* ---- tokenizer ---- */

/* Learns byte-level BPE merges from text (Sennrich 2016: the most frequent pair first, ties by
 * lowest token ids) up to `vocab` tokens, special tokens <s> </s> <pad> = 0 1 2 included, and
 * appends tokenizer.json to out. *size is the vocabulary reached. */
plumb_status world_put_tokenizer(struct plumb_buf *out, int *size, const char *text, int vocab);

#endif
