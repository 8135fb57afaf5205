/* dir.c - creates, lists, removes and publishes folders, and checks input and output paths.
 * Layer 1. Includes file.h, base/. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

#define FAIL_ERRNO(path, what)                                                                     \
    PLUMB_FAIL(PLUMB_ERR_IO, "%s: cannot %s: %s", (path), (what), strerror(errno))

plumb_status plumb_dir_create(const char *path)
{
    char at[PATH_MAX];
    const size_t len = strlen(path);
    PLUMB_REQUIRE(len > 0 && len < sizeof(at), PLUMB_ERR_ARG,
                  "folder name of %zu bytes, expected 1 to %zu", len, sizeof(at) - 1);
    memcpy(at, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (at[i] != '/' && at[i] != '\0')
            continue;
        const char end = at[i];
        at[i] = '\0';
        if (mkdir(at, 0777) != 0 && !(errno == EEXIST && plumb_dir_exists(at)))
            FAIL_ERRNO(at, "create this folder");
        at[i] = end;
    }
    return PLUMB_OK;
}

plumb_status plumb_dir_publish(const char *from, const char *to)
{
    PLUMB_TRY(plumb_dir_fsync(from));
    if (rename(from, to) != 0) {
        PLUMB_REQUIRE(errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR, PLUMB_ERR_EXISTS,
                      "%s: exists already and is not an empty folder; the new data stay in %s", to,
                      from);
        PLUMB_FAIL(PLUMB_ERR_IO, "%s: cannot rename from %s: %s", to, from, strerror(errno));
    }
    char parent[PATH_MAX];
    PLUMB_TRY(plumb_path_join(parent, sizeof(parent), to, ".."));
    PLUMB_TRY(plumb_dir_fsync(parent));
    return PLUMB_OK;
}

static int bytewise(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static plumb_status list(struct plumb_names *out, DIR *dir, const char *path)
{
    int64_t cap = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(dir);
        if (!e && errno)
            FAIL_ERRNO(path, "list this folder");
        if (!e)
            break;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (out->n == cap) {
            cap = cap ? 2 * cap : 16;
            char **grown = realloc(out->name, (size_t)cap * sizeof(*grown));
            PLUMB_REQUIRE(grown, PLUMB_ERR_NOMEM, "%s: a list of %lld file names", path,
                          (long long)cap);
            out->name = grown;
        }
        out->name[out->n] = strdup(e->d_name);
        PLUMB_REQUIRE(out->name[out->n], PLUMB_ERR_NOMEM, "%s: cannot store the name of a file",
                      path);
        out->n++;
    }
    if (out->n > 1)
        qsort(out->name, (size_t)out->n, sizeof(*out->name), bytewise);
    return PLUMB_OK;
}

plumb_status plumb_dir_list(struct plumb_names *out, const char *path)
{
    *out = (struct plumb_names){0};
    DIR *dir = opendir(path);
    if (!dir)
        FAIL_ERRNO(path, "open this folder");
    const plumb_status st = list(out, dir, path);
    closedir(dir);
    if (st != PLUMB_OK)
        plumb_names_fini(out);
    PLUMB_TRY(st);
    return PLUMB_OK;
}

void plumb_names_fini(struct plumb_names *names)
{
    for (int64_t i = 0; i < names->n; i++)
        free(names->name[i]);
    free(names->name);
    *names = (struct plumb_names){0};
}

plumb_status plumb_dir_remove(const char *path)
{
    struct stat s;
    if (lstat(path, &s) != 0) {
        if (errno == ENOENT)
            return PLUMB_OK;
        FAIL_ERRNO(path, "read its file type");
    }
    PLUMB_REQUIRE(S_ISDIR(s.st_mode), PLUMB_ERR_ARG, "%s: this is not a folder", path);
    struct plumb_names names;
    PLUMB_TRY(plumb_dir_list(&names, path));
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < names.n; i++) {
        char at[PATH_MAX];
        PLUMB_TRY_GOTO(st, plumb_path_join(at, sizeof(at), path, names.name[i]), fail);
        /* Of a symbolic link, only the link is removed, not its target. */
        if (lstat(at, &s) == 0 && S_ISDIR(s.st_mode))
            PLUMB_TRY_GOTO(st, plumb_dir_remove(at), fail);
        else if (unlink(at) != 0 && errno != ENOENT)
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot remove: %s", at, strerror(errno));
    }
    if (rmdir(path) != 0 && errno != ENOENT)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "%s: cannot remove: %s", path, strerror(errno));
fail:
    plumb_names_fini(&names);
    return st;
}

/* ---- checks of input and output paths, called before a long run ---- */

bool plumb_file_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

plumb_status plumb_path_check_link(const char *path, const char *key)
{
    char to[PATH_MAX];
    struct stat s;
    const ssize_t n = readlink(path, to, sizeof(to) - 1);
    const bool broken = n > 0 && stat(path, &s) != 0;
    PLUMB_REQUIRE(!broken, PLUMB_ERR_IO,
                  "%s: %s is a symbolic link to %.*s, which leads nowhere (%s); a copy of a link "
                  "like latest needs cp -rL",
                  key, path, (int)n, to, strerror(errno));
    return PLUMB_OK;
}

plumb_status plumb_dir_check_input(const char *path, const char *key)
{
    const size_t len = strlen(path);
    const char *slash = strchr(path, '/');
    PLUMB_REQUIRE(
        !plumb_file_exists(path) || len < 5 || strcasecmp(path + len - 5, ".gguf") != 0,
        PLUMB_ERR_IO,
        "%s: %s is a GGUF file, which plumb does not read; expected a Hugging Face folder "
        "(config.json, tokenizer.json, safetensors)",
        key, path);
    PLUMB_TRY(plumb_path_check_link(path, key));
    PLUMB_REQUIRE(!plumb_file_exists(path), PLUMB_ERR_IO,
                  "%s: %s is a file, expected a folder: name the folder that this file lies in",
                  key, path);
    /* A path OWNER/NAME with only one slash, where no folder OWNER exists, looks like the name of a
     * repository on a model hub. */
    char owner[PATH_MAX] = "";
    if (slash)
        snprintf(owner, sizeof(owner), "%.*s", (int)(slash - path), path);
    const bool hub =
        *owner && *owner != '.' && slash[1] && !strchr(slash + 1, '/') && !plumb_dir_exists(owner);
    PLUMB_REQUIRE(plumb_dir_exists(path), PLUMB_ERR_IO, "%s: there is no folder %s%s", key, path,
                  hub ? " (plumb does not download models; name a local folder)" : "");
    char config[PATH_MAX], run[PATH_MAX];
    PLUMB_TRY(plumb_path_join(config, sizeof(config), path, "config.json"));
    PLUMB_TRY(plumb_path_join(run, sizeof(run), path, "run.json"));
    PLUMB_REQUIRE(plumb_file_exists(config) || !plumb_file_exists(run), PLUMB_ERR_IO,
                  "%s: %s is the folder of a run: name its newest checkpoint, %s/latest", key, path,
                  path);
    return PLUMB_OK;
}

plumb_status plumb_file_check_input(const char *path, const char *key)
{
    PLUMB_TRY(plumb_path_check_link(path, key));
    PLUMB_REQUIRE(!strcmp(path, "-") || plumb_file_exists(path) || plumb_dir_exists(path),
                  PLUMB_ERR_IO, "%s: %s: cannot open: %s", key, path, strerror(ENOENT));
    return PLUMB_OK;
}

/* Returns the number of bytes of the absolute path that `path` stands for. */
static size_t absolute_length(const char *path)
{
    char here[PATH_MAX];
    const size_t own = strlen(path);
    return *path != '/' && getcwd(here, sizeof(here)) ? strlen(here) + 1 + own : own;
}

/* Checks that no name between two slashes is longer than file systems allow. `extra` bytes are
 * reserved for a suffix that will be appended to the last name. */
static plumb_status check_names(const char *path, const char *key, size_t extra)
{
    for (const char *at = path; *at;) {
        const size_t n = strcspn(at, "/");
        const bool last = at[n] == '\0';
        PLUMB_REQUIRE(n + (last ? extra : 0) <= NAME_MAX, PLUMB_ERR_ARG,
                      "%s: the name %.60s... has %zu bytes, but at most %zu are allowed", key, at,
                      n, NAME_MAX - (last ? extra : 0));
        at += n + !last;
    }
    return PLUMB_OK;
}

/* Checks that path, or its nearest parent that exists if path does not exist, is a folder that can
 * be written to. */
static plumb_status check_parent(const char *path, const char *key)
{
    char at[PATH_MAX];
    struct stat s;
    snprintf(at, sizeof(at), "%s", path);
    while (stat(*at ? at : ".", &s) != 0) {
        PLUMB_REQUIRE(errno == ENOENT, PLUMB_ERR_IO, "%s: cannot look up %s: %s", key, at,
                      strerror(errno));
        PLUMB_REQUIRE(lstat(at, &s) != 0, PLUMB_ERR_IO,
                      "%s: %s is a link to something that does not exist", key, at);
        char *slash = strrchr(at, '/');
        /* Removes the slashes at the end of "a/b/". */
        while (slash && slash > at && slash[1] == '\0') {
            *slash = '\0';
            slash = strrchr(at, '/');
        }
        if (slash)
            slash[slash == at] = '\0';
        else
            at[0] = '\0';
    }
    PLUMB_REQUIRE(S_ISDIR(s.st_mode), PLUMB_ERR_EXISTS, "%s: %s is not a folder", key, at);
    PLUMB_REQUIRE(access(*at ? at : ".", W_OK | X_OK) == 0, PLUMB_ERR_IO,
                  "%s: the folder %s cannot be written to: %s", key, *at ? at : ".",
                  strerror(errno));
    return PLUMB_OK;
}

/* Fails for a path that begins with ~ or $ or contains ${, which a shell would have expanded.
 * Otherwise a folder with the name "~" or "$HOME" would be created in the current folder. */
static plumb_status check_expanded(const char *path, const char *key)
{
    PLUMB_REQUIRE(*path != '~' && *path != '$' && !strstr(path, "${"), PLUMB_ERR_ARG,
                  "%s: %s: plumb does not expand ~ and variables; write the path out (or ./%s, if "
                  "the folder has this very name)",
                  key, path, path);
    return PLUMB_OK;
}

plumb_status plumb_dir_check_output(const char *path, const char *key)
{
    const size_t n = absolute_length(path);
    PLUMB_TRY(check_expanded(path, key));
    PLUMB_REQUIRE(
        n + PLUMB_DIR_ROOM < PATH_MAX, PLUMB_ERR_ARG,
        "%s: the path has %zu bytes, but at most %d are allowed, because the files below it "
        "need up to %d more; choose a folder with a shorter path",
        key, n, PATH_MAX - 1 - PLUMB_DIR_ROOM, PLUMB_DIR_ROOM);
    PLUMB_TRY(check_names(path, key, 0));
    return check_parent(path, key);
}

plumb_status plumb_file_check_output(const char *path, const char *key)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t n = absolute_length(path);
    PLUMB_TRY(check_expanded(path, key));
    PLUMB_REQUIRE(*path && n + PLUMB_FILE_ROOM < PATH_MAX, PLUMB_ERR_ARG,
                  "%s: the path has %zu bytes, expected 1 to %d", key, n,
                  PATH_MAX - 1 - PLUMB_FILE_ROOM);
    PLUMB_REQUIRE(!plumb_dir_exists(path), PLUMB_ERR_EXISTS, "%s: %s is a folder", key, path);
    PLUMB_TRY(check_names(path, key, PLUMB_FILE_ROOM));
    snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    const char *dir = slash == path ? "/" : parent;
    PLUMB_REQUIRE(plumb_dir_exists(dir), PLUMB_ERR_IO, "%s: cannot write %s: there is no folder %s",
                  key, path, dir);
    return check_parent(dir, key);
}
