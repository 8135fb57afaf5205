/* test_lock.c - checks the lock of an output folder: held by another process, by a killed process,
 * or by a process on another host, and under other spellings of the folder's path.
 * Test. Includes harness.h, io/, train/. */
#include "train/lock.h"

#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "io/file.h"

static char top[] = "/tmp/plumb_lock_XXXXXX";
static char dir[64], path[80];

static bool said(const char *words)
{
    return strstr(plumb_trail_message(), words) != NULL;
}

/* The function of a child process. `told` is a pipe to which it writes one byte to report. */
typedef void child_fn(int told);

static pid_t child(child_fn *fn, int *heard)
{
    int pipes[2];
    char byte = 0;
    CHECK(!pipe(pipes));
    const pid_t pid = fork();
    if (pid == 0) {
        fn(pipes[1]);
        _exit(0);
    }
    close(pipes[1]);
    *heard = read(pipes[0], &byte, 1) == 1 ? byte : -1;
    close(pipes[0]);
    return pid;
}

static void tell(int told, char what)
{
    if (write(told, &what, 1) != 1)
        _exit(1);
}

/* Takes the lock and keeps it until the process is killed. */
static void hold(int told)
{
    plumb_lock *l;
    tell(told, plumb_lock_take(&l, dir, "sft", 60) == PLUMB_OK);
    for (;;)
        pause();
}

static void lives_and_dies(void)
{
    plumb_lock *mine = NULL;
    int held;
    const pid_t pid = child(hold, &held);
    CHECK(held == 1);
    CHECK(plumb_lock_take(&mine, dir, "align", 60) == PLUMB_ERR_EXISTS && !mine);
    char who[64];
    snprintf(who, sizeof(who), "process %d on", (int)pid);
    CHECK(said(who) && said("plumb sft") && said(path));
    /* A process that is stopped by a signal keeps its lock. */
    kill(pid, SIGSTOP);
    CHECK(plumb_lock_take(&mine, dir, "align", 60) == PLUMB_ERR_EXISTS);
    /* The lock of a killed process can be taken over at once, not only after 60 s, even while the
     * process is a zombie. */
    kill(pid, SIGKILL);
    siginfo_t info;
    CHECK(!waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
    CHECK_OK(plumb_lock_take(&mine, dir, "align", 60));
    CHECK(waitpid(pid, NULL, 0) == pid);
    CHECK_OK(plumb_lock_check(mine));
    /* A second lock in the same process is also refused. */
    plumb_lock *other = NULL;
    CHECK(plumb_lock_take(&other, dir, "align", 60) == PLUMB_ERR_EXISTS && !other);
    plumb_lock_release(&mine);
    /* the folder was not removed with the lock, because the killed process had created it */
    CHECK(!mine && !rmdir(dir));
}

/* Checks that every spelling of the path means the same lock. */
static void spellings(void)
{
    char text[3][96];
    plumb_lock *l, *other = NULL;
    CHECK_OK(plumb_dir_create(dir));
    snprintf(text[0], sizeof(text[0]), "%s//", dir);
    snprintf(text[1], sizeof(text[1]), "%s/./", dir);
    snprintf(text[2], sizeof(text[2]), "%s/link", top);
    CHECK(!symlink(dir, text[2]));
    CHECK_OK(plumb_lock_take(&l, dir, "sft", 60));
    for (int i = 0; i < 3; i++)
        CHECK(plumb_lock_take(&other, text[i], "sft", 60) == PLUMB_ERR_EXISTS);
    plumb_lock_release(&l);
    CHECK(plumb_dir_exists(dir)); /* the folder existed before the lock, so it is not removed */
    CHECK(!plumb_file_exists(path) && !unlink(text[2]) && !rmdir(dir));
}

static void parents(void)
{
    char deep[128], keep[160];
    plumb_lock *l;
    snprintf(deep, sizeof(deep), "%s/a/b/c/", top);
    CHECK_OK(plumb_lock_take(&l, deep, "sft", 60));
    plumb_lock_release(&l);
    snprintf(deep, sizeof(deep), "%s/a", top);
    CHECK(!plumb_dir_exists(deep));
    snprintf(deep, sizeof(deep), "%s/a/b", top);
    CHECK_OK(plumb_lock_take(&l, deep, "sft", 60));
    snprintf(keep, sizeof(keep), "%s/metrics.jsonl", deep);
    CHECK_OK(plumb_file_write_atomic(keep, "x", 1));
    plumb_lock_release(&l);
    CHECK(plumb_file_exists(keep));
    CHECK_OK(plumb_dir_remove(deep));
}

static void write_lock(const char *text)
{
    CHECK_OK(plumb_dir_create(dir));
    CHECK_OK(plumb_file_write_atomic(path, text, (int64_t)strlen(text)));
}

#define ELSEWHERE                                                                                  \
    "{\"beat\": \"000000000007\", \"host\": \"far\", \"pid\": 42, \"start\": 7, "                  \
    "\"boot\": \"another\", \"pids\": \"another\", \"job\": \"77\", \"restart\": 0, "              \
    "\"command\": \"sft\", \"since\": \"2026-01-31T10:00:00Z\", \"nonce\": \"abc\", "              \
    "\"silent_after\": %g}\n"

/* Changes the heartbeat in the lock file every 5 ms until *stop is true, like a process on another
 * host. */
static void *beat(void *stop)
{
    char digit = '0';
    while (!*(volatile bool *)stop) {
        FILE *f = fopen(path, "r+");
        CHECK(f);
        fseek(f, 20, SEEK_SET);
        fputc(digit, f);
        fclose(f);
        digit = digit == '9' ? '0' : (char)(digit + 1);
        usleep(5000);
    }
    return NULL;
}

/* Checks the lock of a process on another host. Only the heartbeat in its file shows that the
 * process still runs. */
static void other_host(void)
{
    char text[512];
    plumb_lock *l = NULL;
    pthread_t thread;
    bool stop = false;
    snprintf(text, sizeof(text), ELSEWHERE, 0.3);
    write_lock(text);
    /* no heartbeat for 0.3 s, so the lock is taken over */
    CHECK_OK(plumb_lock_take(&l, dir, "sft", 60));
    plumb_lock_release(&l);
    snprintf(text, sizeof(text), ELSEWHERE, 3600.0);
    write_lock(text);
    CHECK(!pthread_create(&thread, NULL, beat, &stop));
    CHECK(plumb_lock_take(&l, dir, "sft", 60) == PLUMB_ERR_EXISTS);
    CHECK(said("process 42 on far") && said("job 77"));
    stop = true;
    pthread_join(thread, NULL);
    /* The lock of an earlier start of the same Slurm job can be taken over at once. */
    setenv("SLURM_JOB_ID", "77", 1);
    setenv("SLURM_RESTART_COUNT", "1", 1);
    CHECK_OK(plumb_lock_take(&l, dir, "sft", 60));
    plumb_lock_release(&l);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
    CHECK_OK(plumb_dir_remove(dir));
}

static char digits_of(void)
{
    struct plumb_buf b = {0};
    CHECK_OK(plumb_file_read(&b, path));
    const char last = plumb_buf_text(&b)[21];
    plumb_buf_fini(&b);
    return last;
}

static void heartbeat(void)
{
    plumb_lock *l;
    CHECK_OK(plumb_lock_take(&l, dir, "sft", 0.2));
    const char before = digits_of();
    for (int i = 0; i < 20000 && digits_of() == before; i++)
        usleep(1000);
    CHECK(digits_of() != before);
    plumb_lock_release(&l);
}

/* Checks an empty lock file, and the file that a process left when it was killed while it took the
 * lock. */
static void leftovers(void)
{
    char stray[128];
    plumb_lock *l;
    write_lock("");
    snprintf(stray, sizeof(stray), "%s.host.12", path);
    CHECK_OK(plumb_file_write_atomic(stray, "{", 1));
    CHECK(plumb_lock_owns("run.lock") && plumb_lock_owns("run.lock.host.12"));
    CHECK(!plumb_lock_owns("run.json") && !plumb_lock_owns("run.lockers"));
    CHECK_OK(plumb_lock_take(&l, dir, "sft", 60));
    CHECK(!plumb_file_exists(stray));
    plumb_lock_release(&l);
    CHECK(!rmdir(dir));
}

static void lost(void)
{
    char text[512];
    plumb_lock *l;
    CHECK_OK(plumb_lock_take(&l, dir, "sft", 60));
    CHECK(!unlink(path));
    CHECK_OK(plumb_lock_check(l)); /* the removed lock file is written again */
    CHECK(plumb_file_exists(path));
    CHECK_OK(plumb_lock_check(l));
    snprintf(text, sizeof(text), ELSEWHERE, 60.0);
    write_lock(text);
    CHECK(plumb_lock_check(l) == PLUMB_ERR_EXISTS && said("process 42 on far"));
    plumb_lock_release(&l);
    CHECK(plumb_file_exists(path)); /* the lock file of process 42 is not removed */
    CHECK_OK(plumb_dir_remove(dir));
    CHECK_OK(plumb_lock_check(NULL));
    plumb_lock_release(&l);
}

/* One of many processes that try to take the same abandoned lock at the same time. */
static void race(int told)
{
    plumb_lock *l = NULL;
    const bool got = plumb_lock_take(&l, dir, "sft", 60) == PLUMB_OK;
    tell(told, got);
    if (got)
        for (;;)
            pause();
}

static void races(void)
{
    enum { N = 8 };
    for (int round = 0; round < 10; round++) {
        int pipes[2], owners = 0;
        pid_t pid[N];
        char byte = 0, text[512];
        snprintf(text, sizeof(text), ELSEWHERE, 0.02);
        if (round % 2)
            write_lock(text);
        CHECK(!pipe(pipes));
        for (int i = 0; i < N; i++)
            if ((pid[i] = fork()) == 0)
                race(pipes[1]), _exit(0);
        for (int i = 0; i < N; i++) {
            CHECK(read(pipes[0], &byte, 1) == 1);
            owners += byte;
        }
        CHECK(owners == 1);
        for (int i = 0; i < N; i++) {
            kill(pid[i], SIGKILL);
            CHECK(waitpid(pid[i], NULL, 0) == pid[i]);
        }
        close(pipes[0]);
        close(pipes[1]);
        CHECK_OK(plumb_dir_remove(dir));
    }
}

int main(void)
{
    CHECK(mkdtemp(top));
    snprintf(dir, sizeof(dir), "%s/out", top);
    snprintf(path, sizeof(path), "%s/run.lock", dir);
    lives_and_dies();
    spellings();
    parents();
    other_host();
    heartbeat();
    leftovers();
    lost();
    races();
    CHECK_OK(plumb_dir_remove(top));
    return 0;
}
