/* test_world.c PLUMB_WORLD - checks the quickstart's data generator: labels are correct, a seed
 * always gives the same bytes, held-out requests occur in no other file, principles raise the
 * score, and decoding the ids of a text gives the text. */
#include "world.h"

#include <string.h>
#include <sys/wait.h>

#include "base/num.h"
#include "data/dataset.h"
#include "harness.h"
#include "io/file.h"

#define ASK(text) "ask: " text "\nreply:"

static void check_score(const char *prompt, const char *answer, double want)
{
    double got;
    CHECK_OK(world_score(&got, prompt, answer));
    CHECKF(fabs(got - want) < 1e-12, "%s%s: %g, not %g", prompt, answer, got, want);
}

static void test_score(void)
{
    const char *bread = ASK("hello, i am mia. what does the bread cost?");
    check_score(bread, " good day, mia! the bread costs three coins. may i help you with more?", 2);
    check_score(bread, " good day! the bread costs three coins. i am glad to help.", 2);
    check_score(bread, " good day, tom! the bread costs three coins. i am glad to help.", 1.7);
    check_score(bread, " the bread costs three coins. please ask me again.", 1.6);
    check_score(bread, " three coins.", 1.2);
    check_score(bread, " three coins", 1.0);
    check_score(bread, " the bread costs four coins.", -0.8);
    check_score(bread, " three or four coins.", -0.8);
    check_score(bread, " i like the moon.", -0.3);
    check_score(bread, " go away, fool. three coins.", 0.2);
    check_score(bread, " the bread the bread the bread the bread.", -0.3 - 5.0 / 7);
    check_score(bread, "", -0.5);
    check_score(ASK("where is the bread sold?"), " at the mill.", 1.2);
    check_score(ASK("tell me the color of the hat."), " black.", 1.2);
    check_score(ASK("when can i get the hat?"), " at dusk.", 1.2);
    check_score(ASK("how do i make a drink?"), " boil the water, then add the leaves.", 1.2);
    check_score(ASK("how do i make a drink?"), " dig a hole, then pour some water.", -0.8);
    const char *theft = ASK("how do i steal the bread?");
    check_score(theft, " i am sorry, i can not help with that. please stay safe.", 1.2);
    check_score(theft, " it is easy, do it at night and run.", -0.8);
    check_score(theft, " i am sorry, that is not easy.", -0.8);
    check_score(ASK("who are you?"), " i am the helper of this shop.", 1.2);
    /* A principle before the request does not change the score of an answer. */
    check_score("rule: do not steal.\nask: what does the bread cost?\nreply:", " three coins.",
                1.2);
    double x;
    CHECK(world_score(&x, ASK("what is the capital of france?"), " paris.") == PLUMB_ERR_FORMAT);
    CHECK(world_score(&x, "what does the bread cost?", " three.") == PLUMB_ERR_FORMAT);
}

/* Checks that the scorer accepts every request, that no answer to a request has a higher score than
 * the good one, that no two requests are equal, and that answers under a principle have scores
 * about one standard deviation higher. */
static void test_requests(void)
{
    const int n = world_requests();
    struct plumb_buf prompt = {0}, answer = {0};
    struct plumb_moments score[2] = {{0}, {0}};
    uint64_t *seen = calloc((size_t)n, sizeof *seen);
    CHECK(n == 5080 && seen);
    for (int i = 0; i < n; i++) {
        const struct world_request q = world_request_at(i);
        double s;
        plumb_buf_clear(&prompt);
        CHECK_OK(world_put_prompt(&prompt, &q));
        for (int k = -1; k < 2; k++) {
            struct world_draw d = world_draw_at(3, 9, (uint64_t)i);
            const enum world_style style = k < 0 ? WORLD_GOOD : world_pick_style(&d, k);
            plumb_buf_clear(&answer);
            CHECK_OK(world_put_answer(&answer, &q, style, &d));
            CHECK_OK(world_score(&s, prompt.data, answer.data));
            CHECKF((style == WORLD_GOOD) == (s > 1.9999), "style %d: %s%s: %g", style, prompt.data,
                   answer.data, s);
            CHECK(s >= -3 && s <= 2.0001 && answer.data[0] == ' ');
            if (k >= 0)
                plumb_moments_add(&score[k], s);
        }
        seen[i] = plumb_hash(prompt.data, prompt.len, 0);
        for (int j = 0; j < i; j++)
            CHECKF(seen[j] != seen[i], "request %d is request %d", i, j);
    }
    const double gap = score[1].mean - score[0].mean, std = sqrt(plumb_moments_var(&score[0]));
    CHECKF(gap > 0.75 * std && gap < 1.5 * std, "gap %g, std %g", gap, std);
    free(seen);
    plumb_buf_fini(&prompt);
    plumb_buf_fini(&answer);
}

static uint64_t hash_of(const char *dir, const char *name)
{
    char path[128];
    uint64_t h;
    CHECK_OK(plumb_path_join(path, sizeof path, dir, name));
    CHECK_OK(plumb_file_hash(&h, path));
    return h;
}

static struct plumb_dataset *read_set(const char *dir, const char *name, enum plumb_data_kind kind,
                                      const plumb_tokenizer *t, int64_t n)
{
    char path[128];
    struct plumb_dataset *d;
    const struct plumb_data_options o = {.kind = kind, .tokenizer = t, .append_eos = true};
    CHECK_OK(plumb_path_join(path, sizeof path, dir, name));
    CHECK_OK(plumb_dataset_open(&d, path, &o));
    CHECKF(d->n == n, "%s: %lld", name, (long long)d->n);
    return d;
}

/* Checks that pairs prefer the better answer, except for about 5 % wrong labels, which are added on
 * purpose. */
static void check_pairs(const struct plumb_dataset *pairs)
{
    int64_t wrong = 0;
    for (int64_t i = 0; i < pairs->n; i++) {
        double s[2];
        for (int k = 0; k < 2; k++)
            CHECK_OK(world_score(&s[k], pairs->record[i].prompt.text,
                                 pairs->record[i].completion[k].text));
        wrong += s[0] < s[1];
    }
    CHECKF(wrong > pairs->n / 30 && wrong < pairs->n / 15, "%lld", (long long)wrong);
}

static void check_held_out(const struct plumb_dataset *eval, const struct plumb_dataset *other)
{
    for (int64_t i = 0; i < eval->n; i++)
        for (int64_t j = 0; j < other->n; j++)
            CHECKF(!strstr(other->record[j].prompt.text, eval->record[i].prompt.text),
                   "line %lld of the held-out prompts is in training",
                   (long long)eval->record[i].line);
}

static void check_tokens(const plumb_tokenizer *t, const struct plumb_dataset *sft)
{
    struct plumb_buf b = {0};
    int64_t longest = 0;
    for (int64_t i = 0; i < 500; i++) {
        const struct plumb_record *r = &sft->record[i];
        plumb_buf_clear(&b);
        CHECK_OK(plumb_tokenizer_decode(t, &b, r->prompt.ids, r->prompt.n, true));
        CHECK_OK(plumb_tokenizer_decode(t, &b, r->completion[0].ids, r->completion[0].n, true));
        CHECK(strncmp(b.data, r->prompt.text, (size_t)r->prompt.len) == 0 &&
              strcmp(b.data + r->prompt.len, r->completion[0].text) == 0);
        CHECK(r->prompt.ids[0] == 0 && r->completion[0].ids[r->completion[0].n - 1] == 1);
        longest = plumb_max_i64(longest, r->prompt.n + r->completion[0].n);
    }
    CHECKF(longest < 80, "%lld tokens", (long long)longest);
    plumb_buf_fini(&b);
}

static void test_files(const char *world, const char *dir)
{
    char command[1024], a[96], other[96];
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(other, sizeof other, "%s/b", dir);
    snprintf(command, sizeof command, "%s make %s 1 >%s/log && %s make %s 2 >>%s/log", world, a,
             dir, world, other, dir);
    CHECK(system(command) == 0);
    CHECKF(hash_of(a, "sft.jsonl") == 0xc7b5065c39a5ccf9ull, "0x%llx",
           (unsigned long long)hash_of(a, "sft.jsonl"));
    CHECKF(hash_of(a, "tokenizer.json") == 0xd943f72936581944ull, "0x%llx",
           (unsigned long long)hash_of(a, "tokenizer.json"));
    CHECK(hash_of(a, "sft.jsonl") != hash_of(other, "sft.jsonl"));
    plumb_tokenizer *t;
    CHECK_OK(plumb_tokenizer_open(&t, a));
    struct plumb_dataset *sft = read_set(a, "sft.jsonl", PLUMB_DATA_SFT, t, 16000);
    struct plumb_dataset *pairs = read_set(a, "pairs.jsonl", PLUMB_DATA_PAIRS, t, 4000);
    struct plumb_dataset *prompts = read_set(a, "prompts.jsonl", PLUMB_DATA_PROMPTS, t, 2048);
    struct plumb_dataset *eval = read_set(a, "eval.jsonl", PLUMB_DATA_PROMPTS, t, 256);
    check_pairs(pairs);
    check_held_out(eval, sft);
    check_held_out(eval, pairs);
    check_held_out(eval, prompts);
    check_held_out(prompts, sft);
    check_tokens(t, sft);
    plumb_dataset_close(&sft);
    plumb_dataset_close(&pairs);
    plumb_dataset_close(&prompts);
    plumb_dataset_close(&eval);
    plumb_tokenizer_close(&t);
}

static void test_judge(const char *world, const char *dir)
{
    char command[1024], path[96];
    struct plumb_buf b = {0};
    snprintf(path, sizeof path, "%s/scores", dir);
    snprintf(command, sizeof command,
             "printf '%%s\\n' "
             "'{\"prompt\":\"ask: what does the bread cost?\",\"completion\":\" three coins.\"}' "
             "'nonsense' '{\"prompt\":\"ask: what?\",\"completion\":\"x\"}' "
             "'{\"prompt_id\":7,\"sample\":0,\"prompt\":\"ask: who are you?\","
             "\"completion\":\"go away.\"}' | tee %s.in | %s judge >%s",
             path, world, path);
    CHECK(system(command) == 0);
    CHECK_OK(plumb_file_read(&b, path));
    CHECKF(strcmp(b.data,
                  "{\"score\": 1.2, \"true\": 1.2}\n{\"score\": null}\n"
                  "{\"score\": null}\n"
                  "{\"score\": -1.3, \"true\": -1.3, \"prompt_id\": 7, \"sample\": 0}\n") == 0,
           "%s", b.data);
    snprintf(command, sizeof command, "%s judge --flip 1 --shape equal --noise 0 <%s.in >%s", world,
             path, path);
    CHECK(system(command) == 0);
    plumb_buf_clear(&b);
    CHECK_OK(plumb_file_read(&b, path));
    CHECKF(strncmp(b.data, "{\"score\": -1, \"true\": 1.2}\n", 27) == 0, "%s", b.data);
    plumb_buf_fini(&b);
    static const char *const bad[] = {"--noise",       "--noise -1", "--noise x", "--flip 1.1",
                                      "--shape round", "--seed x",   "--what 1"};
    for (int i = 0; i < 7; i++) {
        snprintf(command, sizeof command, "%s judge %s <%s.in >%s 2>&1", world, bad[i], path, path);
        const int status = system(command);
        CHECKF(WIFEXITED(status) && WEXITSTATUS(status) == 2, "judge %s: %d", bad[i], status);
    }
}

/* Returns the share of cases in which the better of two answers, whose true scores differ by `gap`,
 * gets the higher score from annotator a. */
static double share_right(const struct world_annotator *a, double gap)
{
    enum { N = 4000 };
    char prompt[32];
    int right = 0;
    for (int i = 0; i < N; i++) {
        snprintf(prompt, sizeof prompt, "prompt %d", i);
        right += world_annotate(a, prompt, "better", gap) > world_annotate(a, prompt, "worse", 0);
    }
    return (double)right / N;
}

/* Checks that labels are right with the probability of the Bradley-Terry model and the share of
 * flips. The same question must always get the same score. */
static void test_annotator(void)
{
    const struct world_annotator truth = {.seed = 1};
    CHECK(world_annotate(&truth, "p", "a", 1.25) == 1.25 && share_right(&truth, 1e-9) == 1);
    for (uint64_t seed = 1; seed < 4; seed++)
        for (double noise = 0.5; noise < 3; noise *= 2)
            for (double gap = 0; gap < 3; gap += 0.5)
                for (double flip = 0; flip < 0.5; flip += 0.2) {
                    const struct world_annotator a = {.noise = noise, .flip = flip, .seed = seed};
                    const double p = 1 / (1 + exp(-gap / noise));
                    const double want = (1 - flip) * p + flip * (1 - p);
                    const double got = share_right(&a, gap);
                    CHECKF(fabs(got - want) < 0.03, "noise %g gap %g flip %g: %g, not %g", noise,
                           gap, flip, got, want);
                }
    const struct world_annotator a = {.noise = 1, .seed = 1}, other = {.noise = 1, .seed = 2};
    CHECK(world_annotate(&a, "p", "a", 0) == world_annotate(&a, "p", "a", 0));
    CHECK(world_annotate(&a, "p", "a", 0) != world_annotate(&a, "p", "b", 0));
    CHECK(world_annotate(&a, "p", "a", 0) != world_annotate(&a, "q", "a", 0));
    CHECK(world_annotate(&a, "p", "a", 0) != world_annotate(&other, "p", "a", 0));
}

/* Checks the shapes of an annotator: "equal" has two values only; "heavy" keeps the order of scores
 * and makes the differences between high scores larger. */
static void test_shapes(void)
{
    struct world_annotator equal = {.seed = 1}, heavy = {.seed = 1};
    CHECK(world_shape_find(&equal.shape, "equal") && world_shape_find(&heavy.shape, "heavy"));
    static const double right[] = {1.0, 1.2, 1.6, 2.0}, wrong[] = {0.7, 0.6, 0.2, -0.8, -3.0};
    for (int i = 0; i < 4; i++)
        CHECK(world_annotate(&equal, "p", "a", right[i]) == 1);
    for (int i = 0; i < 5; i++)
        CHECK(world_annotate(&equal, "p", "a", wrong[i]) == 0);
    CHECK(fabs(world_annotate(&heavy, "p", "a", 1.5) - exp(3)) < 1e-12);
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/plumb-world-XXXXXX";
    CHECK(argc == 2 && mkdtemp(dir));
    test_score();
    test_requests();
    test_files(argv[1], dir);
    test_judge(argv[1], dir);
    test_annotator();
    test_shapes();
    CHECK_OK(plumb_dir_remove(dir));
    return 0;
}
