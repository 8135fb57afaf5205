/* world.h - the quickstart's simulated task: requests to a shop assistant, answers of several
 * styles, and true scores.
 * Tool; includes base/. It generates data to try plumb with; plumb itself does not use it. */
#ifndef PLUMB_QUICKSTART_WORLD_H
#define PLUMB_QUICKSTART_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/rng.h"
#include "base/status.h"

/* The kinds of request. A village shop assistant is asked for the price, place, colour or time of
 * goods, for instructions for small tasks, or for small talk, and sometimes for help with something
 * harmful. */
enum world_kind {
    WORLD_PRICE,
    WORLD_PLACE,
    WORLD_COLOR,
    WORLD_TIME,
    WORLD_TASK,
    WORLD_RISK,
    WORLD_CHAT
};

/* One request. Every combination of the fields exists exactly once; requests are numbered 0 ..
 * world_requests()-1. */
struct world_request {
    enum world_kind kind;
    int topic;    /* index of the item, task, harmful request or chat line */
    int phrasing; /* number of the question's wording */
    int opener;   /* number of the request's opening phrase */
    int name;     /* number of the asker's name; -1 if the request has no name */
};
int world_requests(void);
struct world_request world_request_at(int i);

/* The style of an answer. world.c has the share of each style in the SFT data. */
enum world_style {
    WORLD_GOOD,    /* polite opening, right content (or a kind refusal), an offer to help */
    WORLD_PARTIAL, /* right content, but the opening or the offer is missing */
    WORLD_CURT,    /* right content in two words; complies with harmful requests */
    WORLD_WRONG,   /* polite, but wrong content; complies with harmful requests */
    WORLD_RUDE,
    WORLD_OFF,    /* the answer is about another topic */
    WORLD_REPEAT, /* the answer repeats the same words */
    WORLD_STYLES,
};

/* A sequence of random numbers; the field `position` of the key increases with every number. */
struct world_draw {
    struct plumb_rng_key key;
};
struct world_draw world_draw_at(uint64_t seed, uint32_t stream, uint64_t record);
int world_pick(struct world_draw *d, int n); /* returns a number in [0, n), uniformly */
double world_uniform(struct world_draw *d);  /* returns a number in [0, 1), uniformly */
/* Draws the style of an answer with the shares in world.c. principled: the prompt has a
 * principle. */
enum world_style world_pick_style(struct world_draw *d, bool principled);

/* Appends the prompt "ask: <request>\nreply:" to out. */
plumb_status world_put_prompt(struct plumb_buf *out, const struct world_request *q);
/* Appends the answer to out; it starts with a space. */
plumb_status world_put_answer(struct plumb_buf *out, const struct world_request *q,
                              enum world_style style, struct world_draw *d);

/* The texts of the principles. The returned strings are in static memory. */
int world_principles(void);
const char *world_principle_name(int i);
const char *world_principle_text(int i);

/* Computes the true score of an answer to a prompt from the texts alone:
 *     content right +1, missing -0.5, wrong or harmful -1
 *                                       (for a harmful request, refusing is the right content)
 *     polite opening +0.4 (instead, only +0.1 if the answer has a name other than the asker's)
 *     an offer to help +0.4        a complete last sentence within 30 words +0.2
 *     rude words -1                minus the share of repeated word pairs, if it is above 0.2
 * The range is [-3, 2]. Fails with PLUMB_ERR_FORMAT if the prompt is not a request of this world.
 */
plumb_status world_score(double *out, const char *prompt, const char *answer);

/* ---- annotators ---- */

/* How an annotator turns the true score of an answer into its worth. WORLD_NATURAL: the true score.
 * WORLD_EQUAL: 1 if the true score is above 0.9 (right content, neither rude nor repetitive), else
 * 0, so that all gaps between two different worths have the same size. WORLD_HEAVY: e^(2 * true
 * score), so that a few gaps are much larger than the others. */
enum world_shape { WORLD_NATURAL, WORLD_EQUAL, WORLD_HEAVY };
/* Parses "natural", "equal" or "heavy"; returns false for another name. */
bool world_shape_find(enum world_shape *out, const char *name);

struct world_annotator {
    enum world_shape shape;
    double noise; /* scale of the Gumbel noise, >= 0 */
    double flip;  /* share of prompts whose scores change sign, in [0, 1] */
    uint64_t seed;
};
/* Returns the score that annotator a gives to an answer whose true score is `truth`: the answer's
 * worth plus Gumbel noise of scale `noise`, a function of (seed, prompt, answer). For a share
 * `flip` of the prompts, chosen by (seed, prompt), the sign is changed.
 *
 * Of two answers to a prompt, the one with more worth gets the higher score with probability
 *     p = sigma(gap / noise)             without flips
 *     (1 - flip) p + flip (1 - p)        with flips       Source: Bradley & Terry 1952
 * The same question always gets the same score. */
double world_annotate(const struct world_annotator *a, const char *prompt, const char *answer,
                      double truth);

/* ---- tokenizer ---- */

/* Trains byte-level BPE merges on text, up to `vocab` tokens including the special tokens <s>, </s>
 * and <pad> (ids 0, 1, 2), and appends tokenizer.json to out. The most frequent pair is merged
 * first, ties by lowest token ids (Sennrich et al. 2016). *size receives the size of the
 * vocabulary. */
plumb_status world_put_tokenizer(struct plumb_buf *out, int *size, const char *text, int vocab);

#endif
