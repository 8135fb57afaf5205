/* references.h - the reference models of a run, which options name, and the log-probs of
 * completions under these models.
 * Layer 5. Includes model/, train/pack.h.
 *
 *   init      the weights that the run (in `plumb run`: the stage) starts from. If the policy has
 *             an adapter: the base with the adapter in init_dir, or the base alone if init_dir has
 *             none
 *   previous  the policy as it was at the start of the iteration, before its first update: a
 *             snapshot or, if there is none, the policy itself, which is then only correct
 *             before the first update of the iteration
 *   FOLDER    any checkpoint of the same architecture
 *
 * If the folders of two references have the same weights, the references share one model. A
 * log-prob is computed once per set of rollouts, stored in a table, and then found by the weights'
 * fingerprint, the prompt tokens and the completion tokens. If the table is full, a log-prob that
 * is not in the table is computed again each time. */
#ifndef PLUMB_TRAIN_REFERENCES_H
#define PLUMB_TRAIN_REFERENCES_H

#include "model/model.h"
#include "train/frozen.h"
#include "train/pack.h"

typedef struct plumb_references plumb_references;

/* Creates an empty set of references. policy (borrowed): the weights in training. init_dir
 * (borrowed): the folder of the reference `init`, of a model or an adapter. frozen (borrowed):
 * where the layers of the references are. room: the largest number of stored log-probs; their
 * memory is allocated here. */
plumb_status plumb_references_create(plumb_references **out, const plumb_model *policy,
                                     const char *init_dir, const struct plumb_frozen_run *frozen,
                                     int64_t room);
void plumb_references_destroy(plumb_references **r); /* does nothing if *r is NULL */

/* Sets *which to the number of the reference `name`, and opens its weights if the name is new.
 * Errors (PLUMB_ERR_IO, PLUMB_ERR_CONFIG) name `field`, the option that needs the reference. */
plumb_status plumb_references_open(plumb_references *r, int *which, const char *name,
                                   const char *field);
/* Fails unless each reference of this rank has the same weights and settings as on rank 0. Skips
 * `previous`, because its weights are those of the policy. Call this function after every rank has
 * opened the same references in the same order. Collective. Errors: those of plumb_same_model; the
 * message names the reference. */
plumb_status plumb_references_same(const plumb_references *r, plumb_comm *comm);
/* Functions for a snapshot of the weights of `previous`, which can be read while the policy
 * changes:
 *     open_snapshot     allocates the snapshot; which: the number of `previous`
 *     update_snapshot   copies the policy's weights to the snapshot, if there is one; call this
 *                       function once per iteration
 *     snapshot          returns the snapshot, or NULL if there is none */
plumb_status plumb_references_open_snapshot(plumb_references *r, int which);
plumb_status plumb_references_update_snapshot(plumb_references *r);
plumb_model *plumb_references_snapshot(const plumb_references *r);
/* Returns the weights of a reference. For `previous` without a snapshot it returns the policy,
 * which is correct only before the first update of an iteration. */
const plumb_model *plumb_references_model(const plumb_references *r, int which);
/* Returns the weights of a reference if they do not change within an iteration, and NULL for
 * `previous` without a snapshot. */
const plumb_model *plumb_references_frozen(const plumb_references *r, int which);
/* Returns the bytes of all weights and stored log-probs of r. */
int64_t plumb_references_bytes(const plumb_references *r);

/* Removes all stored log-probs. Call this function before each new set of rollouts. */
void plumb_references_begin(plumb_references *r);
/* Returns true if the log-prob sum of this completion after this prompt is stored, and then sets
 * *logp to it (in nats). */
bool plumb_references_find(const plumb_references *r, int which, const int32_t *prompt,
                           int64_t n_prompt, const int32_t *ids, int64_t n, double *logp);
/* Sets logp (pack->n_seq,) to the log-prob sum of each packed completion: the log-probs are added
 * in token order, in double; unit: nats. Runs one forward pass of the whole pack unless all sums
 * are stored. Overwrites pack->logp. If the pass is needed and the reference's layers are divided
 * among the ranks, it calls plumb_references_pass. */
plumb_status plumb_references_score(plumb_references *r, int which, plumb_pass *pass,
                                    struct plumb_pack *pack, double *logp);
/* If the layers of a reference are divided among the ranks, its forward passes are collective
 * (plumb_lockstep in train/frozen.h):
 *     pass   Call this function before each forward pass of the reference. Fails if another rank
 *            has failed or pauses.
 *     end    Call this function on every rank after its last pass, also after a failure or a
 *            pause. local: the status of this rank. Takes part in the remaining passes of the
 *            other ranks. Returns local, or the failure or pause of another rank.
 * If the layers are not divided, `pass` does nothing, and `end` returns local. */
plumb_status plumb_references_pass(plumb_references *r, int which);
plumb_status plumb_references_end(plumb_references *r, int which, plumb_status local);
/* plumb_references_before can be used as plumb_generate_options.pass. It calls
 * plumb_references_pass with the arguments in `of`, a struct plumb_reference_of. */
struct plumb_reference_of {
    plumb_references *set;
    int which;
};
plumb_status plumb_references_before(void *of);

#endif
