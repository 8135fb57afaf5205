/* output.c - writes the output of a command to a stream, to the end of a file, or to a new file
 * that replaces an old one.
 * Layer 6. Includes app/output.h, base/, io/, train/inputs.h. */
#include "app/output.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/file.h"
#include "io/json.h"
#include "train/inputs.h"

/* Number of seconds between two updates of PATH.run.json. When a command is resumed, the lines that
 * were written after the last update are accepted up to the first one that is not a JSON object,
 * which a power failure may have damaged; the command makes that line and all later ones again. */
#define NOTE_SECONDS 10.0

static const char *name_of(const struct plumb_output *o)
{
    return o->file == stdout ? "standard output" : *o->tmp ? o->tmp : o->path;
}

static plumb_status write_failed(const struct plumb_output *o)
{
    PLUMB_FAIL(PLUMB_ERR_IO, "%s: write failed: %s", name_of(o), strerror(errno));
}

/* ---- PATH.run.json -------------------------------------------------------------------------- */

/* Writes to o->identity what the output depends on: command, version of plumb, hash of the input,
 * number of lines, hashes of other files and models, and options. compare_note compares it when a
 * later command resumes the output. */
static plumb_status identify(struct plumb_output *o, const struct plumb_app *app, int64_t total)
{
    struct plumb_buf yaml = {0};
    plumb_status st = plumb_config_to_yaml(&yaml, app->cfg, app->command);
    PLUMB_TRY_GOTO(
        st,
        plumb_buf_addf(&o->identity,
                       "{\"command\": \"%s\",\n\"plumb\": \"%s\",\n\"input_hash\": \"%016" PRIx64
                       "\",\n\"total\": %lld,\n\"inputs\": ",
                       app->command, PLUMB_VERSION, app->input_hash, (long long)total),
        done);
    PLUMB_TRY_GOTO(st, plumb_inputs_put(&o->identity, app->cfg, app->command), done);
    PLUMB_TRY_GOTO(st, plumb_buf_add_text(&o->identity, ",\n\"config\": "), done);
    st = plumb_json_put_string(&o->identity, plumb_buf_text(&yaml), yaml.len);
done:
    plumb_buf_fini(&yaml);
    return st;
}

static void mark_flushed(struct plumb_output *o)
{
    o->dirty = false;
    o->flushed_lines = o->lines;
    o->flushed_hash = o->hash;
}

static plumb_status write_note(struct plumb_output *o)
{
    struct plumb_buf b = {0};
    plumb_status st = plumb_buf_add(&b, plumb_buf_text(&o->identity), o->identity.len);
    PLUMB_TRY_GOTO(st,
                   plumb_buf_addf(&b, ",\n\"lines\": %lld,\n\"hash\": \"%016" PRIx64 "\"}\n",
                                  (long long)o->flushed_lines, o->flushed_hash),
                   done);
    st = plumb_file_write_atomic(o->note, b.data, b.len);
    o->noted = plumb_now();
done:
    plumb_buf_fini(&b);
    return st;
}

static plumb_status compare_config(const struct plumb_output *o, const struct plumb_app *app,
                                   const plumb_json *yaml)
{
    struct plumb_buf diff = {0};
    plumb_status st = plumb_config_diff(&diff, app->cfg, plumb_json_string(yaml, ""),
                                        plumb_json_string_len(yaml), o->note, app->command);
    if (st == PLUMB_OK && diff.len > 0)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "%s was begun with another configuration; give the same values, or "
                           "name another output:\n%s",
                           o->path, plumb_buf_text(&diff));
    plumb_buf_fini(&diff);
    return st;
}

/* Fails if PATH.run.json was written by another command, with other options or from other inputs.
 * Another version of plumb only causes a warning. */
static plumb_status compare_note(const struct plumb_output *o, const struct plumb_app *app,
                                 const plumb_json *then)
{
    plumb_json *now = NULL;
    char changed[512];
    plumb_status st = PLUMB_OK;
    struct plumb_buf text = {0};
    PLUMB_TRY_GOTO(st, plumb_buf_addf(&text, "%s}", plumb_buf_text(&o->identity)), done);
    PLUMB_TRY_GOTO(st, plumb_json_parse(&now, text.data, text.len, "this run"), done);
    const char *command = plumb_json_string(plumb_json_get(then, "command"), "");
    if (strcmp(command, app->command) != 0)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_CONFIG, done,
                        "%s was begun by plumb %s, this is plumb %s; name another output", o->path,
                        command, app->command);
    PLUMB_TRY_GOTO(st, compare_config(o, app, plumb_json_get(then, "config")), done);
    plumb_inputs_changed(changed, sizeof(changed), plumb_json_get(then, "inputs"),
                         plumb_json_get(now, "inputs"), false);
    if (!*changed && strcmp(plumb_json_string(plumb_json_get(then, "input_hash"), ""),
                            plumb_json_string(plumb_json_get(now, "input_hash"), "")) != 0)
        snprintf(changed, sizeof(changed), "the input has another content than");
    if (*changed)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_CONFIG, done,
                        "%s: %s when %s was begun; put back what was there, or name another "
                        "output",
                        o->note, changed, o->path);
    const char *version = plumb_json_string(plumb_json_get(then, "plumb"), "");
    if (strcmp(version, PLUMB_VERSION) != 0)
        plumb_log(PLUMB_LOG_WARN, "%s was begun by plumb %s, this is %s: later lines may differ",
                  o->path, version, PLUMB_VERSION);
done:
    plumb_json_free(&now);
    plumb_buf_fini(&text);
    return st;
}

/* ---- continuing an output ------------------------------------------------------------------- */

static bool is_object(const char *line, int64_t len, const char *where)
{
    plumb_json *v = NULL;
    const bool good = plumb_json_parse(&v, line, len, where) == PLUMB_OK &&
                      plumb_json_type_of(v) == PLUMB_JSON_OBJECT;
    plumb_json_free(&v);
    return good;
}

/* Sets o->lines to the number of complete lines of the file, and removes what follows them. Fails
 * if the hash of the first `noted` lines is not `hash`. Of the later lines, one that is no JSON
 * object counts as the end of the file. */
static plumb_status count_lines(struct plumb_output *o, int64_t noted, const char *hash)
{
    char *line = NULL, then[20];
    size_t cap = 0;
    ssize_t n;
    off_t end = 0;
    plumb_status st = PLUMB_OK;
    bool same = noted == 0;
    while ((n = getline(&line, &cap, o->file)) > 0 && line[n - 1] == '\n') {
        if (o->lines >= noted && !is_object(line, n, o->path))
            break;
        o->hash = plumb_hash(line, n, o->hash);
        end += n;
        if (++o->lines == noted) {
            snprintf(then, sizeof(then), "%016" PRIx64, o->hash);
            same = strcmp(then, hash) == 0;
        }
    }
    free(line);
    if (ferror(o->file))
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, done, "%s: cannot read: %s", o->path, strerror(errno));
    if (!same)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done,
                        "%s: its first %lld lines are not those that %s has the hash of; name "
                        "another output, or remove both and start anew",
                        o->path, (long long)noted, o->note);
    if (ftruncate(fileno(o->file), end) != 0 || fseeko(o->file, end, SEEK_SET) != 0)
        return write_failed(o);
done:
    return st;
}

static plumb_status go_on(struct plumb_output *o, const struct plumb_app *app, int64_t total)
{
    plumb_json *note = NULL;
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(plumb_file_exists(o->note), PLUMB_ERR_EXISTS,
                  "output: %s is there, but %s is not, which would say what run it belongs to; "
                  "remove it, or name another output",
                  o->path, o->note);
    PLUMB_TRY_GOTO(st, plumb_json_read_file(&note, o->note), done);
    PLUMB_TRY_GOTO(st, compare_note(o, app, note), done);
    PLUMB_TRY_GOTO(st,
                   count_lines(o, plumb_json_int(plumb_json_get(note, "lines"), 0),
                               plumb_json_string(plumb_json_get(note, "hash"), "")),
                   done);
    if (o->lines > total)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, done, "%s: has %lld lines, expected at most %lld",
                        o->path, (long long)o->lines, (long long)total);
    if (o->lines == total)
        plumb_log(PLUMB_LOG_INFO, "%s has all of its %lld lines", o->path, (long long)total);
    else
        plumb_log(PLUMB_LOG_INFO, "%s has %lld of %lld lines; going on behind them", o->path,
                  (long long)o->lines, (long long)total);
done:
    plumb_json_free(&note);
    return st;
}

/* ---- opening ------------------------------------------------------------------------------- */

static plumb_status open_file(struct plumb_output *o, const char *path, const char *mode)
{
    o->file = fopen(path, mode);
    PLUMB_REQUIRE(o->file, PLUMB_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    return PLUMB_OK;
}

/* Sets note to the path PATH.run.json. */
static plumb_status name_note(char note[4096], const char *path)
{
    PLUMB_REQUIRE(snprintf(note, 4096, "%s.run.json", path) < 4096, PLUMB_ERR_ARG,
                  "output: path is too long");
    return PLUMB_OK;
}

/* Opens the output file itself, without a temporary file. If goes_on is true, new lines are
 * appended to the existing ones; otherwise the file is emptied. */
static plumb_status open_growing(struct plumb_output *o, const struct plumb_app *app, int64_t total,
                                 bool exists, bool goes_on)
{
    PLUMB_TRY(name_note(o->note, o->path));
    PLUMB_TRY(identify(o, app, total));
    PLUMB_TRY(open_file(o, o->path, exists ? "r+e" : "wxe"));
    /* an error other than EWOULDBLOCK means that the file system does not support locks: continue
     * without one */
    PLUMB_REQUIRE(flock(fileno(o->file), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK,
                  PLUMB_ERR_EXISTS, "output: another process is writing %s", o->path);
    if (goes_on)
        PLUMB_TRY(go_on(o, app, total));
    else if (exists && ftruncate(fileno(o->file), 0) != 0)
        return write_failed(o);
    mark_flushed(o);
    return write_note(o);
}

static plumb_status open_replacing(struct plumb_output *o, enum plumb_output_kind kind)
{
    char note[sizeof(o->note)];
    PLUMB_TRY(name_note(note, o->path));
    o->stale_note = kind == PLUMB_OUTPUT_LINES && plumb_file_exists(note);
    if (o->stale_note)
        plumb_log(PLUMB_LOG_WARN,
                  "%s: resume=auto would go on behind the lines that it has (see %s); without it "
                  "all lines are made again and replace them at the end",
                  o->path, note);
    PLUMB_REQUIRE(snprintf(o->tmp, sizeof(o->tmp), "%s.tmp", o->path) < (int)sizeof(o->tmp),
                  PLUMB_ERR_ARG, "output: path is too long");
    const plumb_status st = open_file(o, o->tmp, "we");
    if (st != PLUMB_OK)
        o->tmp[0] = 0;
    return st;
}

/* Opens a regular file, which may not exist yet. A text, and PLUMB_OUTPUT_LINES if the file is not
 * empty and resume is not auto, are written to PATH.tmp, which replaces the file at the end. All
 * other lines are written directly to the file. */
static plumb_status open_regular(struct plumb_output *o, const struct plumb_app *app,
                                 enum plumb_output_kind kind, int64_t total, bool goes_on)
{
    struct stat s;
    const bool there = stat(o->path, &s) == 0, full = there && s.st_size > 0;
    o->keep_note = goes_on || kind == PLUMB_OUTPUT_KEPT;
    if (kind == PLUMB_OUTPUT_TEXT || (kind == PLUMB_OUTPUT_LINES && full && !goes_on))
        return open_replacing(o, kind);
    const plumb_status st = open_growing(o, app, total, there, full && goes_on);
    if (st == PLUMB_OK)
        return st;
    if (o->file)
        fclose(o->file);
    if (o->file && !there)
        unlink(o->path);
    o->file = NULL;
    plumb_buf_fini(&o->identity);
    return st;
}

bool plumb_output_is_descriptor(const char *path)
{
    return strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0 ||
           strncmp(path, "/dev/fd/", 8) == 0 || strncmp(path, "/proc/self/fd/", 14) == 0;
}

plumb_status plumb_output_open(struct plumb_output *o, struct plumb_app *app,
                               enum plumb_output_kind kind, const char *path, int64_t total)
{
    const char *resume = kind == PLUMB_OUTPUT_TEXT ? "never" : app->cfg->resume;
    const bool goes_on = strcmp(resume, "auto") == 0, standard = strcmp(path, "-") == 0;
    struct stat s;
    *o = (struct plumb_output){.path = path};
    PLUMB_REQUIRE(goes_on || strcmp(resume, "never") == 0, PLUMB_ERR_CONFIG,
                  "resume: expected never or auto for %s, found '%s'", app->command, resume);
    if (!*path)
        return PLUMB_OK;
    /* if the reader closes the pipe, the write fails with a message instead of a signal */
    signal(SIGPIPE, SIG_IGN);
    const bool there = !standard && stat(path, &s) == 0;
    PLUMB_REQUIRE(!there || !S_ISDIR(s.st_mode), PLUMB_ERR_EXISTS, "output: %s is a folder", path);
    if (!standard && !plumb_output_is_descriptor(path) && (!there || S_ISREG(s.st_mode)))
        return open_regular(o, app, kind, total, goes_on);
    PLUMB_REQUIRE(!goes_on, PLUMB_ERR_CONFIG,
                  "resume: auto needs the finished lines in a file, but output is %s",
                  standard ? "standard output" : path);
    o->file = stdout;
    return standard ? PLUMB_OK : open_file(o, path, "ae");
}

/* ---- writing ------------------------------------------------------------------------------- */

plumb_status plumb_output_add(void *arg, const char *line, int64_t len)
{
    struct plumb_output *o = arg;
    o->dirty = true;
    if (o->file && fwrite(line, 1, (size_t)len, o->file) != (size_t)len)
        return write_failed(o);
    o->hash = plumb_hash(line, len, o->hash);
    o->lines++;
    return PLUMB_OK;
}

/* Writes PATH.run.json, after fsync of the output, so that it counts only lines that are on the
 * disk. */
static plumb_status note_lines(struct plumb_output *o)
{
    if (fsync(fileno(o->file)) != 0)
        return write_failed(o);
    return write_note(o);
}

plumb_status plumb_output_flush(struct plumb_output *o)
{
    if (!o->dirty || !o->file)
        return PLUMB_OK;
    if (fflush(o->file) != 0)
        return write_failed(o);
    mark_flushed(o);
    return *o->note && plumb_now() - o->noted > NOTE_SECONDS ? note_lines(o) : PLUMB_OK;
}

/* Flushes the file. Syncs and closes it if it is a file; standard output stays open. Returns false
 * if a step failed. */
static bool close_file(struct plumb_output *o)
{
    const bool file = *o->tmp || *o->note;
    bool bad = fflush(o->file) != 0 || (file && fsync(fileno(o->file)) != 0);
    if (o->file != stdout && fclose(o->file) != 0)
        bad = true;
    o->file = NULL;
    if (!bad)
        mark_flushed(o);
    return !bad;
}

plumb_status plumb_output_commit(struct plumb_output *o)
{
    plumb_status st = PLUMB_OK;
    if (!o->file)
        return PLUMB_OK;
    if (!close_file(o) || (*o->tmp && rename(o->tmp, o->path) != 0))
        st =
            plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: write failed: %s",
                          strcmp(o->path, "-") == 0 ? "standard output" : o->path, strerror(errno));
    if (st != PLUMB_OK && *o->tmp)
        unlink(o->tmp);
    if (st == PLUMB_OK && *o->note && o->keep_note)
        st = write_note(o);
    else if (st == PLUMB_OK && *o->note)
        unlink(o->note);
    if (st == PLUMB_OK && o->stale_note && name_note(o->note, o->path) == PLUMB_OK)
        unlink(o->note);
    plumb_buf_fini(&o->identity);
    return st;
}

void plumb_output_leave(struct plumb_output *o)
{
    if (!o->file)
        return;
    /* If closing fails, PATH.run.json is not written again. The existing PATH.run.json stays and is
     * correct, because it counts only lines that were already on the disk. */
    const bool good = close_file(o);
    if (*o->tmp)
        unlink(o->tmp);
    if (*o->note && o->flushed_lines == 0) {
        unlink(o->path);
        unlink(o->note);
    } else if (*o->note && good && write_note(o) != PLUMB_OK) {
        plumb_log(PLUMB_LOG_WARN, "%s: %s", o->note, plumb_trail_message());
    }
    plumb_buf_fini(&o->identity);
}
