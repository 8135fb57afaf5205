/* param_list.h - every option of the configuration's section `method`, one line each. A new option
 * is added only here.
 * Layer 1. Includes nothing, so that src/config may include it: it is the only header of src/align
 * that src/config sees (tests/lint/layers.py).
 *
 * A line generates
 *   in config/options.h     the option method.NAME with its default, range, commands and help
 *   in align/param.h        the field NAME of struct plumb_align_param      (PARAM lines only)
 *   in align/param.c        the field's default and the check of its range  (PARAM lines only)
 *   in align/reads.c        the answer to which methods read the option
 *   in stage/method_param.c the copy from the configuration                 (PARAM lines only)
 *   in train/replay.c       the attribute NAME of a replay file             (PARAM lines only)
 *
 * PLUMB_METHOD_LIST(PARAM, OPTION, X) expands the macro PARAM or OPTION for each line and passes X
 * to it:
 *   PARAM(X, type, C type, name, default, range, unit, commands, help, read by)
 *   OPTION(X, type, name, default, range, unit, commands, help, read by)
 *
 *   PARAM      a parameter that selectors, thresholds and objectives may read
 *   OPTION     an option that only the stages of a run read: a file, a folder, a share of prompts
 *   type, default, range, unit, commands: as in config/options.h; the type of a PARAM is REAL, INT,
 *              BOOL or CHOICE
 *   read by    an expression over the method `m` and its parameters `p` that is true if the method
 *              reads the option; its macros are in align/reads.c. Options that are not read are
 *              refused on the command line, and a file that sets them gets a warning.
 *
 * The order of the lines is the order in the help text, in config.effective.yaml and in replay
 * files. */
#ifndef PLUMB_ALIGN_PARAM_LIST_H
#define PLUMB_ALIGN_PARAM_LIST_H

// clang-format off
#define PLUMB_METHOD_LIST(PARAM, OPTION, X) \
    OPTION(X, TEXT, name, "psle", "", "", "af", "psle, psle_curriculum, vcb, spa, real, optune, selm, dlma, context_distillation, raft, dpo, ipo, rdo, aps, rrhf, lire or pro", BY_ALL) \
    PARAM(X, REAL, double, tau, "0.2", "[0, 1e6]", "", "a", "first threshold of the reward margin, in units of the normalised reward", BY_THRESHOLD(DECAY)) \
    PARAM(X, REAL, double, alpha, "0.9", "(0, 1]", "", "a", "factor on the threshold after every iteration", BY_THRESHOLD(DECAY) || BY_THRESHOLD(MEAN_DECAY)) \
    PARAM(X, CHOICE, enum plumb_rank_loss, rank_loss, "hinge", "hinge|logistic|hinge_prob|dpo|none", "", "a", "loss of a prompt whose margin is above the threshold", BY_RULE(branch)) \
    PARAM(X, CHOICE, enum plumb_weighted_loss, weighted_loss, "softmax", "softmax|principled_only|none", "", "a", "how the completions of the other prompts are weighted", BY_RULE(branch)) \
    PARAM(X, REAL, double, weight_temperature, "1", "(0, 1e6]", "", "a", "temperature of the softmax that turns normalised rewards into weights", BY_RULE(branch) && p->weighted_loss == PLUMB_WEIGHTED_SOFTMAX) \
    PARAM(X, CHOICE, enum plumb_reward_norm, reward_norm, "zscore", "zscore|sigmoid|none", "", "a", "how rewards are normalised, over all ranks of an iteration", BY_ALL) \
    PARAM(X, CHOICE, enum plumb_threshold_kind, threshold, "decay", "decay|quantile|mean_decay|none", "", "a", "how the threshold moves from iteration to iteration", BY_RULE(branch) || BY_RULE(weigh)) \
    PARAM(X, REAL, double, quantile_start, "0.5", "[0, 1]", "", "a", "with threshold=quantile: which quantile of the reward margins is the threshold in the first iteration", BY_THRESHOLD(QUANTILE)) \
    PARAM(X, REAL, double, quantile_end, "0.5", "[0, 1]", "", "a", "with threshold=quantile: the same for the last iteration; it changes linearly in between", BY_THRESHOLD(QUANTILE)) \
    PARAM(X, REAL, double, mean_k, "0", "[-100, 100]", "", "a", "with threshold=mean_decay: number of standard deviations by which the threshold is above the mean margin", BY_THRESHOLD(MEAN_DECAY)) \
    PARAM(X, CHOICE, enum plumb_reverse, reverse, "weighted", "weighted|swap", "", "a", "what happens to a prompt whose plain answer is better by more than the threshold: it is weighted, or the pair is swapped", BY_RULE(branch) && p->rank_loss != PLUMB_RANK_NONE) \
    OPTION(X, TEXT, reference, "init", "", "folder", "af", "frozen policy that the loss compares with: init (where the run starts), previous (the policy as the iteration began) or a checkpoint folder", BY_LOSS(NEED_REF)) \
    PARAM(X, REAL, double, beta, "0.1", "(0, 1e6]", "", "af", "scale of the log-ratio in logistic and dpo losses", BY_LOSS(READ_BETA)) \
    PARAM(X, REAL, double, label_smoothing, "0", "[0, 0.5)", "", "af", "label smoothing of the dpo loss: assumed probability that the label of a pair is wrong", BY_LOSS(READ_SMOOTHING)) \
    PARAM(X, BOOL, bool, length_normalize, "true", "", "", "a", "ranking terms: use log-probabilities per token instead of their sum; what the policy imitates follows loss_aggregation", BY_LOSS(READ_LENGTH)) \
    PARAM(X, CHOICE, enum plumb_aggregation, loss_aggregation, "token", "token|sequence|sum", "", "a", "imitation terms: divide log-probabilities by the mean length of all imitated answers of the global batch (a mean over its tokens), by each answer's own length (which shortens answers), or not at all", BY_LOSS(READ_AGGREGATION)) \
    PARAM(X, REAL, double, lambda, "1", "(0, 1e6]", "", "a", "vcb: log-ratio, in nats, that corresponds to one standard deviation of the reward", BY_OBJECTIVE(vcb)) \
    PARAM(X, REAL, double, reference_weight, "1", "[0, 1]", "", "a", "vcb: weight of the reference's log-probability; with 0 no reference model is needed", BY_OBJECTIVE(vcb)) \
    PARAM(X, REAL, double, list_temperature, "2", "(0, 1e6]", "", "a", "lire: temperature of the softmax over the log-probabilities of a prompt's answers", BY_OBJECTIVE(lire)) \
    PARAM(X, REAL, double, sft_weight, "1", "[0, 1e6]", "", "a", "rrhf and pro: weight of the SFT loss on the best answer", BY_OBJECTIVE(rrhf) || BY_OBJECTIVE(pro)) \
    PARAM(X, REAL, double, curriculum_temperature, "10", "(0, 1e6]", "", "a", "psle_curriculum: temperature of the sigmoid that weights the pairs below the threshold", BY_RULE(weigh)) \
    OPTION(X, TEXT, judge, "init", "", "folder", "a", "spa: frozen policy against which the policy judges its answers, not the weights that it starts from (all would be alike): a checkpoint folder, init, or previous", BY_METHOD(spa)) \
    OPTION(X, CHOICE, pick, "easy", "easy|hard|centroid|random", "", "af", "real: the pair that is scored: the least alike answers, the most alike, those nearest to two centres, or any", BY_METHOD(real)) \
    OPTION(X, TEXT, embedder, "init", "", "folder", "af", "real: frozen model whose hidden states say how alike answers are; init or a checkpoint folder", BY_METHOD(real)) \
    OPTION(X, REAL, keep, "0.5", "(0, 1]", "", "f", "real: share of the given pairs that is trained on", BY_METHOD(real)) \
    PARAM(X, REAL, double, noise_share, "0.1", "[0, 1]", "", "a", "spa: share of the pairs whose labels are smoothed; these are the pairs with the smallest margins", BY_METHOD(spa)) \
    PARAM(X, INT, int64_t, noise_window, "200", "[1, 1000000000]", "pairs", "a", "spa: number of the latest pairs, over all ranks, from which the limit of a small margin is computed", BY_METHOD(spa)) \
    PARAM(X, REAL, double, noise_start, "0.2", "[0, 1]", "", "a", "spa: share of an iteration's steps, at its start, in which no label is smoothed", BY_METHOD(spa)) \
    PARAM(X, REAL, double, noise_smoothing, "0.1", "[0, 0.5]", "", "a", "spa: label smoothing of a pair with a small margin", BY_METHOD(spa)) \
    PARAM(X, REAL, double, decoupling, "0.5", "[0, 100]", "", "a", "spa: lambda of the logits (1 + lambda) x policy - lambda x reference, with which the margins are computed; 0: the policy's logits", BY_METHOD(spa)) \
    OPTION(X, REAL, renew, "0.5", "[0, 1]", "", "a", "optune: share of the prompts, those with the lowest rewards, that are answered again", BY_METHOD(optune)) \
    OPTION(X, TEXT, contrary, "", "", "file", "a", "dlma: text file with the opposite of the principles, for the second of the two prompts that give the self-rewarding score", (m->guides & PLUMB_GUIDE_CONTRARY) != 0) \
    PARAM(X, REAL, double, weight_beta, "1", "(0, 1e6]", "", "af", "optune: a pair counts sigma(weight_beta x reward difference)", BY_RULE(sigmoid)) \
    PARAM(X, REAL, double, optimism, "0.001", "[0, 1e6]", "", "a", "selm: weight of the term that lowers the log-probability of the reference's greedy answer", BY_OBJECTIVE(selm)) \
    PARAM(X, REAL, double, margin_beta, "0.1", "[0, 1e6]", "", "a", "dlma: factor of the self-rewarded margin that is subtracted from beta times the log-ratios of a pair", BY_OBJECTIVE(dlma)) \
    PARAM(X, REAL, double, margin_limit, "40", "[0, 1e6]", "", "a", "dlma: self-rewarded margins are clipped to plus or minus this value, in nats", BY_OBJECTIVE(dlma)) \
    PARAM(X, REAL, double, rho, "-0.5", "(-0.69, 0)", "", "af", "aps: coefficient rho of the penalty rho t on a pair's own temperature t; above -log 2 and below 0", BY_OBJECTIVE(aps)) \
    OPTION(X, TEXT, principles, "", "", "file", "a", "plain text of the principles", (m->guides & PLUMB_GUIDE_PRINCIPLES) != 0) \
    OPTION(X, TEXT, principle_template, "{principle}\n{prompt}", "", "", "a", "how principles and prompt are joined", (m->guides & PLUMB_GUIDE_PRINCIPLES) != 0) \
    OPTION(X, CHOICE, principle_role, "user", "user|system", "", "a", "with a chat template: whose message the principles go into; user: the last one, by principle_template; system: the system message, before its text", (m->guides & PLUMB_GUIDE_PRINCIPLES) != 0)
// clang-format on

#endif
