/* mlperf.h - writes the events of a run as lines of MLPerf's logging format.
 * Layer 4. Includes base/, config/, report/metrics.h.
 *
 * A line is :::MLLOG and a JSON object with namespace, time_ms, event_type (INTERVAL_START,
 * INTERVAL_END, POINT_IN_TIME), key, value and metadata. The keys are those of MLCommons'
 * mlperf_logging that apply: init_start, init_stop, run_start, run_stop, block_start, block_stop,
 * eval_start, eval_stop, eval_accuracy, tracked_stats, seed, sizes (global_batch_size,
 * micro_batch_size, gradient_accumulation_steps, max_sequence_length, max_steps, train_samples,
 * eval_samples, init_checkpoint_step), opt_*, lora_rank, lora_alpha, *_parallelism,
 * lowest_numerical_precision_in_*, config_filename, and of its GRPO benchmark, for align,
 * num_prompts_per_step, num_generations_per_prompt and generation_*_rollout_*. The keys
 * submission_* and cache_clear are not written: whoever submits a result adds them. samples_count
 * in the metadata is the number of steps times global_batch_size, which counts completions for
 * align. train_samples and eval_samples count the lines of the files, also those that data.limit
 * leaves out. eval_accuracy is the first of reward, accuracy and loss that the evaluation has. In
 * the benchmark llama2_70b_lora it is the loss, too. A resumed run appends a new init_start and
 * run_start, and init_checkpoint_step says where it continues. time_ms never decreases from line to
 * line, also if the clock of the machine is set back. */
#ifndef PLUMB_REPORT_MLPERF_H
#define PLUMB_REPORT_MLPERF_H

#include <stdio.h>

#include "config/config.h"
#include "report/metrics.h"

struct plumb_mlperf {
    FILE *file;
    char path[4096];
    struct plumb_buf line;
    double began;             /* plumb_now() when the file was opened */
    int64_t began_ms;         /* the same moment as the lines state it, in ms since 1970 */
    int64_t last_ms;          /* time of the last line, in ms since 1970 */
    int64_t block;            /* number of steps before the current block */
    int64_t samples_per_step; /* trained samples of one step */
};

/* The properties of the run that the first lines of the log state. */
struct plumb_mlperf_start {
    const struct plumb_config *cfg;
    const char *command;
    int64_t steps_done, planned_steps;
    int64_t micro_batches; /* largest number of micro-batches that a rank has in a step */
    int64_t max_tokens;    /* length of the longest sequence, in tokens */
    int64_t init_ms;       /* time of init_start, ms since 1970 */
};

/* Opens DIR/mlperf.log for appending and writes the lines from init_start to block_start. Rank 0
 * calls it. If steps_done is 0, the file starts empty. PLUMB_ERR_IO. */
plumb_status plumb_mlperf_open(struct plumb_mlperf *m, const char *dir,
                               const struct plumb_mlperf_start *start);
/* Ends the block, writes the metrics of the line, and begins the next block. PLUMB_ERR_IO. */
plumb_status plumb_mlperf_write(struct plumb_mlperf *m, const struct plumb_metrics_row *row);
/* Writes run_stop with the status success or aborted, and closes the file. */
void plumb_mlperf_close(struct plumb_mlperf *m, bool success);

#endif
