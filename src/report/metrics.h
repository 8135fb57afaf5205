/* metrics.h - writes and reads the metrics of a run: metrics.jsonl and the console line.
 * Layer 4. Includes base/, io/. */
#ifndef PLUMB_REPORT_METRICS_H
#define PLUMB_REPORT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* All metrics, in the order of the console line. A metric that TRL has, too, has TRL's name.
 * Columns: enum, name in metrics.jsonl, unit, name in the console line (NULL if the metric is not
 * shown there), meaning. */
#define PLUMB_METRIC_LIST(X)                                                                       \
    X(LOSS, "loss", "", "loss", "mean over the global batch of the method's loss")                 \
    X(GRAD_NORM, "grad_norm", "", "|g|", "global L2 norm before clipping")                         \
    X(LEARNING_RATE, "learning_rate", "", "lr", "learning rate of this step")                      \
    X(REWARD, "reward", "", "reward", "mean raw reward of all completions")                        \
    X(REWARD_STD, "reward_std", "", NULL, "population std of the raw rewards")                     \
    X(REWARD_ZERO_STD, "frac_reward_zero_std", "", NULL,                                           \
      "share of prompts whose rewards are all equal")                                              \
    X(REWARD_PLAIN, "psle/reward_plain", "", "plain", "mean reward, plain prompt")                 \
    X(REWARD_PRINCIPLED, "psle/reward_principled", "", "princ", "mean reward, principled prompt")  \
    X(TAU, "psle/tau", "", "tau", "threshold of this iteration")                                   \
    X(SHARE_RANK, "psle/share_rank", "", "rank%", "share of prompts in the ranking branch")        \
    X(SHARE_WEIGHTED, "psle/share_weighted", "", NULL, "share of prompts in the weighted branch")  \
    X(SHARE_REVERSE, "psle/share_reverse", "", NULL, "share of prompts ranked in reverse")         \
    X(SHARE_DROPPED, "psle/share_dropped", "", NULL,                                               \
      "share of prompts without a term in the loss")                                               \
    X(SHARE_SMOOTHED, "spa/share_doubted", "", NULL, "share of the pairs whose label is smoothed") \
    X(MARGIN_MEAN, "psle/margin_mean", "", NULL, "mean normalised reward margin")                  \
    X(MARGIN_STD, "psle/margin_std", "", NULL, "population std of the margins")                    \
    X(MARGIN_Q05, "psle/margin_q05", "", NULL, "5 % quantile of the margins")                      \
    X(MARGIN_Q50, "psle/margin_q50", "", NULL, "median of the margins")                            \
    X(MARGIN_Q95, "psle/margin_q95", "", NULL, "95 % quantile of the margins")                     \
    X(WEIGHT_ENTROPY, "psle/weight_entropy", "nats", NULL, "mean entropy of the weights")          \
    X(REWARDS_CHOSEN, "rewards/chosen", "", NULL, "mean implicit reward of the chosen")            \
    X(REWARDS_REJECTED, "rewards/rejected", "", NULL, "mean implicit reward of the rejected")      \
    X(REWARDS_MARGINS, "rewards/margins", "", NULL, "rewards/chosen minus rewards/rejected")       \
    X(REWARDS_ACCURACIES, "rewards/accuracies", "", "acc", "share with chosen above rejected")     \
    X(LOGPS_CHOSEN, "logps/chosen", "nats", NULL,                                                  \
      "mean log-prob of the chosen, summed over tokens")                                           \
    X(LOGPS_REJECTED, "logps/rejected", "nats", NULL,                                              \
      "mean log-prob of the rejected, summed over tokens")                                         \
    X(LOGITS_CHOSEN, "logits/chosen", "", NULL, "mean logit at the chosen's tokens")               \
    X(LOGITS_REJECTED, "logits/rejected", "", NULL, "mean logit at the rejected's tokens")         \
    X(KL, "kl", "nats", "kl", "mean log-ratio to the start, per completion")                       \
    X(OBJECTIVE_KL, "objective/kl", "nats", NULL, "kl, under the name of TRL's PPO trainer")       \
    X(ENTROPY, "entropy", "nats", NULL, "mean -log p of samples; prefer: mean entropy")            \
    X(LOGPROB_MAX_DIFF, "logprob_max_diff", "nats", NULL,                                          \
      "largest |log-prob at sampling - in training|")                                              \
    X(MISMATCH_KL, "mismatch_kl", "nats", NULL, "mean of log-prob at sampling - in training")      \
    X(MEAN_TOKEN_ACCURACY, "mean_token_accuracy", "", NULL, "share of targets ranked first")       \
    X(COMPLETION_LENGTH, "completions/mean_length", "tokens", "len", "mean completion length")     \
    X(COMPLETION_MIN, "completions/min_length", "tokens", NULL, "shortest completion")             \
    X(COMPLETION_MAX, "completions/max_length", "tokens", NULL, "longest completion")              \
    X(CLIPPED_RATIO, "completions/clipped_ratio", "", NULL, "share cut at max_new_tokens")         \
    X(DUPLICATE_RATIO, "completions/duplicate_ratio", "", NULL,                                    \
      "share that repeats another completion of its prompt")                                       \
    X(REWARD_MISSING, "reward_missing", "", NULL, "completions without a reward")                  \
    X(EVAL_REWARD, "eval_reward", "", "eval", "mean reward of answers to held-out prompts")        \
    X(EVAL_REWARD_STD, "eval_reward_std", "", NULL, "population std of the held-out rewards")      \
    X(EVAL_MISSING, "eval_reward_missing", "", NULL, "held-out answers without a reward")          \
    X(EVAL_LENGTH, "eval_completions/mean_length", "tokens", NULL, "mean held-out completion")     \
    X(EVAL_CLIPPED, "eval_completions/clipped_ratio", "", NULL,                                    \
      "held out: share cut at the limit")                                                          \
    X(EVAL_LOSS, "eval_loss", "", "eval", "loss on held-out records")                              \
    X(EVAL_CHOSEN, "eval_rewards/chosen", "", NULL, "held out: mean reward of the chosen")         \
    X(EVAL_REJECTED, "eval_rewards/rejected", "", NULL, "held out: mean reward of the rejected")   \
    X(EVAL_MARGINS, "eval_rewards/margins", "", NULL, "held out: chosen minus rejected")           \
    X(EVAL_ACCURACIES, "eval_rewards/accuracies", "", "eval acc",                                  \
      "held out: share with chosen above")                                                         \
    X(EPOCH, "epoch", "", NULL, "passes over the prompt set so far")                               \
    X(NUM_TOKENS, "num_tokens", "tokens", NULL, "generated and trained on so far")                 \
    X(GENERATED_TOKENS, "generated_tokens", "tokens", NULL, "generated so far, by all ranks")      \
    X(TOKENS_PER_SECOND, "tokens_per_second", "tokens/s", "tok/s", "all ranks, since last line")   \
    X(ROLLOUT_TOKENS_PER_SECOND, "rollout/tokens_per_second", "tokens/s", NULL, "generation only") \
    X(TIME_ROLLOUT, "time/rollout", "s", NULL, "generation")                                       \
    X(TIME_REWARD, "time/reward", "s", NULL, "scoring")                                            \
    X(TIME_REFERENCE, "time/reference", "s", NULL, "reference log-probs")                          \
    X(TIME_TRAIN, "time/train", "s", NULL, "forward, backward, update")                            \
    X(TIME_SAVE, "time/save", "s", NULL, "rollout files")                                          \
    X(TIME_EVAL, "time/eval", "s", NULL, "evaluation on held-out records")                         \
    X(TIME_CHECKPOINTS, "time/checkpoints", "s", NULL, "saving checkpoints, since the start")      \
    X(TIME_CHECKPOINT_SHARE, "time/checkpoint_share", "s/s", NULL,                                 \
      "share of the time that saves took")                                                         \
    X(TIME_EXCHANGE, "time/exchange", "s", NULL, "rank 0: exchange of gradients and weights")      \
    X(TIME_WAIT, "time/wait", "s", NULL, "rank 0: other collectives, waits for other ranks")       \
    X(TIME_LATE, "time/late", "s", NULL, "rank 0: waits for the rank that was late longest")       \
    X(LATE_RANK, "comm/late_rank", "number/rank", NULL, "that rank; only waits of seconds count")  \
    X(IDLE_ROLLOUT, "comm/idle_rollout", "s/s", NULL,                                              \
      "share of the rollout's time in which a rank waits or exchanges, mean over ranks")           \
    X(IDLE_REWARD, "comm/idle_reward", "s/s", NULL, "the same share of the reward's time")         \
    X(IDLE_REFERENCE, "comm/idle_reference", "s/s", NULL,                                          \
      "the same share of the references' time")                                                    \
    X(IDLE_TRAIN, "comm/idle_train", "s/s", NULL, "the same share of the update's time")           \
    X(TAIL_TOKENS, "comm/tail_tokens", "1/rank", NULL,                                             \
      "tokens sampled by the rank with the most, over the mean of the ranks")                      \
    X(TAIL_STEPS, "comm/tail_steps", "1/rank", NULL,                                               \
      "decode steps of the rank with the most, over the mean of the ranks")                        \
    X(COMM_MESSAGES, "comm/messages", "messages/rank", NULL, "sent by rank 0 since last line")     \
    X(COMM_BYTES, "comm/bytes", "bytes/rank", NULL, "sent by rank 0 since last line")              \
    X(COMM_EXCHANGE, "comm/exchange_bytes", "bytes/rank", NULL,                                    \
      "the same of gradients and weights alone")                                                   \
    X(TIME_ITERATION, "time/iteration", "s", NULL, "the whole iteration")

enum plumb_metric {
#define X(id, name, unit, console, meaning) PLUMB_METRIC_##id,
    PLUMB_METRIC_LIST(X)
#undef X
        PLUMB_METRIC_COUNT
};
struct plumb_metric_info {
    const char *name, *unit, *console, *meaning;
};
const struct plumb_metric_info *plumb_metric_info(enum plumb_metric id);
/* Returns true if the metric depends on the machine or on the number of ranks: its unit contains
 * seconds or is per rank. */
bool plumb_metric_of_machine(enum plumb_metric id);

/* One line of metrics. Non-finite values are written as null. */
struct plumb_metrics_row {
    int64_t step, iteration;
    uint64_t weights;             /* fingerprint of the weights after this step; 0 if unknown */
    bool set[PLUMB_METRIC_COUNT]; /* true for the metrics that this line has */
    double value[PLUMB_METRIC_COUNT];
};
static inline void plumb_metrics_set(struct plumb_metrics_row *row, enum plumb_metric id, double x)
{
    row->set[id] = true;
    row->value[id] = x;
}

typedef struct plumb_metrics plumb_metrics; /* an open metrics.jsonl; ranks > 0 write nothing */

/* Opens DIR/metrics.jsonl on rank 0; on other ranks *out writes nothing. In a resumed run, this
 * removes from metrics.jsonl and load.jsonl (report/load.h) all lines of steps after steps_done or
 * iterations after iterations_done, and an incomplete last line. If steps_done and iterations_done
 * are 0, both files start empty. Not collective. PLUMB_ERR_FORMAT names a broken line before the
 * last one. */
plumb_status plumb_metrics_open(plumb_metrics **out, const char *dir, int rank, int64_t steps_done,
                                int64_t iterations_done);
void plumb_metrics_close(plumb_metrics **m); /* does nothing if *m is NULL */
/* Appends {"step":..,"iteration":..,"weights":"<16 hex digits>",<set metrics in list order>} and
 * flushes. Not collective. */
plumb_status plumb_metrics_write(plumb_metrics *m, const struct plumb_metrics_row *row);

/* Reads all lines of a metrics.jsonl. The caller owns *out (*n,) and releases it with free. A null
 * value becomes NaN; an unknown name and an incomplete last line are ignored. PLUMB_ERR_FORMAT
 * names a broken line before the last one. Not collective. */
plumb_status plumb_metrics_read(struct plumb_metrics_row **out, int64_t *n, const char *path);

/* Appends the console line to out, without a line end: "step 12/96  it 2/8  loss 0.6931  |g| 1.20
 * ... weights 01234567", where 01234567 are the first digits of the weights' fingerprint. The
 * numbers are padded, so that columns align. A total <= 0 is unknown: "/96" is then left out. */
plumb_status plumb_metrics_console(struct plumb_buf *out, const struct plumb_metrics_row *row,
                                   int64_t total_steps, int64_t total_iterations);

#endif
