/* manifest.c - writes hashes.json, and verifies a folder against it.
 * Layer 5. Includes base/, io/. */
#include "train/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/json.h"

#define ALGORITHM "xxh3-64"

static plumb_status size_of(int64_t *bytes, const char *path)
{
    struct stat s;
    PLUMB_REQUIRE(!stat(path, &s), PLUMB_ERR_IO, "%s: %s", path, strerror(errno));
    *bytes = (int64_t)s.st_size;
    return PLUMB_OK;
}

/* Syncs a file and asks the operating system to drop its cached pages, so that
 * plumb_manifest_verify reads from the disk. If the system keeps the pages, plumb_manifest_verify
 * reads them from memory. */
static plumb_status sync_and_drop(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    PLUMB_REQUIRE(fd >= 0, PLUMB_ERR_IO, "%s: %s", path, strerror(errno));
    const int failed = fsync(fd) ? errno : 0;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    PLUMB_REQUIRE(!failed, PLUMB_ERR_IO, "%s: fsync: %s", path, strerror(failed));
    return PLUMB_OK;
}

static plumb_status put_file(struct plumb_buf *b, const char *dir, const char *name, bool first)
{
    char path[4096];
    int64_t bytes = 0;
    uint64_t hash = 0;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, name));
    PLUMB_TRY(size_of(&bytes, path));
    PLUMB_TRY(plumb_file_hash(&hash, path));
    PLUMB_TRY(sync_and_drop(path));
    PLUMB_TRY(plumb_buf_add_text(b, first ? "\n    " : ",\n    "));
    PLUMB_TRY(plumb_json_put_string(b, name, (int64_t)strlen(name)));
    return plumb_buf_addf(b, ": {\"bytes\": %lld, \"hash\": \"%016" PRIx64 "\"}", (long long)bytes,
                          hash);
}

/* Appends the files of a sub-folder of the checkpoint and their hashes, as "folder/file". */
static plumb_status put_folder(struct plumb_buf *b, const char *dir, const char *folder, bool first)
{
    char path[4096], name[4096];
    struct plumb_names names = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, folder));
    PLUMB_TRY(plumb_dir_list(&names, path));
    for (int64_t i = 0; i < names.n; i++) {
        PLUMB_TRY_GOTO(st, plumb_path_join(name, sizeof(name), folder, names.name[i]), done);
        PLUMB_TRY_GOTO(st, put_file(b, dir, name, first && i == 0), done);
    }
    st = plumb_dir_fsync(path);
done:
    plumb_names_fini(&names);
    return st;
}

plumb_status plumb_manifest_write(const char *dir)
{
    char path[4096];
    struct plumb_names names = {0};
    struct plumb_buf b = {0};
    PLUMB_TRY(plumb_dir_list(&names, dir));
    plumb_status st = plumb_buf_add_text(&b, "{\n  \"algorithm\": \"" ALGORITHM "\",\n"
                                             "  \"files\": {");
    for (int64_t i = 0; i < names.n && !st; i++) {
        const bool first = plumb_buf_text(&b)[b.len - 1] == '{';
        if (strcmp(names.name[i], PLUMB_MANIFEST_NAME) == 0)
            continue;
        st = plumb_path_join(path, sizeof(path), dir, names.name[i]);
        if (!st)
            st = plumb_dir_exists(path) ? put_folder(&b, dir, names.name[i], first)
                                        : put_file(&b, dir, names.name[i], first);
    }
    PLUMB_TRY_GOTO(st, st, done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&b, "\n  }\n}\n"), done);
    PLUMB_TRY_GOTO(st, plumb_path_join(path, sizeof(path), dir, PLUMB_MANIFEST_NAME), done);
    PLUMB_TRY_GOTO(st, plumb_file_write_atomic(path, plumb_buf_text(&b), b.len), done);
    PLUMB_TRY_GOTO(st, plumb_dir_fsync(dir), done);
done:
    plumb_names_fini(&names);
    plumb_buf_fini(&b);
    return st;
}

/* Returns true if name is a "file" or "folder/file" inside the checkpoint. */
static bool is_inside(const char *name)
{
    const char *slash = strchr(name, '/'), *file = slash ? slash + 1 : name;
    return *file && slash != name && !strchr(file, '/') && strncmp(name, "../", 3) != 0 &&
           strcmp(file, "..") != 0;
}

static plumb_status check_file(const char *dir, const char *name, const plumb_json *entry,
                               const char *where)
{
    char path[4096];
    int64_t bytes = 0, want_bytes = 0;
    const char *want_hash = NULL;
    uint64_t hash = 0;
    char text[20];
    PLUMB_REQUIRE(is_inside(name), PLUMB_ERR_FORMAT, "%s: found '%s', expected FILE or FOLDER/FILE",
                  where, name);
    PLUMB_TRY(plumb_json_want_int(entry, "bytes", &want_bytes, NULL, where));
    PLUMB_TRY(plumb_json_want_string(entry, "hash", &want_hash, NULL, where));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, name));
    PLUMB_REQUIRE(plumb_file_exists(path), PLUMB_ERR_FORMAT,
                  "%s: missing, but " PLUMB_MANIFEST_NAME " lists it", path);
    PLUMB_TRY(size_of(&bytes, path));
    PLUMB_REQUIRE(bytes == want_bytes, PLUMB_ERR_FORMAT, "%s: %lld bytes, but %lld were written",
                  path, (long long)bytes, (long long)want_bytes);
    PLUMB_TRY(plumb_file_hash(&hash, path));
    snprintf(text, sizeof(text), "%016" PRIx64, hash);
    PLUMB_REQUIRE(!strcmp(text, want_hash), PLUMB_ERR_FORMAT,
                  "%s: damaged, its hash is %s and was %s when it was written", path, text,
                  want_hash);
    return PLUMB_OK;
}

/* Fails if dir has a file for which decides() returns true but which is not listed: it was added
 * after hashes.json was written. */
static plumb_status check_unlisted(const char *dir, const plumb_json *files,
                                   plumb_manifest_name_fn *decides)
{
    struct plumb_names names = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_dir_list(&names, dir));
    for (int64_t i = 0; i < names.n; i++)
        if (decides(names.name[i]) && !plumb_json_member(files, names.name[i]))
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                            "%s/%s: " PLUMB_MANIFEST_NAME " does not list this file, so it "
                            "was not written with the other files",
                            dir, names.name[i]);
done:
    plumb_names_fini(&names);
    return st;
}

plumb_status plumb_manifest_verify(const char *dir, plumb_manifest_name_fn *decides)
{
    char path[4096];
    plumb_json *root = NULL;
    const char *algorithm = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_path_join(path, sizeof(path), dir, PLUMB_MANIFEST_NAME));
    PLUMB_REQUIRE(plumb_file_exists(path), PLUMB_ERR_FORMAT,
                  "%s: missing, so the folder is no complete checkpoint", path);
    PLUMB_TRY(plumb_json_read_file(&root, path));
    PLUMB_TRY_GOTO(st, plumb_json_want_string(root, "algorithm", &algorithm, NULL, path), done);
    if (strcmp(algorithm, ALGORITHM) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_UNSUPPORTED, done, "%s: algorithm '%s', expected %s", path,
                        algorithm, ALGORITHM);
    const plumb_json *files = plumb_json_get(root, "files");
    if (!plumb_json_count(files))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done, "%s: lists no files", path);
    for (int64_t i = 0; i < plumb_json_count(files); i++) {
        const char *name;
        const plumb_json *entry;
        PLUMB_TRY_GOTO(st, plumb_json_member_at(files, i, &name, &entry), done);
        PLUMB_TRY_GOTO(st, check_file(dir, name, entry, path), done);
    }
    st = check_unlisted(dir, files, decides);
done:
    plumb_json_free(&root);
    return st;
}
