/* test_reward_command.c - checks reward commands that work, end early, hang, or write malformed,
 * too few or too many lines. */
#include "data/reward_command.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "harness.h"

enum { N = 40 };
static struct plumb_reward_item item[N];
static char text[N][32];
static struct plumb_reward_missing missing;
static double score[N];

/* A reward command in Python. The completion ends with a number k, and its score is k / 2. `body`
 * runs before each answer. */
#define PY(body)                                                                                   \
    "exec python3 -c '\nimport sys, json, time, os, signal\nfor i, line in "                       \
    "enumerate(sys.stdin):\n"                                                                      \
    "    d = json.loads(line)\n    k = int(d[\"completion\"].split()[-1])\n"                       \
    "    out = json.dumps({\"score\": k / 2})\n" body "    print(out, flush=True)\n'"

/* The same reward command in the shell, which starts fast enough for a short time-out. */
#define SH(body)                                                                                   \
    "while read -r line; do k=${line##*answer }; k=${k%%\\\"*}\n" body                             \
    "\necho \"{\\\"score\\\": $((k / 2)).$((k % 2 * 5))}\"; done"

static plumb_status run_on(plumb_reward_command *c, int64_t n)
{
    memset(&missing, 0, sizeof missing);
    for (int i = 0; i < N; i++)
        score[i] = -77;
    return plumb_reward_command_score(c, score, item, n, &missing);
}

static plumb_status run(const char *command, double timeout, int64_t restarts)
{
    plumb_reward_command *c;
    CHECK_OK(plumb_reward_command_create(&c, command, timeout, restarts));
    const plumb_status st = run_on(c, N);
    plumb_reward_command_destroy(&c);
    CHECK(!c);
    return st;
}

/* Checks that all scores are right, except `bad` scores that are NaN for the reason `why`. */
static void check_scores(int64_t bad, enum plumb_missing why)
{
    int64_t nan = 0;
    for (int i = 0; i < N; i++) {
        CHECKF(isnan(score[i]) || score[i] == i / 2.0, "%d: %g", i, score[i]);
        nan += isnan(score[i]);
    }
    CHECKF(nan == bad, "%lld missing: %s", (long long)nan, missing.example);
    for (int k = 0; k < PLUMB_MISSING_COUNT; k++)
        CHECKF(missing.count[k] == (k == (int)why ? bad : 0), "%s: %lld",
               plumb_missing_text((enum plumb_missing)k), (long long)missing.count[k]);
    CHECK((bad > 0) == (missing.example[0] != 0));
}

static void check_error(plumb_status st, plumb_status want, const char *a, const char *b)
{
    CHECKF(st == want && strstr(plumb_trail(), a) && strstr(plumb_trail(), b), "%d: %s", st,
           plumb_trail());
}

static void test_good(void)
{
    plumb_reward_command *c;
    CHECK_OK(plumb_reward_command_create(&c, PY(""), 60, 0));
    for (int k = 0; k < 3; k++) { /* one process answers all calls */
        CHECK_OK(run_on(c, N));
        check_scores(0, PLUMB_MISSING_FORMAT);
    }
    CHECK_OK(run_on(c, 0));
    CHECK_OK(run_on(c, 1));
    CHECK(score[0] == 0 && score[1] == -77);
    plumb_reward_command_destroy(&c);
    /* The input line contains the solution if the item has one. */
    item[3].solution = "yes \"3\"";
    item[3].solution_len = 7;
    CHECK_OK(run(PY("    assert d.get(\"solution\") == (\"yes \\\"3\\\"\" if k == 3 else None)\n"
                    "    assert d[\"prompt_id\"] == 100 + k and d[\"sample\"] == k % 2\n"
                    "    assert d[\"prompt\"] == \"line\\n\\u00e9\"\n"),
                 60, 0));
    item[3].solution = NULL;
    check_scores(0, PLUMB_MISSING_FORMAT);
    /* The input line also contains the members of the record. If plumb itself uses the name of a
     * member, this member is only in "record"; the record's "prompt" is in "prompt_messages". */
    static const char record[] =
        "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"answer\":7,\"tests\":[\"a\",{\"b\":"
        "2}],"
        "\"big\":12345678901234567890,\"sample\":\"mine\",\"completion\":\"gold\"}";
    item[3].record = (struct plumb_columns){record, sizeof record - 1};
    item[3].solution = "7";
    item[3].solution_len = 1;
    CHECK_OK(run(
        PY("    if k == 3:\n"
           "        assert d[\"tests\"] == [\"a\", {\"b\": 2}] and d[\"answer\"] == 7\n"
           "        assert d[\"solution\"] == 7 and d[\"big\"] == 12345678901234567890\n"
           "        assert d[\"record\"] == {\"sample\": \"mine\", \"completion\": \"gold\"}\n"
           "        assert d[\"prompt_messages\"] == [{\"role\": \"user\", \"content\": \"q\"}]\n"
           "    assert d[\"prompt_id\"] == 100 + k and d[\"sample\"] == k % 2\n"
           "    assert d[\"completion_messages\"] == "
           "[{\"role\": \"assistant\", \"content\": d[\"completion\"]}]\n"),
        60, 0));
    check_scores(0, PLUMB_MISSING_FORMAT);
    item[3].record = (struct plumb_columns){NULL, 0};
    item[3].solution = NULL;
    CHECK_OK(
        run(PY("    out = json.dumps({\"score\": k / 2, \"prompt_id\": 100 + k, \"x\": [1]})\n"),
            60, 0));
    check_scores(0, PLUMB_MISSING_FORMAT);
}

static void test_missing(void)
{
    CHECK_OK(run(PY("    if k == 3: out = \"three\"\n    if k == 7: out = \"{}\"\n"
                    "    if k == 9: out = json.dumps({\"score\": 1, \"prompt_id\": 5})\n"),
                 60, 0));
    check_scores(3, PLUMB_MISSING_FORMAT);
    CHECK_OK(run(PY("    if k == 3: out = \"{\\\"score\\\": null}\"\n"), 60, 0));
    check_scores(1, PLUMB_MISSING_NULL);
    CHECK_OK(run(PY("    if k == 3: out = \"{\\\"score\\\": \\\"1\\\"}\"\n"), 60, 0));
    check_scores(1, PLUMB_MISSING_NUMBER);
    /* too large for float32 */
    CHECK_OK(run(PY("    if k == 3: out = \"{\\\"score\\\": -1e39}\"\n"), 60, 0));
    check_scores(1, PLUMB_MISSING_NUMBER);
    CHECK_OK(run(PY("    if k == 3: out = \"{\\\"score\\\": NaN}\"\n"), 60, 0));
    check_scores(1, PLUMB_MISSING_FORMAT);
    /* If the command prints a line at its start, every answer is one line late. */
    check_error(run("echo loading; " PY(""), 60, 0), PLUMB_ERR_FORMAT, "more lines", "loading; ");
}

static void test_dies(void)
{
    /* The command ends after every 15 answers and is started again. No answer is lost. */
    CHECK_OK(run(PY("    if i == 15: sys.exit(3)\n"), 60, 3));
    check_scores(0, PLUMB_MISSING_DIED);
    check_error(
        run(PY("    if i == 15: sys.stderr.write(\"out of \" + \"luck\"); sys.exit(3)\n"), 60, 1),
        PLUMB_ERR_IO, "exit status 3", "out of luck");
    CHECK(strstr(plumb_trail(), "python3") && strstr(plumb_trail(), "restarts"));
    /* The command ends at one item whenever it is started. The score of this item is missing. */
    CHECK_OK(run(PY("    if k == 5: os.kill(os.getpid(), 9)\n"), 60, 2));
    check_scores(1, PLUMB_MISSING_DIED);
    /* The command ends twice at item 5 and once at item 6; only the score of item 5 is missing. */
    CHECK(unlink("died_on_6") == 0 || errno == ENOENT);
    CHECK_OK(run(PY("    if k == 5: os.kill(os.getpid(), 9)\n"
                    "    if k == 6 and not os.path.exists(\"died_on_6\"):\n"
                    "        open(\"died_on_6\", \"w\").close()\n"
                    "        os.kill(os.getpid(), 9)\n"),
                 60, 4));
    check_scores(1, PLUMB_MISSING_DIED);
    CHECK(unlink("died_on_6") == 0);
    check_error(run(PY("    if k == 5: os.kill(os.getpid(), 9)\n"), 60, 0), PLUMB_ERR_IO,
                "signal 9", "restarts");
    /* The command gives too few answers and ends with status 0. */
    check_error(run("head -n 1 >/dev/null; echo '{\"score\": 0}'", 60, 0), PLUMB_ERR_IO,
                "exit status 0", "ended unexpectedly");
    /* The command does not exist, so it is not started again. */
    check_error(run("/no/such/judge --fast", 60, 1000000), PLUMB_ERR_IO, "cannot be started",
                "/no/such/judge");
    CHECK(strstr(plumb_trail(), "127"));
}

/* Checks a command that gets SIGUSR1. Slurm sends the signal of --signal to every process of a
 * step, also to the reward command. */
static void test_signal(void)
{
    CHECK_OK(run(SH("[ $k = 3 ] && kill -USR1 $$"), 60, 0));
    check_scores(0, PLUMB_MISSING_COUNT);
}

static void test_hangs(void)
{
    double begun = plumb_now();
    CHECK_OK(run(SH("[ $k = 4 ] && sleep 1000"), 3, 1));
    check_scores(1, PLUMB_MISSING_TIMEOUT);
    CHECKF(plumb_now() - begun < 100, "%g s", plumb_now() - begun);
    /* The command answers all items but 5, or 2 and 7. The scores of the other items must not move.
     */
    CHECK_OK(run(SH("[ $k = 5 ] && continue"), 3, 1));
    check_scores(1, PLUMB_MISSING_TIMEOUT);
    CHECK(isnan(score[5]));
    CHECK_OK(run(SH("case $k in 2|7) continue ;; esac"), 3, 2));
    check_scores(2, PLUMB_MISSING_TIMEOUT);
    CHECK(isnan(score[2]) && isnan(score[7]));
    /* The command leaves out item 3, and exits once, at item 6, before plumb can notice that. */
    CHECK(unlink("died_on_6") == 0 || errno == ENOENT);
    CHECK_OK(run(
        SH("[ $k = 3 ] && continue; [ $k = 6 ] && [ ! -e died_on_6 ] && : >died_on_6 && exit 1"), 3,
        3));
    check_scores(1, PLUMB_MISSING_TIMEOUT);
    CHECK(isnan(score[3]) && unlink("died_on_6") == 0);
    check_error(run(SH("case $k in 2|7) continue ;; esac"), 3, 1), PLUMB_ERR_IO,
                "no answer within 3 s", "restarts");
    begun = plumb_now();
    /* The command and its child ignore TERM, INT and HUP, so plumb kills the whole process
     * group. */
    check_error(run("trap '' TERM INT HUP; echo $$ >&2; sleep 1000; sleep 1000", 2, 0),
                PLUMB_ERR_IO, "no answer within 2 s", "last lines");
    const char *words = strstr(plumb_trail(), "last lines of standard error: ");
    const pid_t group = (pid_t)strtol(words + strlen("last lines of standard error: "), NULL, 10);
    CHECK(group > 1);
    CHECKF(plumb_now() - begun < 100, "%g s", plumb_now() - begun);
    for (int i = 0; i < 1000 && kill(-group, 0) == 0; i++)
        usleep(20000);
    CHECKF(kill(-group, 0) != 0, "group %d is still there", group);
    /* Start and all items together take longer than the time-out, but no single item does. */
    CHECK_OK(run("sleep 0.5; " SH("sleep 0.1"), 3, 0));
    check_scores(0, PLUMB_MISSING_TIMEOUT);
}

/* Checks input and output that are larger than the buffer of a pipe, before the first answer is
 * read. */
static void test_big(void)
{
    static char big[N][200000];
    for (int i = 0; i < N; i++) {
        memset(big[i], 'a' + i % 26, sizeof big[i]);
        snprintf(big[i] + sizeof big[i] - 8, 8, " %d", i);
        item[i].completion = big[i];
        item[i].completion_len = (int64_t)strlen(big[i]);
    }
    CHECK_OK(run("exec python3 -c '\nimport sys, json\nlines = []\nfor n in range(40):\n"
                 "    lines.append(json.loads(sys.stdin.readline()))\n"
                 "sys.stderr.write(\"x\" * 1000000)\nfor d in lines:\n"
                 "    k = int(d[\"completion\"].split()[-1])\n"
                 "    print(json.dumps({\"score\": k / 2, \"echo\": d[\"completion\"]}))\n'",
                 60, 0));
    check_scores(0, PLUMB_MISSING_FORMAT);
    /* A command that never reads its input. */
    check_error(run("exec sleep 1000", 0.3, 0), PLUMB_ERR_IO, "no answer within", "sleep");
    /* A command that closes its standard input early. plumb must not be ended by SIGPIPE. */
    check_error(run("exec 0<&-; sleep 0.2", 60, 0), PLUMB_ERR_IO, "ended unexpectedly",
                "exit status 0");
}

int main(void)
{
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "answer %d", i);
        item[i] = (struct plumb_reward_item){.prompt = "line\n\xC3\xA9",
                                             .prompt_len = 7,
                                             .completion = text[i],
                                             .completion_len = (int64_t)strlen(text[i]),
                                             .prompt_id = 100 + i,
                                             .sample = i % 2};
    }
    if (system("command -v python3 >/dev/null 2>&1") != 0) {
        printf("SKIP: python3 is not here\n");
        return SKIP;
    }
    plumb_log_setup(PLUMB_LOG_ERROR, 0, 1);
    test_good();
    test_missing();
    test_dies();
    test_signal();
    test_hangs();
    test_big();
    CHECKF(waitpid(-1, NULL, WNOHANG) == -1, "a child was left behind");
    return 0;
}
