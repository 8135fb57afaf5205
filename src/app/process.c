/* process.c - sets up descriptors and signals, and checks outputs.
 * Layer 6. Includes app/process.h, io/, base/. */
#include "app/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/output.h"
#include "base/log.h"
#include "io/file.h"

void plumb_process_standard_files(void)
{
    /* standard input is opened for writing and standard output for reading, so that using them
     * fails */
    static const int how[] = {O_WRONLY, O_RDONLY, O_RDWR};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)open("/dev/null", how[fd]); /* open returns the lowest free number, which is fd */
}

void plumb_process_ignore_signals(void)
{
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

void plumb_process_ignore_term(void)
{
    signal(SIGTERM, SIG_IGN);
}

plumb_status plumb_process_flush(void)
{
    errno = 0;
    PLUMB_REQUIRE(fflush(stdout) == 0 && !ferror(stdout), PLUMB_ERR_IO,
                  "standard output: write failed: %s",
                  errno ? strerror(errno) : "an earlier line was lost");
    return PLUMB_OK;
}

static bool is_stream(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode);
}

static plumb_status check_apart(const struct plumb_app *app, const char *written, const char *path)
{
    const struct plumb_config *cfg = app->cfg;
    const char *const read[] = {cfg->input, cfg->data.prompts, cfg->data.train, cfg->data.eval,
                                app->argc > 2 ? app->argv[2] : ""};
    for (size_t i = 0; i < sizeof(read) / sizeof(read[0]); i++)
        PLUMB_REQUIRE(
            !plumb_file_same(written, read[i]), PLUMB_ERR_EXISTS,
            "output: %s: writing it would destroy %s, which the command reads; name another "
            "file",
            path, read[i]);
    return PLUMB_OK;
}

plumb_status plumb_process_check_output(const struct plumb_app *app, const char *path)
{
    static const char *const beside[] = {".tmp", ".run.json", ".run.json.tmp"};
    char name[PATH_MAX + 16];
    struct stat s;
    if (strcmp(path, "-") == 0 || plumb_output_is_descriptor(path) || is_stream(path))
        return PLUMB_OK;
    PLUMB_REQUIRE(
        lstat(path, &s) != 0 || !S_ISLNK(s.st_mode), PLUMB_ERR_EXISTS,
        "output: %s is a link, and a file would take its place; name the file that it leads "
        "to",
        path);
    PLUMB_TRY(plumb_file_check_output(path, "output"));
    PLUMB_TRY(check_apart(app, path, path));
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", path, beside[i]);
        PLUMB_TRY(check_apart(app, name, path));
    }
    return PLUMB_OK;
}

void plumb_say_warnings(const struct plumb_app *app, const struct plumb_config *cfg)
{
    const char *at = plumb_config_warnings(cfg);
    for (; *at && plumb_comm_rank(app->comm) == 0; at += strcspn(at, "\n") + 1)
        plumb_log(PLUMB_LOG_WARN, "%.*s", (int)strcspn(at, "\n"), at);
}
