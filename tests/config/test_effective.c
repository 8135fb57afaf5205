/* test_effective.c - checks the hash of a configuration, and the list of differences between two
 * configurations.
 * Test. Includes load.h, config/. */
#include "load.h"

static uint64_t hash_with(const char *text)
{
    char line[100];
    snprintf(line, sizeof(line), "%s", text);
    char *const override[] = {line};
    struct plumb_config *c = load("align", "model: m\n", override, 1);
    const uint64_t h = plumb_config_hash(c, "align");
    plumb_config_free(&c);
    return h;
}

static void test_hash(void)
{
    const uint64_t h = hash_with("seed=1");
    static const char *const same[] = {"output_dir=x",   "threads=7",          "resume=auto",
                                       "slots=3",        "comm.timeout=5",     "log_level=debug",
                                       "log_level=warn", "checkpoint.every=5", "recompute=true",
                                       "html=false",     "tokenizer=m",        "temperature=1.0"};
    static const char *const other[] = {"seed=2",      "model=n",    "temperature=0.5",
                                        "tau=0.3",     "beta2=0.95", "limit=1",
                                        "stop=a",      "stop=a,b",   "tokenizer=n",
                                        "device=ref",  "name=raft",  "functions=[{name: length}]",
                                        "principles=p"};
    for (size_t i = 0; i < sizeof(same) / sizeof(*same); i++)
        CHECKF(hash_with(same[i]) == h, "%s", same[i]);
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++) {
        CHECKF(hash_with(other[i]) != h, "%s", other[i]);
        for (size_t j = 0; j < i; j++)
            CHECKF(hash_with(other[i]) != hash_with(other[j]), "%s %s", other[i], other[j]);
    }
}

/* Checks the list of differences between a configuration with overrides and the same one
 * without. */
static void test_diff(void)
{
    char lr[] = "learning_rate=2e-5", words[] = "functions=[{name: length, target: 3}]",
         stop[] = "stop=a,b", free_to_change[] = "slots=3", where[] = "output_dir=elsewhere",
         same[] = "temperature=1.0";
    struct plumb_buf then = {0}, diff = {0};
    struct plumb_config *c = load("align", "model: m\n", NULL, 0);
    CHECK_OK(plumb_config_results(&then, c, "align"));
    CHECK(strstr(then.data, "learning_rate: ") && !strstr(then.data, "output_dir") &&
          !strstr(then.data, "slots") && !strstr(then.data, "resume"));
    CHECK_OK(plumb_config_diff(&diff, c, then.data, then.len, "the checkpoint", "align"));
    CHECK(diff.len == 0);
    plumb_config_free(&c);
    char *const override[] = {lr, words, stop, free_to_change, where, same};
    c = load("align", "model: m\n", override, 6);
    CHECK_OK(plumb_config_diff(&diff, c, then.data, then.len, "the checkpoint", "align"));
    CHECKF(!strcmp(diff.data, "generate.stop: [] in the checkpoint, [a, b] now\n"
                              "reward.functions: [] in the checkpoint, "
                              "[{name: length, weight: 1, target: 3}] now\n"
                              "train.learning_rate: 1e-05 in the checkpoint, 2e-05 now\n"),
           "%s", diff.data);
    plumb_buf_clear(&diff); /* a file that lacks some keys, which then have their default values */
    static const char hand[] = "train: {learning_rate: 2.0e-5}\ndevice: ref\n";
    CHECK_OK(plumb_config_diff(&diff, c, hand, sizeof(hand) - 1, "old.yaml", "align"));
    CHECK(strstr(diff.data, "model: \"\" in old.yaml, m now\n") &&
          strstr(diff.data, "device: ref in old.yaml, auto now\n") &&
          !strstr(diff.data, "learning_rate"));
    CHECK_FAILS(plumb_config_diff(&diff, c, "train: {lr: 1}\n", 15, "old.yaml", "align"),
                PLUMB_ERR_CONFIG, "old.yaml:1");
    plumb_config_free(&c);
    plumb_buf_fini(&then);
    plumb_buf_fini(&diff);
}

int main(void)
{
    load_begin();
    test_hash();
    test_diff();
    load_end();
    return 0;
}
