/* bench_model.h - the 110M-parameter model that the benchmarks of the model run on: dim 768, 12
 * layers, 12 heads, feed-forward 2048, vocabulary 32000, tied, random weights.
 * Benchmarks only. Includes io/, model/. */
#ifndef PLUMB_BENCHMARKS_BENCH_MODEL_H
#define PLUMB_BENCHMARKS_BENCH_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "model/model.h"

/* Ends the program with the trail: a benchmark has nothing to clean up. */
#define BENCH_OK(e)                                                                                \
    do {                                                                                           \
        if ((e) != PLUMB_OK) {                                                                     \
            fputs(plumb_trail(), stderr);                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const char bench_config[] =
    "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 32000, "
    "\"hidden_size\": 768, \"intermediate_size\": 2048, \"num_hidden_layers\": 12, "
    "\"num_attention_heads\": 12, \"num_key_value_heads\": 12, \"max_position_embeddings\": 1024, "
    "\"tie_word_embeddings\": true}";

static inline plumb_model *bench_model(struct plumb_backend *b)
{
    char dir[] = "/tmp/plumb_bench_XXXXXX", path[64];
    plumb_model *m;
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    snprintf(path, sizeof path, "%s/config.json", dir);
    BENCH_OK(plumb_file_write_atomic(path, bench_config, (int64_t)strlen(bench_config)));
    BENCH_OK(plumb_model_create(&m, b, dir, 1));
    BENCH_OK(plumb_dir_remove(dir));
    return m;
}

/* Parameters, padding excluded. */
static inline int64_t bench_parameters(const plumb_model *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_param; i++)
        n += m->param[i].count;
    return n;
}

#endif
