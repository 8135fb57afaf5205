/* main.c - plumb-world: writes the quickstart's data and scores answers to its prompts.
 * Tool; includes base/ and io/. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "world.h"

/* Random number streams, one per data set. */
enum { STREAM_SPLIT = 1, STREAM_SFT, STREAM_PAIRS };
enum { N_EVAL = 256, N_PROMPTS = 2048, N_SFT = 16000, N_PAIRS = 4000, VOCABULARY = 1024 };
#define PRINCIPLED_SHARE 0.5  /* share of SFT records with a principle */
#define LABEL_NOISE      0.05 /* share of pairs with the wrong label */

/* The data set that is being written. `text` collects the text on which the tokenizer is trained;
 * `sum` and `count` are for the mean true scores. */
struct sink {
    struct plumb_buf line, text;
    double sum[2];
    int64_t count[2]; /* number of SFT records without a principle, and with one */
};

static plumb_status put_member(struct plumb_buf *out, const char *key, const struct plumb_buf *v)
{
    PLUMB_TRY(plumb_buf_addf(
        out, "%s\"%s\": ", out->len && out->data[out->len - 1] != '{' ? ", " : "", key));
    return plumb_json_put_string(out, plumb_buf_text(v), v->len);
}

static plumb_status write_file(const char *dir, const char *name, const struct plumb_buf *b)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, name));
    return plumb_file_write_atomic(path, plumb_buf_text(b), b->len);
}

static plumb_status put_prompts(struct plumb_buf *out, const int64_t *request, int n)
{
    struct plumb_buf prompt = {0};
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < n; i++) {
        const struct world_request q = world_request_at((int)request[i]);
        plumb_buf_clear(&prompt);
        PLUMB_TRY_GOTO(st, world_put_prompt(&prompt, &q), fail);
        PLUMB_TRY_GOTO(st, plumb_buf_addf(out, "{\"id\": %d, ", (int)request[i]), fail);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "\"prompt\": "), fail);
        PLUMB_TRY_GOTO(st, plumb_json_put_string(out, prompt.data, prompt.len), fail);
        PLUMB_TRY_GOTO(st, plumb_buf_add_text(out, "}\n"), fail);
    }
fail:
    plumb_buf_fini(&prompt);
    return st;
}

/* Writes one SFT record. Half of the records have a principle before the prompt and mostly good
 * answers. The other half has no principle and mostly bad answers. */
static plumb_status put_sft(struct sink *s, struct plumb_buf *out, const struct world_request *q,
                            struct world_draw *d, struct plumb_buf *prompt,
                            struct plumb_buf *answer)
{
    const bool principled = world_uniform(d) < PRINCIPLED_SHARE;
    plumb_buf_clear(prompt);
    plumb_buf_clear(answer);
    if (principled)
        PLUMB_TRY(plumb_buf_addf(prompt, "%s\n",
                                 world_principle_text(world_pick(d, world_principles()))));
    PLUMB_TRY(world_put_prompt(prompt, q));
    PLUMB_TRY(world_put_answer(answer, q, world_pick_style(d, principled), d));
    double score;
    PLUMB_TRY(world_score(&score, prompt->data, answer->data));
    s->sum[principled] += score;
    s->count[principled]++;
    PLUMB_TRY(plumb_buf_add(&s->text, prompt->data, prompt->len));
    PLUMB_TRY(plumb_buf_addf(&s->text, "%s\n", answer->data));
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    PLUMB_TRY(put_member(out, "prompt", prompt));
    PLUMB_TRY(put_member(out, "completion", answer));
    return plumb_buf_add_text(out, "}\n");
}

static plumb_status make_sft(struct sink *s, struct plumb_buf *out, const int64_t *request, int n,
                             uint64_t seed)
{
    struct plumb_buf prompt = {0}, answer = {0};
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < N_SFT; i++) {
        struct world_draw d = world_draw_at(seed, STREAM_SFT, (uint64_t)i);
        const struct world_request q = world_request_at((int)request[world_pick(&d, n)]);
        PLUMB_TRY_GOTO(st, put_sft(s, out, &q, &d, &prompt, &answer), fail);
    }
fail:
    plumb_buf_fini(&prompt);
    plumb_buf_fini(&answer);
    return st;
}

/* Writes one pair of answers with different true scores. The better one is `chosen`, except in the
 * share LABEL_NOISE of the pairs. */
static plumb_status put_pair(struct plumb_buf *out, const struct world_request *q,
                             struct world_draw *d, struct plumb_buf *prompt,
                             struct plumb_buf answer[2])
{
    double score[2];
    plumb_buf_clear(prompt);
    PLUMB_TRY(world_put_prompt(prompt, q));
    do
        for (int k = 0; k < 2; k++) {
            plumb_buf_clear(&answer[k]);
            PLUMB_TRY(world_put_answer(&answer[k], q, world_pick_style(d, world_pick(d, 2)), d));
            PLUMB_TRY(world_score(&score[k], prompt->data, answer[k].data));
        }
    while (score[0] == score[1]);
    const int better = score[1] > score[0];
    const int chosen = world_uniform(d) < LABEL_NOISE ? !better : better;
    PLUMB_TRY(plumb_buf_add_text(out, "{"));
    PLUMB_TRY(put_member(out, "prompt", prompt));
    PLUMB_TRY(put_member(out, "chosen", &answer[chosen]));
    PLUMB_TRY(put_member(out, "rejected", &answer[!chosen]));
    return plumb_buf_add_text(out, "}\n");
}

static plumb_status make_pairs(struct plumb_buf *out, const int64_t *request, int n, uint64_t seed)
{
    struct plumb_buf prompt = {0}, answer[2] = {{0}, {0}};
    plumb_status st = PLUMB_OK;
    for (int i = 0; i < N_PAIRS; i++) {
        struct world_draw d = world_draw_at(seed, STREAM_PAIRS, (uint64_t)i);
        const struct world_request q = world_request_at((int)request[world_pick(&d, n)]);
        PLUMB_TRY_GOTO(st, put_pair(out, &q, &d, &prompt, answer), fail);
    }
fail:
    plumb_buf_fini(&prompt);
    plumb_buf_fini(&answer[0]);
    plumb_buf_fini(&answer[1]);
    return st;
}

/* Writes the tokenizer and the config.json of a Llama with about a million parameters; no
 * weights. */
static plumb_status write_model(const char *dir, const char *text, struct plumb_buf *b)
{
    int vocab;
    plumb_buf_clear(b);
    PLUMB_TRY(world_put_tokenizer(b, &vocab, text, VOCABULARY));
    PLUMB_TRY(write_file(dir, "tokenizer.json", b));
    plumb_buf_clear(b);
    PLUMB_TRY(plumb_buf_add_text(
        b, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"bos_token\": \"<s>\",\n"
           "  \"eos_token\": \"</s>\",\n  \"pad_token\": \"<pad>\",\n  \"add_bos_token\": true,\n"
           "  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": 256\n}\n"));
    PLUMB_TRY(write_file(dir, "tokenizer_config.json", b));
    plumb_buf_clear(b);
    PLUMB_TRY(plumb_buf_addf(
        b,
        "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n"
        "  \"hidden_size\": 128,\n  \"intermediate_size\": 512,\n  \"num_hidden_layers\": 4,\n"
        "  \"num_attention_heads\": 4,\n  \"num_key_value_heads\": 2,\n  \"head_dim\": 32,\n"
        "  \"vocab_size\": %d,\n  \"max_position_embeddings\": 256,\n  \"hidden_act\": \"silu\",\n"
        "  \"rms_norm_eps\": 1e-05,\n  \"rope_theta\": 10000.0,\n  \"attention_bias\": false,\n"
        "  \"mlp_bias\": false,\n  \"tie_word_embeddings\": true,\n"
        "  \"initializer_range\": 0.05,\n  \"bos_token_id\": 0,\n  \"eos_token_id\": 1,\n"
        "  \"pad_token_id\": 2,\n  \"torch_dtype\": \"float32\"\n}\n",
        vocab));
    PLUMB_TRY(write_file(dir, "config.json", b));
    plumb_buf_clear(b);
    PLUMB_TRY(plumb_buf_add_text(
        b, "{\n  \"bos_token_id\": 0,\n  \"eos_token_id\": 1,\n  \"pad_token_id\": 2\n}\n"));
    return write_file(dir, "generation_config.json", b);
}

static plumb_status write_principles(const char *dir, struct plumb_buf *b)
{
    char path[4096];
    PLUMB_TRY(plumb_path_join(path, sizeof path, dir, "principles"));
    PLUMB_TRY(plumb_dir_create(path));
    for (int i = 0; i < world_principles(); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.txt", world_principle_name(i));
        plumb_buf_clear(b);
        PLUMB_TRY(plumb_buf_addf(b, "%s\n", world_principle_text(i)));
        PLUMB_TRY(write_file(path, name, b));
    }
    return PLUMB_OK;
}

/* Writes all data sets to the folder `dir`. Divides the requests into held-out prompts, prompts for
 * alignment, and requests for SFT records and pairs. */
static plumb_status make(const char *dir, uint64_t seed)
{
    const int all = world_requests(), rest = N_EVAL + N_PROMPTS;
    int64_t *order = malloc((size_t)all * sizeof *order);
    PLUMB_REQUIRE(order, PLUMB_ERR_NOMEM, "no memory for %d requests", all);
    struct sink s = {0};
    plumb_status st = PLUMB_OK;
    plumb_rng_shuffle(order, all, world_draw_at(seed, STREAM_SPLIT, 0).key);
    PLUMB_TRY_GOTO(st, plumb_dir_create(dir), fail);
    PLUMB_TRY_GOTO(st, put_prompts(&s.line, order, N_EVAL), fail);
    PLUMB_TRY_GOTO(st, write_file(dir, "eval.jsonl", &s.line), fail);
    plumb_buf_clear(&s.line);
    PLUMB_TRY_GOTO(st, put_prompts(&s.line, order + N_EVAL, N_PROMPTS), fail);
    PLUMB_TRY_GOTO(st, write_file(dir, "prompts.jsonl", &s.line), fail);
    plumb_buf_clear(&s.line);
    PLUMB_TRY_GOTO(st, make_sft(&s, &s.line, order + rest, all - rest, seed), fail);
    PLUMB_TRY_GOTO(st, write_file(dir, "sft.jsonl", &s.line), fail);
    plumb_buf_clear(&s.line);
    PLUMB_TRY_GOTO(st, make_pairs(&s.line, order + rest, all - rest, seed), fail);
    PLUMB_TRY_GOTO(st, write_file(dir, "pairs.jsonl", &s.line), fail);
    PLUMB_TRY_GOTO(st, write_model(dir, plumb_buf_text(&s.text), &s.line), fail);
    PLUMB_TRY_GOTO(st, write_principles(dir, &s.line), fail);
    printf("%s: %d requests; %d sft records, %d pairs, %d prompts, %d held-out prompts\n"
           "true score of the sft answers: plain %.3f (%d), with a principle %.3f (%d)\n",
           dir, all, N_SFT, N_PAIRS, N_PROMPTS, N_EVAL, s.sum[0] / (double)s.count[0],
           (int)s.count[0], s.sum[1] / (double)s.count[1], (int)s.count[1]);
fail:
    free(order);
    plumb_buf_fini(&s.line);
    plumb_buf_fini(&s.text);
    return st;
}

/* Prints the score and the true score. Also prints prompt_id and sample of the input, so that a
 * caller can match the output with its question. */
static void put_score(const plumb_json *item, double score, double truth)
{
    static const char *const same[] = {"prompt_id", "sample"};
    printf("{\"score\": %.15g, \"true\": %.15g", score, truth);
    for (int i = 0; i < 2; i++) {
        const int64_t id = plumb_json_int(plumb_json_get(item, same[i]), -1);
        if (id >= 0)
            printf(", \"%s\": %lld", same[i], (long long)id);
    }
    printf("}\n");
}

/* Reads one line {"prompt","completion"} and prints one line {"score","true"} with the prompt_id
 * and sample of the input. If the prompt is none of world.h's requests, the score is null, which
 * plumb treats as a missing score. */
static plumb_status judge_line(const struct world_annotator *a, const char *line, int64_t len)
{
    plumb_json *item = NULL;
    double truth = 0;
    plumb_status st = plumb_json_parse(&item, line, len, "standard input");
    if (st == PLUMB_OK) {
        const char *prompt = plumb_json_string(plumb_json_get(item, "prompt"), "");
        const char *answer = plumb_json_string(plumb_json_get(item, "completion"), "");
        st = world_score(&truth, prompt, answer);
        if (st == PLUMB_OK)
            put_score(item, world_annotate(a, prompt, answer, truth), truth);
    }
    plumb_json_free(&item);
    if (st != PLUMB_OK)
        printf("{\"score\": null}\n");
    fflush(stdout);
    return PLUMB_OK;
}

static plumb_status judge(const struct world_annotator *a)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    plumb_status st = PLUMB_OK;
    while (st == PLUMB_OK && (len = getline(&line, &cap, stdin)) > 0)
        st = judge_line(a, line, len);
    free(line);
    return st;
}

/* Reads a number in [0, most]; returns false if the text is something else. */
static bool read_share(double *out, const char *text, double most)
{
    char *end;
    *out = strtod(text, &end);
    return end > text && !*end && *out >= 0 && *out <= most;
}

/* Reads the options of the command judge into *a. Returns false if an option is unknown, has no
 * value or has a value that is not allowed. */
static bool read_annotator(struct world_annotator *a, char **arg, int n)
{
    *a = (struct world_annotator){.seed = 1};
    for (int i = 0; i + 1 < n; i += 2) {
        bool good = false;
        if (strcmp(arg[i], "--noise") == 0)
            good = read_share(&a->noise, arg[i + 1], 1e6);
        else if (strcmp(arg[i], "--flip") == 0)
            good = read_share(&a->flip, arg[i + 1], 1);
        else if (strcmp(arg[i], "--shape") == 0)
            good = world_shape_find(&a->shape, arg[i + 1]);
        else if (strcmp(arg[i], "--seed") == 0) {
            char *end;
            a->seed = strtoull(arg[i + 1], &end, 10);
            good = end > arg[i + 1] && !*end;
        }
        if (!good)
            return false;
    }
    return n % 2 == 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: plumb-world make DIR [SEED]   writes the quickstart's data\n"
                    "       plumb-world judge [--noise SCALE] [--flip P] [--seed N] "
                    "[--shape natural|equal|heavy]\n"
                    "                                     scores {\"prompt\",\"completion\"} "
                    "lines on standard input;\n"
                    "                                     what the options do stands in world.h\n");
    return 2;
}

int main(int argc, char **argv)
{
    plumb_status st;
    struct world_annotator annotator;
    if (argc >= 2 && strcmp(argv[1], "judge") == 0) {
        if (!read_annotator(&annotator, argv + 2, argc - 2))
            return usage();
        st = judge(&annotator);
    } else if ((argc == 3 || argc == 4) && strcmp(argv[1], "make") == 0)
        st = make(argv[2], argc == 4 ? strtoull(argv[3], NULL, 10) : 1);
    else
        return usage();
    if (st != PLUMB_OK)
        fprintf(stderr, "plumb-world: %s\n", plumb_trail_message());
    return plumb_status_exit_code(st);
}
