/* options.h - the table of all options of all commands. The struct, the reader, the help text and
 * config.effective.yaml are generated from it.
 * Layer 3. Includes align/param_list.h, which has the lines of the section method.
 *
 * X(type, name, default, range, unit, commands, changes results, help)
 *   type      BOOL bool | INT int64_t | SEED uint64_t | REAL double | TEXT const char *, never NULL
 *             AUTO double, not negative, or the word auto
 *             CHOICE int, the index in its range | WORD const char *, one of its range
 *             TEXTS struct plumb_texts | FUNCTIONS struct plumb_reward_functions
 *             MAP const char *, the text of a JSON object
 *   default   for all commands, except those in the table own_default of option.c
 *   range     numbers: an interval, where ( and ) exclude the end; CHOICE and WORD: the values
 *   commands  one letter for each: a align, s sft, r reward, f prefer, g generate, l logprob,
 *             d gradient, c score, e eval, t tokenize, i inspect, p replay, o doctor,
 *             n run, m compare, b plan, w merge, k top
 *   changes   0 if two runs that differ only in this option write the same weights */
#ifndef PLUMB_CONFIG_OPTIONS_H
#define PLUMB_CONFIG_OPTIONS_H

#include "align/param_list.h"

// clang-format off
#define PLUMB_OPTIONS_TOP(X) \
    X(TEXT, model, "", "", "folder", "asrfgldctipw", 1, "folder of the model: config.json, tokenizer.json and safetensors files; or of an adapter, whose adapter_config.json names the folder of its base model") \
    X(TEXT, tokenizer, "", "", "folder", "asrfgldcti", 1, "folder of tokenizer.json; not given: the folder of the adapter, if it has the file, else the model's") \
    X(TEXT, output_dir, "", "", "folder", "asrfenm", 0, "folder to which the run writes its checkpoints, rollouts, metrics and report") \
    X(TEXT, input, "-", "", "file", "ldctipk", 0, "JSON lines to read, - for standard input; inspect: the path to describe; top: the folder of the run; replay: the replay file") \
    X(TEXT, output, "-", "", "file", "gldcetpmbw", 0, "JSON lines to write, - for standard output; gradient: the safetensors file to write; plan: a file for the table as one JSON object; merge: the folder to write") \
    X(SEED, seed, "1", "", "", "asrfge", 1, "seed of all random numbers; the same seed gives the same result on any number of ranks that is a power of two") \
    X(WORD, device, "auto", "auto|cpu|cuda|ref", "", "asrfgldceopn", 1, "device that computes; cuda: one GPU per rank (needs a build with CUDA); ref: the slow reference implementation of each kernel") \
    X(CHOICE, dtype, "float32", "float32|bfloat16", "", "asrfgldceopn", 1, "dtype of activations and of the weights that multiply them; the stored weights, gradients and sums stay float32; bfloat16 needs device: cuda") \
    X(CHOICE, frozen, "auto", "auto|resident|sharded|offload", "", "af", 0, "where the layers of frozen models are (references, the reward model); resident: on every rank's device; sharded: each rank has a share of every layer and gathers the others' layer by layer; offload: in host memory, page-locked for a GPU, copied layer by layer; auto: the first of these that the memory plan finds to fit") \
    X(INT, threads, "0", "[0, 1024]", "threads", "asrfgldceopnw", 0, "threads per rank; 0: this rank's share of the machine's cores") \
    X(TEXT, resume, "never", "", "", "asrfnglcte", 0, "never, auto, or a checkpoint folder; auto continues from the newest complete checkpoint in output_dir (commands that write JSON lines: after the lines that output has; eval: after the completions and scores in output_dir)") \
    X(CHOICE, log_level, "info", "error|warn|info|debug", "", "asrfgldcetiopnmwk", 0, "least important level of the log lines that are shown") \
    X(TEXT, pins, "", "", "file", "asrfgldceopn", 0, "cuda: file that stores the cuBLASLt algorithms for each matrix product; not given: pins.txt in the cache folder; none: measure nothing and use the first row-invariant algorithm") \
    X(BOOL, special, "true", "", "", "t", 1, "add the special tokens that the post-processor of tokenizer.json adds") \
    X(REAL, refresh, "2", "[0, 3600]", "s", "k", 0, "in a terminal, show the run again after this time until it ends; 0: show it once") \
    X(BOOL, embedding, "false", "", "", "l", 1, "also write the mean last hidden state over the completion")

#define PLUMB_OPTIONS_COMM(X) \
    X(REAL, timeout, "60", "(0, 86400]", "s", "asrfgldcetopn", 0, "the run ends with an error if a rank sends no heartbeat for this long while other ranks wait for it") \
    X(REAL, max_wait, "1800", "[0, 864000]", "s", "asrfgldcetopn", 0, "longest time that ranks wait for a rank that is busy but still sends heartbeats; 0: no limit") \
    X(CHOICE, exchange, "auto", "auto|nccl|mpi", "", "asrfgldceopn", 0, "transport between ranks on device: cuda; nccl: from GPU to GPU; mpi: through host memory, ranks may then share a GPU; auto: nccl if plumb is built with it") \
    X(CHOICE, reduce, "tree", "tree|nccl", "", "asrfgldceopn", 1, "order in which the ranks' gradients are added; tree: the same bits for any number of ranks that is a power of two; nccl: NCCL's own order, which may change the rounding") \
    X(INT, bucket, "128", "[0, 1048576]", "MB", "asrfd", 0, "with nccl or train.shard other than optimizer, finished gradients are reduced in buckets of at least this size while the remaining ones are computed; 0: small buckets")

#define PLUMB_OPTIONS_DATA(X) \
    X(TEXT, prompts, "", "", "file", "ag", 1, "JSON lines with the prompts to sample completions for; generate: - for standard input") \
    X(TEXT, train, "", "", "file", "srf", 1, "JSON lines to train on: prompt and completion or messages; reward, prefer: chosen and rejected") \
    X(TEXT, eval, "", "", "file", "asrfe", 0, "held-out JSON lines for evaluation; training commands evaluate on it every train.eval_every: loss and accuracy, align: the reward of completions") \
    X(TEXT, prompt_template, "{prompt}", "", "", "asrfgldcet", 1, "template that is put around a record's prompt; {prompt} stands for the prompt") \
    X(TEXT, chat_template, "auto", "", "", "asrfgldcet", 1, "chat template that turns messages into text: auto (the template in the tokenizer's folder; prompt_template if there is none), none (prompt_template), a Jinja file, or the name of one of the folder's templates; prompts that are plain text are not changed") \
    X(TEXT, system, "", "", "", "asrfgldcet", 1, "with a chat template: system message for conversations that have none; not given: that of the run that wrote the model folder") \
    X(MAP, template_arguments, "{}", "", "", "asrfgldcet", 1, "with a chat template: variables for it, such as {enable_thinking: false}; not given: those of the run that wrote the model folder") \
    X(BOOL, assistant_only, "true", "", "", "sld", 1, "for records of messages: the loss covers only messages of the assistant, all of them with a chat template, otherwise the last one; false: the loss covers all tokens") \
    X(CHOICE, overlong, "error", "error|truncate_left|truncate_right|drop", "", "asrfglde", 1, "what happens to records that are longer than max_prompt_tokens or max_tokens: error, remove their first or last tokens (the completions of a pair always lose their last ones), or leave them out; the number of such records is logged") \
    X(INT, max_prompt_tokens, "0", "[0, 16777216]", "tokens", "asrfge", 1, "longest prompt; 0: the model's context length") \
    X(INT, max_tokens, "0", "[0, 16777216]", "tokens", "asrfglde", 1, "longest sequence of prompt and completion; 0: the model's context length") \
    X(BOOL, shuffle, "true", "", "", "asrf", 1, "shuffle the records with the seed instead of using the order of the file") \
    X(BOOL, append_eos, "true", "", "", "srfld", 1, "append the end token to each completion of a record that does not end with it") \
    X(INT, skip, "0", "[0, 1000000000000]", "records", "asrf", 1, "leave out this many records at the beginning of train or prompts, for example those that an earlier stage has used") \
    X(INT, limit, "0", "[0, 1000000000000]", "records", "asrfgldcet", 1, "read only the first records of a file (training commands: of train or prompts); 0: all")

#define PLUMB_OPTIONS_GENERATE(X) \
    X(REAL, temperature, "1", "[0, 100]", "", "age", 1, "sampling temperature; 0 always takes the most likely token") \
    X(INT, top_k, "0", "[0, 16777216]", "tokens", "age", 1, "sample only from this many most likely tokens; 0: from all") \
    X(REAL, top_p, "1", "(0, 1]", "", "age", 1, "sample only from the most likely tokens whose probabilities sum to this value") \
    X(REAL, min_p, "0", "[0, 1]", "", "age", 1, "never sample a token whose probability is below this share of the most likely token's") \
    X(REAL, repetition_penalty, "1", "(0, 100]", "", "age", 1, "lower the logits of the tokens that the prompt and the completion have so far: positive logits are divided by this value, negative ones multiplied; 1: off; the recorded log-probs are those without it") \
    X(INT, max_new_tokens, "128", "[1, 16777216]", "tokens", "age", 1, "longest completion") \
    X(INT, group_size, "1", "[1, 4096]", "", "ag", 1, "completions per prompt; psle samples half of them with the principles in the prompt (default of align: 4)") \
    X(TEXTS, stop, "", "", "", "age", 1, "strings that end a completion") \
    X(INT, slots, "64", "[1, 65536]", "sequences", "age", 0, "sequences that a rank generates at the same time; changes speed and memory, not the results") \
    X(CHOICE, balance, "none", "none|length|queue", "", "a", 0, "which rank generates the completions of a prompt; none: the rank that trains on them; length: prompts are dealt so that all ranks are expected to generate the same number of tokens, by the length of the record's last completions, or else of the prompt; queue: so many are dealt in this way as begin at once in the slots, and a rank with a free slot takes the next of the others, for lengths that are not known; length and queue need host memory for up to twice the completions more; changes speed, not the results") \
    X(BOOL, ignore_eos, "false", "", "", "age", 1, "do not stop at an end token (for benchmarks)") \
    X(BOOL, graphs, "true", "", "", "age", 0, "on a GPU, launch a decode step as one CUDA graph instead of kernel by kernel; changes speed, not the results")

/* The section `method` of the table is generated from the lines in align/param_list.h. */
#define PLUMB_METHOD_PARAM(X, type, c_type, name, value, range, unit, commands, help, read_by) \
    X(type, name, value, range, unit, commands, 1, help)
#define PLUMB_METHOD_OPTION(X, type, name, value, range, unit, commands, help, read_by) \
    X(type, name, value, range, unit, commands, 1, help)
#define PLUMB_OPTIONS_METHOD(X) PLUMB_METHOD_LIST(PLUMB_METHOD_PARAM, PLUMB_METHOD_OPTION, X)

#define PLUMB_OPTIONS_REWARD(X) \
    X(TEXT, model, "", "", "folder", "aec", 1, "folder of the sequence classification model that scores completions") \
    X(INT, context, "0", "[0, 16777216]", "tokens", "aec", 1, "longest prompt and completion together, in the reward model's tokens; a longer text gets no score; 0: twice the policy's longest sequence, at most the reward model's context length") \
    X(CHOICE, append_eos, "trained", "trained|true|false", "", "aec", 1, "append the end token to each completion before the reward model (also model= of score) reads it; trained: as plumb_encoding.json in the model's folder says it was trained, true without that file") \
    X(TEXT, command, "", "", "", "aec", 1, "shell command that reads a JSON line for each completion and answers with a JSON line that has its score") \
    X(FUNCTIONS, functions, "", "", "", "aec", 1, "weighted sum of built-in functions: a list of maps {name: length|regex|words|repetition|exact, weight: 1, ...}, for example [{name: exact, field: answer}, {name: length, target: 60, weight: 0.1}]; README has the keys of each function") \
    X(REAL, timeout, "30", "(0, 86400]", "s", "aec", 0, "time that the command may take to score one completion") \
    X(REAL, max_missing, "0.5", "[0, 1]", "", "aec", 0, "the run ends with an error if a larger share of the completions has no score") \
    X(INT, restarts, "3", "[0, 1000000]", "", "aec", 0, "number of times that a command is started again after it has ended unexpectedly")

#define PLUMB_OPTIONS_LORA(X) \
    X(INT, r, "0", "[0, 4096]", "", "asrf", 1, "rank of a new LoRA adapter, which is then trained instead of the weights; 0: train all weights, or the adapter that is given") \
    X(REAL, alpha, "16", "(0, 1e6]", "", "asrf", 1, "a new adapter's output is multiplied by alpha / r") \
    X(TEXTS, targets, "", "", "", "asrf", 1, "modules that a new adapter changes: names among q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or the model's own, such as GPT-2's c_attn; all-linear or not given: all of them") \
    X(BOOL, rslora, "false", "", "", "asrf", 1, "multiply a new adapter's output by alpha / sqrt(r) instead of alpha / r") \
    X(TEXT, adapter, "", "", "folder", "asrfgldcw", 1, "folder of an adapter, as plumb or peft writes it, for the model; training continues with this adapter")

#define PLUMB_OPTIONS_TRAIN(X) \
    X(CHOICE, init, "checkpoint", "checkpoint|random", "", "s", 1, "initial weights: those of the model's folder, or random ones for its config.json") \
    X(INT, iterations, "8", "[1, 1000000]", "", "a", 1, "number of iterations; each samples completions, scores them and trains on them") \
    X(INT, prompts_per_iteration, "0", "[0, 1000000000]", "prompts", "a", 1, "number of prompts in each iteration; 0: all prompts divided by the number of iterations") \
    X(INT, generated_tokens, "0", "[0, 1000000000000]", "tokens", "a", 1, "end the run when it has generated this many tokens, over all ranks: the last iteration takes fewer prompts, iterations is an upper limit, and schedules follow the tokens; 0: end after all iterations") \
    X(INT, epochs, "1", "[1, 1000000]", "", "asrf", 1, "number of passes over the records; align: over the completions of an iteration") \
    X(INT, max_steps, "0", "[0, 1000000000]", "steps", "srf", 1, "end after this many optimizer steps; 0: after all epochs") \
    X(INT, global_batch_size, "32", "[1, 1000000000]", "records", "asrf", 1, "prompts, records or pairs in one optimizer step, over all ranks") \
    X(INT, micro_batch_size, "4", "[0, 1000000]", "records", "asrfd", 1, "most prompts, records or pairs in one forward and backward pass; 0: no limit of their number, which is the default if micro_batch_tokens is set") \
    X(INT, micro_batch_tokens, "0", "[0, 1000000000]", "tokens", "asrfd", 1, "most tokens in one forward and backward pass, prompts and completions together; sequences are packed without padding, so memory and time follow this number; the records keep their order, and a micro-batch ends before the record that would exceed the limit, or micro_batch_size; a record that is longer by itself is refused; a pair counts its prompt twice; align counts the sequences that a prompt can get, each with generate.max_new_tokens, because a rank takes its prompts before it samples; 0: no limit") \
    X(REAL, learning_rate, "1e-5", "(0, 10]", "", "asrf", 1, "peak learning rate") \
    X(CHOICE, lr_schedule, "constant", "constant|linear|cosine", "", "asrf", 1, "how the learning rate changes after the warm-up") \
    X(REAL, warmup_ratio, "0", "[0, 1]", "", "asrf", 1, "share of all steps in which the learning rate rises linearly to its peak") \
    X(REAL, min_lr_ratio, "0", "[0, 1]", "", "asrf", 1, "final learning rate of linear and cosine, as a share of the peak") \
    X(REAL, weight_decay, "0", "[0, 10]", "", "asrf", 1, "decoupled weight decay of AdamW") \
    X(REAL, beta1, "0.9", "[0, 1)", "", "asrf", 1, "decay rate of AdamW's first moment") \
    X(REAL, beta2, "0.999", "[0, 1)", "", "asrf", 1, "decay rate of AdamW's second moment") \
    X(REAL, epsilon, "1e-8", "(0, 1]", "", "asrf", 1, "AdamW's epsilon, added to the square root of the second moment") \
    X(REAL, max_grad_norm, "1", "[0, 1e12]", "", "asrf", 1, "gradients with a larger global norm are scaled down to this norm; 0: never") \
    X(BOOL, recompute, "false", "", "", "asrfd", 0, "keep one activation per layer and recompute the others in the backward pass: less memory, more time") \
    X(CHOICE, shard, "optimizer", "optimizer|gradients|auto", "", "asrfd", 0, "what the ranks divide; optimizer: AdamW's moments, one exchange of gradients per step; gradients: also the gradients and, in bfloat16, the float32 master weights, one exchange after each round of one micro-batch per rank: less memory, more bytes between ranks, the same results; auto: optimizer if that fits into the memory of every rank by the plan, else gradients") \
    X(BOOL, offload_moments, "false", "", "", "asrf", 0, "keep AdamW's moments in host memory and copy them to the GPU in parts for each step; no effect on the CPU") \
    X(INT, head_rows, "512", "[1, 1048576]", "rows", "asrfld", 1, "number of token positions whose logits are in memory at the same time") \
    X(REAL, max_logprob_gap, "0", "[0, 1e6]", "nats", "a", 0, "the run ends with an error if a token's log-prob differs by more than this between sampling and training; on the CPU the difference is 0, other devices may need a larger limit") \
    X(TEXT, replay, "", "", "", "asrf", 0, "STEP:MICRO_BATCH for which a replay file is written, to be used with plumb replay; steps count from 1, micro-batches from 0") \
    X(BOOL, kl_to_start, "true", "", "", "a", 0, "report the KL divergence from the starting model, which is then kept in memory") \
    X(REAL, max_time, "0", "[0, 1e9]", "s", "asrf", 0, "after this time, save a checkpoint and end with exit code 99; 0: no limit") \
    X(INT, eval_every, "0", "[0, 1000000000]", "", "asrf", 0, "iterations (align) or steps (sft, reward, prefer) between evaluations on data.eval; 0: after each epoch (sft, reward, prefer); the end of the run always has an evaluation") \
    X(INT, log_every, "10", "[1, 1000000000]", "steps", "srf", 0, "optimizer steps between two lines of metrics.jsonl and of the console")

#define PLUMB_OPTIONS_HEALTH(X) \
    X(CHOICE, action, "warn", "warn|stop", "", "asrf", 0, "what happens when a limit of this section is crossed: one warning until the figure has recovered, or the run ends with an error; a resumed run may have other limits") \
    X(REAL, max_kl, "0.5", "[0, 1e6]", "nats/token", "a", 0, "largest divergence from the starting model (kl divided by the mean length); 0: no limit") \
    X(REAL, min_entropy, "0.02", "[0, 1e6]", "nats/token", "a", 0, "smallest entropy of the sampled answers at temperatures above 0; 0: no limit") \
    X(REAL, max_clipped, "0.5", "[0, 1]", "", "a", 0, "largest share of answers that are cut at max_new_tokens; 1: no limit") \
    X(REAL, max_duplicates, "0.5", "[0, 1]", "", "a", 0, "largest share of answers that repeat another answer to the same prompt; 1: no limit") \
    X(REAL, max_equal_rewards, "0.5", "[0, 1]", "", "a", 0, "largest share of prompts whose answers all have the same reward; 1: no limit") \
    X(REAL, max_loss_jump, "8", "[0, 1e6]", "", "asrf", 0, "a step's loss may exceed the mean of the last 32 steps by this many of their standard deviations; 0: no limit")

#define PLUMB_OPTIONS_CHECKPOINT(X) \
    X(INT, every, "0", "[0, 1000000000]", "", "asrf", 0, "iterations (align) or steps (sft, reward, prefer) between permanent checkpoints; 0: only at the end, and with keep_best after each evaluation") \
    X(INT, keep_last, "2", "[0, 1000000]", "", "asrf", 0, "number of newest checkpoints that are kept; 0: all") \
    X(INT, keep_every, "0", "[0, 1000000000]", "steps", "asrf", 0, "also keep each checkpoint whose step is a multiple of this; 0: none") \
    X(INT, keep_best, "0", "[0, 1000000]", "", "asrf", 0, "also keep this many checkpoints with the best value of best_metric; 0: none") \
    X(TEXT, best_metric, "", "", "", "asrf", 0, "metric that decides which checkpoint is best; not given: eval_reward (align) or eval_loss with data.eval, otherwise reward (align) or loss; every checkpoint stores its value") \
    X(AUTO, interval, "600", "[0, 1e9]", "s", "asrf", 0, "save a temporary checkpoint to resume from when the last save is older than this; the next save replaces it; it does not change the results; 0: never; auto: sqrt(2 x duration of the last save x checkpoint.mtbf); before the first save 600 s, or checkpoint.mtbf / 10 if that is less") \
    X(REAL, mtbf, "86400", "(0, 1e9]", "s", "asrf", 0, "mean time between failures of the whole job, for checkpoint.interval=auto; the default is one day: a larger job fails more often, about as 1 / nodes") \
    X(REAL, max_share, "0.03", "(0, 1]", "", "asrf", 0, "largest share of the run's time for temporary checkpoints, including the last checkpoint: if saving takes long, they are saved less often than interval says; if interval is set, the default is 1, which is no limit") \
    X(CHOICE, optimizer, "all", "all|last|none", "", "asrf", 0, "which checkpoints contain the optimizer's moments, two thirds of the bytes; last: only the run's last one; a run cannot be resumed from a checkpoint without them; temporary checkpoints of checkpoint.interval always contain them") \
    X(REAL, retry, "0", "[0, 1e9]", "s", "asrf", 0, "if the disk is full, a save is retried for this long while the run waits") \
    X(CHOICE, dtype, "float32", "float32|bfloat16|source", "", "asrf", 1, "dtype of the weights in a checkpoint; bfloat16: rounded, half the bytes; source: that of the model's folder; where they are rounded, trainer_state.h5 also holds the float32 weights, from which a run resumes") \
    X(INT, shard_bytes, "5e9", "[1, 1e18]", "bytes", "asrfw", 0, "largest size of a weights file")

#define PLUMB_OPTIONS_EVAL(X) \
    X(TEXTS, models, "", "", "", "e", 1, "NAME=FOLDER of each model to compare; win rates are against the first model") \
    X(INT, samples, "1", "[1, 4096]", "", "e", 1, "completions per prompt and model") \
    X(REAL, win_margin, "0", "[0, 1e6]", "", "e", 1, "two completions are a tie if their rewards differ by at most this") \
    X(TEXT, judge, "", "", "", "e", 1, "shell command that decides which completion wins, instead of the reward: it reads a JSON line {prompt, a, b} and answers {winner: a, b or tie} or {score: 0..1 for a}; reward.timeout and reward.restarts apply to it") \
    X(BOOL, kl, "true", "", "", "e", 1, "compute the KL divergence from the first model, from its log-probabilities of the completions") \
    X(INT, bootstrap, "1000", "[0, 1000000]", "", "e", 1, "bootstrap replicates for the confidence intervals, drawn over prompts; 0: no intervals")

#define PLUMB_OPTIONS_COMPARE(X) \
    X(TEXTS, runs, "", "", "", "m", 1, "folders of finished align and prefer runs, as FOLDER or NAME=FOLDER; runs that differ only in the seed form one row") \
    X(TEXT, evaluation, "eval", "", "folder", "m", 1, "folder inside each run that is the output_dir of plumb eval for its model") \
    X(TEXTS, allow, "", "", "", "m", 1, "differences between the runs that are accepted: start, prompts, reward, budget, evaluation, unfinished")

#define PLUMB_OPTIONS_REPORT(X) \
    X(INT, samples, "4", "[0, 1000]", "rows", "ae", 0, "rows of each iteration's table of sample completions") \
    X(BOOL, html, "true", "", "", "asrfem", 0, "write report.html") \
    X(TEXTS, to, "", "", "", "asrf", 0, "further outputs of the metrics, written by rank 0 into output_dir: tensorboard (tensorboard/, event files), prometheus (metrics.prom, for node_exporter's textfile collector), mlperf (mlperf.log, :::MLLOG lines); none or not given: none of them") \
    X(TEXT, prometheus_file, "", "", "file", "asrf", 0, "path of the Prometheus file; not given: metrics.prom in output_dir")

#define PLUMB_OPTIONS_PLAN(X) \
    X(TEXT, memory, "", "", "", "asrfb", 0, "memory that a rank may use of its GPU, or of the host on the CPU, with a unit: 80GB or 4096MiB; not given: the free memory. plan and training end with exit code 4 if the run needs more") \
    X(INT, world_size, "0", "[0, 65536]", "ranks", "b", 0, "number of ranks to plan for; 0: the number of running ranks") \
    X(INT, host_ranks, "8", "[1, 65536]", "ranks", "b", 0, "ranks per host, for the estimate of time") \
    X(INT, answer_tokens, "0", "[0, 16777216]", "tokens", "b", 0, "mean length of a sampled completion, for the estimate of time; 0: max_new_tokens, its longest") \
    X(REAL, flops, "0", "[0, 1e18]", "FLOP/s", "b", 0, "peak rate of a rank's device for matrix products in dtype; 0: on cuda the H100's and H200's by NVIDIA's data sheets (SXM, dense): 989e12 in bfloat16, 67e12 in float32; on a CPU no time is estimated") \
    X(REAL, bandwidth, "0", "[0, 1e18]", "bytes/s", "b", 0, "memory bandwidth of a rank's device; 0: on cuda by the data sheets 3.35e12 (H100 SXM), or 4.8e12 (H200) if plan.memory is above 100GB") \
    X(REAL, host_link, "450e9", "[1, 1e18]", "bytes/s", "b", 0, "rate at which a rank sends to ranks of its host; 450e9: NVLink 4, one direction, data sheet of the H100") \
    X(REAL, link, "50e9", "[1, 1e18]", "bytes/s", "b", 0, "rate at which a rank sends to other hosts; 50e9: one port of InfiniBand NDR, 400 Gbit/s, per GPU") \
    X(REAL, flops_share, "0.4", "(0, 1]", "", "b", 0, "share of plan.flops that is reached: an assumption, published training runs of dense models reach 0.35 to 0.5") \
    X(REAL, bandwidth_share, "0.6", "(0, 1]", "", "b", 0, "share of plan.bandwidth that is reached: an assumption") \
    X(REAL, link_share, "0.7", "(0, 1]", "", "b", 0, "share of plan.link and plan.host_link that is reached: an assumption")

/* All sections as X(LIST, section, help): PLUMB_OPTIONS_LIST has the options of the section, and
 * `help` describes the section in the help text. */
#define PLUMB_OPTION_SECTIONS(X) \
    X(COMM, comm, "communication between ranks") \
    X(DATA, data, "input records and prompts") \
    X(GENERATE, generate, "sampling of completions") \
    X(METHOD, method, "alignment method") \
    X(REWARD, reward, "sources of the scores; the scores of all sources are added") \
    X(LORA, lora, "training of a LoRA adapter instead of all weights") \
    X(TRAIN, train, "optimizer and training loop") \
    X(HEALTH, health, "limits that warn of an unhealthy run, or end it") \
    X(CHECKPOINT, checkpoint, "when checkpoints are saved and what they contain") \
    X(EVAL, eval, "comparison of models") \
    X(COMPARE, compare, "comparison of finished runs") \
    X(REPORT, report, "contents of the run's report") \
    X(PLAN, plan, "planning of memory and time")
// clang-format on

#endif
