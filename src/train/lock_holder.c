/* lock_holder.c - describes this process as a lock holder, writes and reads lock files, and checks
 * whether a holder still runs.
 * Layer 5. Includes train/lock_holder.h, base/, io/. */
#include "train/lock_holder.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/json.h"

/* Seconds for which a lock file with invalid content is watched. If the file does not change, it
 * was left by a process that was killed while it created the file. */
#define UNREADABLE 5.0

static void first_line(char *out, size_t size, const char *path)
{
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (f && !fgets(out, (int)size, f))
        out[0] = '\0';
    if (f)
        fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

/* Returns the start time of a process in clock ticks since boot. Returns -1 if the process does not
 * exist or is a zombie, 0 if it may exist but its start time is unknown. */
static int64_t start_of(int64_t pid)
{
    char path[64], line[1024], state = 'Z';
    long long start = 0;
    snprintf(path, sizeof(path), "/proc/%lld/stat", (long long)pid);
    first_line(line, sizeof(line), path);
    /* the fields follow the last ')', because the process name may contain any character */
    const char *after = strrchr(line, ')');
    if (!after)
        return kill((pid_t)pid, 0) != 0 && errno == ESRCH ? -1 : 0;
    /* state is field 3, the start is field 22 */
    if (sscanf(after + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld",
               &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? -1 : start;
}

static void find_job(struct plumb_lock_holder *me)
{
    static const char *const name[] = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID",
                                       "JOB_ID"};
    const char *restart = getenv("SLURM_RESTART_COUNT");
    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]) && !me->job[0]; i++)
        snprintf(me->job, sizeof(me->job), "%s", getenv(name[i]) ? getenv(name[i]) : "");
    me->restart = restart ? strtoll(restart, NULL, 10) : 0;
}

void plumb_lock_holder_self(struct plumb_lock_holder *me, const char *command, double silent_s)
{
    struct timespec now;
    struct tm utc;
    char text[512];
    *me = (struct plumb_lock_holder){.pid = (int64_t)getpid(), .silent_s = silent_s};
    me->start = start_of(me->pid);
    if (gethostname(me->host, sizeof(me->host) - 1) != 0)
        snprintf(me->host, sizeof(me->host), "unknown");
    first_line(me->boot, sizeof(me->boot), "/proc/sys/kernel/random/boot_id");
    const ssize_t n = readlink("/proc/self/ns/pid", me->pids, sizeof(me->pids) - 1);
    me->pids[n > 0 ? n : 0] = '\0';
    find_job(me);
    snprintf(me->command, sizeof(me->command), "%s", command);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(me->since, sizeof(me->since), "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf(text, sizeof(text), "%s %" PRId64 " %lld.%09ld", me->host, me->pid,
             (long long)now.tv_sec, now.tv_nsec);
    snprintf(me->nonce, sizeof(me->nonce), "%016" PRIx64,
             plumb_hash(text, (int64_t)strlen(text), 0));
}

static plumb_status put_text(struct plumb_buf *b, const char *key, const char *text)
{
    PLUMB_TRY(plumb_buf_addf(b, ", \"%s\": ", key));
    return plumb_json_put_string(b, text, (int64_t)strlen(text));
}

plumb_status plumb_lock_holder_put(struct plumb_buf *b, const struct plumb_lock_holder *h)
{
    PLUMB_TRY(plumb_buf_addf(b, PLUMB_LOCK_BEFORE_BEAT "%0*d\"", PLUMB_LOCK_BEAT_DIGITS, 0));
    PLUMB_TRY(put_text(b, "host", h->host));
    PLUMB_TRY(plumb_buf_addf(b, ", \"pid\": %" PRId64 ", \"start\": %" PRId64, h->pid, h->start));
    PLUMB_TRY(put_text(b, "boot", h->boot));
    PLUMB_TRY(put_text(b, "pids", h->pids));
    PLUMB_TRY(put_text(b, "job", h->job));
    PLUMB_TRY(plumb_buf_addf(b, ", \"restart\": %" PRId64, h->restart));
    PLUMB_TRY(put_text(b, "command", h->command));
    PLUMB_TRY(put_text(b, "since", h->since));
    PLUMB_TRY(put_text(b, "nonce", h->nonce));
    PLUMB_TRY(plumb_buf_add_text(b, ", \"silent_after\": "));
    PLUMB_TRY(plumb_json_put_real(b, h->silent_s));
    return plumb_buf_add_text(b, "}\n");
}

static void take_text(char *out, size_t size, const plumb_json *v, const char *key)
{
    snprintf(out, size, "%s", plumb_json_string(plumb_json_get(v, key), ""));
}

bool plumb_lock_holder_read(struct plumb_lock_holder *h, const char *path)
{
    plumb_json *v = NULL;
    *h = (struct plumb_lock_holder){.silent_s = UNREADABLE};
    if (!plumb_file_exists(path))
        return false;
    if (plumb_json_read_file(&v, path) != PLUMB_OK)
        return plumb_file_exists(path);
    take_text(h->host, sizeof(h->host), v, "host");
    take_text(h->boot, sizeof(h->boot), v, "boot");
    take_text(h->pids, sizeof(h->pids), v, "pids");
    take_text(h->job, sizeof(h->job), v, "job");
    take_text(h->command, sizeof(h->command), v, "command");
    take_text(h->since, sizeof(h->since), v, "since");
    take_text(h->nonce, sizeof(h->nonce), v, "nonce");
    take_text(h->beat, sizeof(h->beat), v, "beat");
    h->pid = plumb_json_int(plumb_json_get(v, "pid"), 0);
    h->start = plumb_json_int(plumb_json_get(v, "start"), 0);
    h->restart = plumb_json_int(plumb_json_get(v, "restart"), 0);
    h->silent_s = plumb_json_real(plumb_json_get(v, "silent_after"), UNREADABLE);
    plumb_json_free(&v);
    return true;
}

void plumb_lock_holder_describe(char *out, size_t size, const struct plumb_lock_holder *h)
{
    if (!h->nonce[0])
        snprintf(out, size, "a process that wrote nothing into it");
    else
        snprintf(out, size, "process %" PRId64 " on %s (plumb %s%s%s, since %s)", h->pid, h->host,
                 h->command, h->job[0] ? ", job " : "", h->job, h->since);
}

enum plumb_lock_life plumb_lock_holder_life(const struct plumb_lock_holder *h,
                                            const struct plumb_lock_holder *me)
{
    if (h->boot[0] && strcmp(h->boot, me->boot) == 0 && strcmp(h->pids, me->pids) == 0) {
        const int64_t start = start_of(h->pid);
        return start < 0           ? PLUMB_HOLDER_GONE
               : start == 0        ? PLUMB_HOLDER_UNKNOWN
               : start == h->start ? PLUMB_HOLDER_RUNS
                                   : PLUMB_HOLDER_GONE;
    }
    if (h->job[0] && strcmp(h->job, me->job) == 0 && me->restart > h->restart)
        return PLUMB_HOLDER_GONE;
    return PLUMB_HOLDER_UNKNOWN;
}
