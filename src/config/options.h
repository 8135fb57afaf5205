/* options.h - every option of every command, once: this list makes the struct, the reader, the
 * help text and config.effective.yaml.
 * Layer 3. Includes align/param_list.h, which has the lines of the section method.
 *
 * X(type, name, default, range, unit, commands, changes results, help)
 *   type      BOOL bool | INT int64_t | SEED uint64_t | REAL double | TEXT const char *, not NULL
 *             CHOICE int, the index in its range | WORD const char *, one of its range
 *             TEXTS struct plumb_texts | FUNCTIONS struct plumb_reward_functions
 *   range     numbers: an interval, ( ) without its end; CHOICE and WORD: the values
 *   default   of all commands but those with one of their own in option.c (own_default)
 *   commands  one letter each: a align, s sft, r reward, f prefer, g generate, l logprob,
 *             d gradient, c score, e eval, t tokenize, i inspect, p replay, o doctor,
 *             n run, m compare, b plan
 *   changes   0 when two runs that differ in it alone write the same weights */
#ifndef PLUMB_CONFIG_OPTIONS_H
#define PLUMB_CONFIG_OPTIONS_H

#include "align/param_list.h"

// clang-format off
#define PLUMB_OPTIONS_TOP(X) \
    X(TEXT, model, "", "", "folder", "asrfgldctip", 1, "model to work on: config.json, tokenizer.json and safetensors files") \
    X(TEXT, tokenizer, "", "", "folder", "asrfgldcti", 1, "where tokenizer.json is; not given: in the model's folder") \
    X(TEXT, output_dir, "", "", "folder", "asrfenm", 0, "where the run writes its checkpoints, rollouts, metrics and report") \
    X(TEXT, input, "-", "", "file", "ldctip", 0, "JSON lines to read, - for standard input; inspect: a rollout file or checkpoint; replay: its file") \
    X(TEXT, output, "-", "", "file", "gldcetpmb", 0, "JSON lines to write, - for standard output; gradient: a safetensors file; plan: one object beside the table") \
    X(SEED, seed, "1", "", "", "asrfge", 1, "of all random numbers; the same seed gives the same result on any rank count") \
    X(WORD, device, "auto", "auto|cpu|cuda|ref", "", "asrfgldceopn", 1, "where to compute; cuda: one GPU per rank, in builds with CUDA; ref: the slow definition of every kernel") \
    X(CHOICE, dtype, "float32", "float32|bfloat16", "", "asrfgldceopn", 1, "what activations and the weights that multiply them are; weights, their gradients and sums stay float32; bfloat16: device: cuda only") \
    X(INT, threads, "0", "[0, 4096]", "threads", "asrfgldceopn", 0, "per rank; 0: this rank's share of the cores") \
    X(TEXT, resume, "never", "", "", "asrfnglcte", 0, "never, auto (the newest complete checkpoint of output_dir; for lines: behind those that output has; eval: behind the answers and scores in output_dir) or a checkpoint folder") \
    X(CHOICE, log_level, "info", "error|warn|info|debug", "", "asrfgldcetiopnm", 0, "least important log lines that are shown") \
    X(TEXT, pins, "", "", "file", "asrfgldceopn", 0, "cuda: which algorithm cuBLASLt takes for which layer; not given: pins.txt in the cache folder; none: nothing is measured, the first that is row-invariant") \
    X(BOOL, special, "true", "", "", "t", 1, "add the special tokens that the tokenizer file asks for") \
    X(BOOL, embedding, "false", "", "", "l", 1, "also write the mean last hidden state over the completion")

#define PLUMB_OPTIONS_COMM(X) \
    X(REAL, timeout, "60", "(0, 86400]", "s", "asrfgldcetopn", 0, "a rank that is silent for so long (dead, stopped, cut off) while others wait for it ends the run") \
    X(REAL, max_wait, "1800", "[0, 864000]", "s", "asrfgldcetopn", 0, "longest wait for a rank that lives but is busy; 0: for ever") \
    X(CHOICE, exchange, "auto", "auto|nccl|mpi", "", "asrfgldceopn", 0, "between ranks on device: cuda; nccl: from GPU to GPU; mpi: through host memory, and ranks may share a GPU; auto: nccl if built in") \
    X(CHOICE, reduce, "tree", "tree|nccl", "", "asrfgldceopn", 1, "order in which gradients of ranks add up; tree: the same bits for any power of two of ranks; nccl: the library's own, to rounding") \
    X(INT, bucket, "128", "[0, 1048576]", "MB", "asrf", 0, "over nccl, gradients that are final travel in pieces of this size while the rest is computed; 0: small ones")

#define PLUMB_OPTIONS_DATA(X) \
    X(TEXT, prompts, "", "", "file", "ag", 1, "JSON lines with prompts to answer; generate: - for standard input") \
    X(TEXT, train, "", "", "file", "srf", 1, "JSON lines to train on: prompt and completion or messages; reward, prefer: chosen and rejected") \
    X(TEXT, eval, "", "", "file", "asrfe", 0, "JSON lines held out for evaluation; training commands measure it every train.eval_every: loss and accuracy, align: the reward of answers") \
    X(TEXT, prompt_template, "{prompt}", "", "", "asrfgldcet", 1, "text around a record's prompt; {prompt} stands for it") \
    X(INT, max_prompt_tokens, "0", "[0, 16777216]", "tokens", "asrfge", 1, "longest prompt; longer ones are an error; 0: what the model's context holds") \
    X(INT, max_tokens, "0", "[0, 16777216]", "tokens", "asrfglde", 1, "longest sequence, prompt and completion; 0: the model's context") \
    X(BOOL, shuffle, "true", "", "", "asrf", 1, "take records in an order drawn from the seed instead of file order") \
    X(BOOL, append_eos, "true", "", "", "srfld", 1, "the end token follows every completion of a record that lacks it") \
    X(INT, skip, "0", "[0, 1000000000000]", "records", "asrf", 1, "leave out the first records of train or prompts, as those that an earlier stage has seen") \
    X(INT, limit, "0", "[0, 1000000000000]", "records", "asrfgldcet", 1, "read only the first records of a file (training commands: of train or prompts); 0: all")

#define PLUMB_OPTIONS_GENERATE(X) \
    X(REAL, temperature, "1", "[0, 100]", "", "age", 1, "of sampling; 0 always takes the most likely token") \
    X(INT, top_k, "0", "[0, 16777216]", "tokens", "age", 1, "sample among the most likely so many; 0: all") \
    X(REAL, top_p, "1", "(0, 1]", "", "age", 1, "sample among the most likely tokens that hold this probability together") \
    X(REAL, min_p, "0", "[0, 1]", "", "age", 1, "drop tokens below this share of the most likely one's probability") \
    X(INT, max_new_tokens, "128", "[1, 16777216]", "tokens", "age", 1, "longest completion") \
    X(INT, group_size, "1", "[1, 4096]", "", "ag", 1, "completions per prompt; psle takes half of them under the principles (align: 4 unless it is set)") \
    X(TEXTS, stop, "", "", "", "age", 1, "strings that end a completion") \
    X(INT, slots, "64", "[1, 65536]", "sequences", "age", 0, "alive at the same time on a rank; changes speed and memory, no result") \
    X(BOOL, ignore_eos, "false", "", "", "age", 1, "go on after an end token (for benchmarks)") \
    X(BOOL, graphs, "true", "", "", "age", 0, "on a GPU: launch a step of generation as one recorded graph instead of kernel by kernel; changes speed, no result")

/* The section method: align/param_list.h has the lines. */
#define PLUMB_METHOD_PARAM(X, type, c_type, name, value, range, unit, commands, help, read_by) \
    X(type, name, value, range, unit, commands, 1, help)
#define PLUMB_METHOD_OPTION(X, type, name, value, range, unit, commands, help, read_by) \
    X(type, name, value, range, unit, commands, 1, help)
#define PLUMB_OPTIONS_METHOD(X) PLUMB_METHOD_LIST(PLUMB_METHOD_PARAM, PLUMB_METHOD_OPTION, X)

#define PLUMB_OPTIONS_REWARD(X) \
    X(TEXT, model, "", "", "folder", "aec", 1, "sequence classification model that scores completions") \
    X(INT, context, "0", "[0, 16777216]", "tokens", "aec", 1, "longest prompt and completion that the model reads, in its own tokens; longer ones have no score; 0: twice the policy's longest, at most the model's context") \
    X(CHOICE, append_eos, "trained", "trained|true|false", "", "aec", 1, "the model (also model= of score) reads the end token after every completion; trained: as its folder says it was trained (plumb_encoding.json), true where it does not say") \
    X(TEXT, command, "", "", "", "aec", 1, "shell command: a JSON line in, a JSON line with a score out") \
    X(FUNCTIONS, functions, "", "", "", "aec", 1, "weighted built-in functions: length, regex, words, repetition, exact") \
    X(REAL, timeout, "30", "(0, 86400]", "s", "aec", 0, "the command's time for one item") \
    X(REAL, max_missing, "0.5", "[0, 1]", "", "aec", 0, "largest share of completions without a score before the run stops") \
    X(INT, restarts, "3", "[0, 1000000]", "", "aec", 0, "how often a command that died is started again")

#define PLUMB_OPTIONS_TRAIN(X) \
    X(CHOICE, init, "checkpoint", "checkpoint|random", "", "s", 1, "first weights: the model's, or random ones for its config.json") \
    X(INT, iterations, "8", "[1, 1000000]", "", "a", 1, "rounds of answering, scoring and training") \
    X(INT, prompts_per_iteration, "0", "[0, 1000000000]", "prompts", "a", 1, "0: all prompts, spread over the iterations") \
    X(INT, generated_tokens, "0", "[0, 1000000000000]", "tokens", "a", 1, "end when the run has generated so many, over all ranks: the last iteration takes fewer prompts, iterations is an upper limit, schedules go by tokens; 0: after all iterations") \
    X(INT, epochs, "1", "[1, 1000000]", "", "asrf", 1, "passes over the records; align: over an iteration's own answers") \
    X(INT, max_steps, "0", "[0, 1000000000]", "steps", "srf", 1, "stop after so many optimizer steps; 0: when the epochs end") \
    X(INT, global_batch_size, "32", "[1, 1000000000]", "records", "asrf", 1, "prompts, records or pairs of one optimizer step, over all ranks") \
    X(INT, micro_batch_size, "4", "[1, 1000000]", "records", "asrfd", 1, "of one forward and backward pass") \
    X(REAL, learning_rate, "1e-5", "(0, 10]", "", "asrf", 1, "its peak") \
    X(CHOICE, lr_schedule, "constant", "constant|linear|cosine", "", "asrf", 1, "of the learning rate after the warm-up") \
    X(REAL, warmup_ratio, "0", "[0, 1]", "", "asrf", 1, "share of all steps that warm up") \
    X(REAL, min_lr_ratio, "0", "[0, 1]", "", "asrf", 1, "where linear and cosine end, as a share of the peak") \
    X(REAL, weight_decay, "0", "[0, 10]", "", "asrf", 1, "decoupled (AdamW)") \
    X(REAL, beta1, "0.9", "[0, 1)", "", "asrf", 1, "decay of the first moment") \
    X(REAL, beta2, "0.999", "[0, 1)", "", "asrf", 1, "decay of the second moment") \
    X(REAL, epsilon, "1e-8", "(0, 1]", "", "asrf", 1, "added to the root of the second moment") \
    X(REAL, max_grad_norm, "1", "[0, 1e12]", "", "asrf", 1, "gradients are scaled down to this global norm; 0: never") \
    X(BOOL, recompute, "false", "", "", "asrfd", 0, "keep one activation per layer and compute the rest again: less memory, more time") \
    X(BOOL, offload_moments, "false", "", "", "asrf", 0, "keep AdamW's moments in the host's memory and stream them through the device; the CPU has them there") \
    X(INT, head_rows, "512", "[1, 1048576]", "rows", "asrfld", 1, "positions whose logits exist at the same time") \
    X(REAL, max_logprob_gap, "0", "[0, 1e6]", "nats", "a", 0, "largest difference of a token's log-prob between sampling and training before the run stops; the CPU needs 0, other devices perhaps more") \
    X(TEXT, replay, "", "", "", "asrf", 0, "STEP:MICRO_BATCH (from 1 and from 0) whose replay file is written, for plumb replay") \
    X(BOOL, kl_to_start, "true", "", "", "a", 0, "report the divergence from the starting model; costs its memory") \
    X(REAL, max_time, "0", "[0, 1e9]", "s", "asrf", 0, "save and leave with exit code 99 so long after the start; 0: never") \
    X(INT, eval_every, "0", "[0, 1000000000]", "", "asrf", 0, "iterations (align) or steps (sft, reward, prefer) between evaluations on data.eval; the end has one in any case; 0: and after each epoch (sft, reward, prefer)") \
    X(INT, log_every, "10", "[1, 1000000000]", "steps", "srf", 0, "lines of metrics.jsonl and of the console")

#define PLUMB_OPTIONS_CHECKPOINT(X) \
    X(INT, every, "0", "[0, 1000000000]", "", "asrf", 0, "iterations (align) or steps (sft, reward, prefer) between checkpoints that stay; 0: one at the end, and with keep_best one after each evaluation") \
    X(INT, keep_last, "2", "[0, 1000000]", "", "asrf", 0, "newest checkpoints that are kept; 0: all") \
    X(INT, keep_every, "0", "[0, 1000000000]", "steps", "asrf", 0, "also keep every checkpoint whose step is a multiple; 0: none") \
    X(INT, keep_best, "0", "[0, 1000000]", "", "asrf", 0, "also keep so many checkpoints with the best best_metric; 0: none") \
    X(TEXT, best_metric, "", "", "", "asrf", 0, "what best means; not given: eval_reward (align) or eval_loss with data.eval, else reward (align) or loss; it is in every checkpoint") \
    X(REAL, interval, "600", "[0, 1e9]", "s", "asrf", 0, "save when the last save is so old, and go on: a point to resume from, which goes when a later one is there; changes no result; 0: never") \
    X(REAL, max_share, "0.03", "(0, 1]", "", "asrf", 0, "largest share of the run's time that these saves may take, the last checkpoint included: they come less often than interval says where a save takes long; 1, no limit, where interval is set") \
    X(CHOICE, optimizer, "all", "all|last|none", "", "asrf", 0, "which checkpoints hold the optimizer's moments, two thirds of their bytes; last: the run's last one; without them a checkpoint cannot be resumed from. Points to resume from always hold them") \
    X(REAL, retry, "0", "[0, 1e9]", "s", "asrf", 0, "a save that meets a full disk is tried again for so long, the run waits") \
    X(INT, shard_bytes, "5e9", "[1, 1e18]", "bytes", "asrf", 0, "largest weights file")

#define PLUMB_OPTIONS_EVAL(X) \
    X(TEXTS, models, "", "", "", "e", 1, "NAME=FOLDER of every model to compare; win rates are against the first") \
    X(INT, samples, "1", "[1, 4096]", "", "e", 1, "answers per prompt and model") \
    X(REAL, win_margin, "0", "[0, 1e6]", "", "e", 1, "reward difference up to which two answers are a tie") \
    X(TEXT, judge, "", "", "", "e", 1, "shell command that says which answer wins, instead of the reward: a JSON line {prompt, a, b} in, {winner: a, b or tie} or {score: 0..1 for a} out; reward.timeout and reward.restarts hold for it") \
    X(BOOL, kl, "true", "", "", "e", 1, "divergence from the first model, from its log-probabilities of the answers") \
    X(INT, bootstrap, "1000", "[0, 1000000]", "", "e", 1, "replicates of the intervals, which are drawn over prompts; 0: none")

#define PLUMB_OPTIONS_COMPARE(X) \
    X(TEXTS, runs, "", "", "", "m", 1, "folders of finished align and prefer runs, plain or as NAME=FOLDER; runs that differ in nothing but the seed are one row") \
    X(TEXT, evaluation, "eval", "", "folder", "m", 1, "inside of every run, the output_dir of plumb eval on its model") \
    X(TEXTS, allow, "", "", "", "m", 1, "differences that are no error: start, prompts, reward, budget, evaluation, unfinished")

#define PLUMB_OPTIONS_REPORT(X) \
    X(INT, samples, "4", "[0, 1000]", "rows", "ae", 0, "of the sample table of every iteration") \
    X(BOOL, html, "true", "", "", "asrfem", 0, "write report.html")

#define PLUMB_OPTIONS_PLAN(X) \
    X(TEXT, memory, "", "", "", "asrfb", 0, "80GB: what a rank may take of its device, or of the host on the CPU; not given: what is free") \
    X(INT, world_size, "0", "[0, 65536]", "ranks", "b", 0, "to plan for; 0: as many as are running")

/* X(LIST, section, the section's line in help) */
#define PLUMB_OPTION_SECTIONS(X) \
    X(COMM, comm, "ranks") \
    X(DATA, data, "records in and out") \
    X(GENERATE, generate, "sampling") \
    X(METHOD, method, "alignment method") \
    X(REWARD, reward, "where scores come from; the sources add up") \
    X(TRAIN, train, "optimizer and loop") \
    X(CHECKPOINT, checkpoint, "what is saved when") \
    X(EVAL, eval, "comparison of models") \
    X(COMPARE, compare, "finished runs") \
    X(REPORT, report, "what a run shows of itself") \
    X(PLAN, plan, "memory, counted before it is taken")
// clang-format on

#endif
