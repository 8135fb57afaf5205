/* references.h - frozen policies by name, and the log-probs of answers under them.
 * Layer 5. Includes base/, backend/, model/, train/pack.h.
 *
 *   init      the weights that the run starts from (a stage of `plumb run`: that the stage does)
 *   previous  the policy as it was when the iteration began: before its first update
 *   FOLDER    any checkpoint of the same architecture
 *
 * Names of the same weights are one reference and share their memory. A log-prob is computed once
 * per set of rollouts, whatever asks for it, and found again by (weight fingerprint, prompt and
 * completion tokens). */
#ifndef PLUMB_TRAIN_REFERENCES_H
#define PLUMB_TRAIN_REFERENCES_H

#include "model/model.h"
#include "train/pack.h"

typedef struct plumb_references plumb_references;

/* policy (borrowed): the weights in training; init_dir (borrowed): the folder that init means;
 * room: log-probs that are kept at a time, in memory taken here. */
plumb_status plumb_references_create(plumb_references **out, const plumb_model *policy,
                                     const char *init_dir, int64_t room);
void plumb_references_destroy(plumb_references **r); /* NULL is allowed */

/* *which = the number of the reference of this name, opened when it is new. PLUMB_ERR_IO or
 * PLUMB_ERR_CONFIG names the option `field` that asked for it. */
plumb_status plumb_references_open(plumb_references *r, int *which, const char *name,
                                   const char *field);
/* Gives `previous` weights of its own, for a reference that is read while the policy moves:
 *     hold: takes the memory; which is previous' number
 *     follow: they become the policy's; once per iteration. Nothing where none is held
 *     held: they; NULL where none is held */
plumb_status plumb_references_hold(plumb_references *r, int which);
plumb_status plumb_references_follow(plumb_references *r);
plumb_model *plumb_references_held(const plumb_references *r);
/* The weights of a reference; of previous, where it is not held: the policy's own, which are right
 * only before the first update of an iteration. */
const plumb_model *plumb_references_model(const plumb_references *r, int which);
/* The frozen weights; NULL for previous, where it is not held. */
const plumb_model *plumb_references_frozen(const plumb_references *r, int which);
int64_t plumb_references_bytes(const plumb_references *r); /* of weights and of what is kept */

/* Forgets all log-probs: a new set of rollouts. */
void plumb_references_begin(plumb_references *r);
/* Whether the sum of a completion's log-probs is known; then *logp = it. */
bool plumb_references_find(const plumb_references *r, int which, const int32_t *prompt,
                           int64_t n_prompt, const int32_t *ids, int64_t n, double *logp);
/* logp (pack->n_seq,) = every sequence's sum over its completion tokens, in token order, in double;
 * one forward of the whole pack unless all are known. Overwrites pack->logp. */
plumb_status plumb_references_score(plumb_references *r, int which, plumb_pass *pass,
                                    struct plumb_pack *pack, double *logp);

#endif
