/* cost.h - counts what a training command computes, reads and sends, so that `plumb plan` can
 * estimate its time.
 * Layer 5. Includes base/, data/, model/, train/.
 *
 * The figures are those of one rank, in one iteration of align or one optimizer step of another
 * command. They are computed from the sizes of the models and the mean lengths of the sequences;
 * nothing is measured. */
#ifndef PLUMB_TRAIN_COST_H
#define PLUMB_TRAIN_COST_H

#include "data/dataset.h"
#include "train/split.h"
#include "train/trainer.h"

enum { PLUMB_COST_PHASES = 12 };

struct plumb_cost_phase {
    const char *name; /* a string constant */
    double flops;     /* floating-point operations of matrix products and attention */
    /* bytes read from and written to memory, in phases that memory bandwidth limits */
    double bytes;
    double sent;        /* bytes that the rank sends to other hosts */
    double sent_inside; /* bytes that the rank sends to ranks of its own host */
};

struct plumb_cost {
    struct plumb_cost_phase phase[PLUMB_COST_PHASES];
    int n;
    const char *unit; /* "iteration" or "step" */
    double units;     /* number of units in the whole run */
    /* in a step, of all ranks together; if there are fewer than ranks, some ranks have no work */
    int64_t micro_batches;
    /* name of the method if it does extra work that the figures do not contain; else NULL */
    const char *left_out;
};

/* Adds a phase and returns it. The caller may change the figures of the returned phase until the
 * next call. */
struct plumb_cost_phase *plumb_cost_add(struct plumb_cost *c, const char *name);

/* Sequences of equal length: n of them, `tokens` each, of which `targets` have a log-prob. */
struct plumb_cost_batch {
    double n, tokens, targets;
};

/* Returns the floating-point operations of a forward pass: 2 per matrix element and token, and 4 h
 * d per layer and pair of a query and a visible key. The head runs for the targets only; in a
 * classifier, once per sequence. */
double plumb_cost_forward(const plumb_model *m, const struct plumb_cost_batch *b);
/* Returns the floating-point operations of a forward and a backward pass. The backward of a matrix
 * product is two products, or one if the weights are frozen. The backward of attention costs 2.5
 * times its forward. With recompute, the layers' forward runs twice. */
double plumb_cost_train(const plumb_model *m, const struct plumb_cost_batch *b, bool recompute);

/* Adds the phase "rollout": all sequences of b are decoded, `slots` at a time, after a prefill of
 * `prompt` tokens each. A step reads the weights and the keys and values of all live sequences. */
void plumb_cost_decode(struct plumb_cost *c, const plumb_model *m, const struct plumb_cost_batch *b,
                       double prompt, double slots);

/* Adds the phases of a command that trains on fixed records of `completions` answers each:
 * "update", "optimizer", "exchange" and, if reference is true, "reference" (a forward pass of a
 * frozen model in the first epoch). */
void plumb_cost_records(struct plumb_cost *c, const struct plumb_trainer *t,
                        const struct plumb_dataset *data, const struct plumb_batch_split *split,
                        int completions, bool reference);

/* Returns how many of a step's micro-batches this rank computes. */
int64_t plumb_cost_leaves(const struct plumb_trainer *t, int64_t micro_batches);
/* Adds the phases "optimizer" and "exchange" of `steps` optimizer steps, each with `micro_batches`
 * micro-batches of all ranks together. In an exchange each of the W ranks sends (W - 1) / W of the
 * gradient in float32: rank r sends a half to rank r XOR 1, a quarter to rank r XOR 2, and so on.
 * There is one exchange per step; with train.shard: gradients there is one per round of W
 * micro-batches. After the update each rank sends (W - 1) / W of the weights: in float32, or in
 * bfloat16 if the masters are divided among the ranks. */
void plumb_cost_update(struct plumb_cost *c, const struct plumb_trainer *t, double steps,
                       int64_t micro_batches);

#endif
