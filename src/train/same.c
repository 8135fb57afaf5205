/* same.c - compares options, weights and records of a rank with those of rank 0.
 * Layer 5. Includes train/same.h, io/file.h. */
#include "train/same.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

/* What rank 0 broadcasts to the other ranks. */
struct told {
    uint64_t hash;
    char host[64];
};

static plumb_status compare(plumb_comm *comm, struct told *first, uint64_t hash)
{
    memset(first, 0, sizeof(*first));
    first->hash = hash;
    snprintf(first->host, sizeof(first->host), "%.63s", plumb_comm_host(comm));
    return plumb_comm_broadcast(comm, first, (int64_t)sizeof(*first), 0);
}

/* The files beside the weights that decide how the model computes and when answers end (the first
 * CONFIGS names), and how texts become tokens (the others). */
static const char *const beside[] = {
    "config.json",           "generation_config.json",  "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja"};
enum { BESIDE = sizeof(beside) / sizeof(beside[0]), CONFIGS = 2 };

/* Returns the folder from which model m has file beside[i]. */
static const char *folder_of(const plumb_model *m, int i)
{
    return i < CONFIGS ? m->dir : m->tokenizer_dir;
}

/* Sets hash (BESIDE,) to the hashes of these files; 0 for a file that is not there. */
static plumb_status hash_settings(uint64_t *hash, const plumb_model *m)
{
    char path[4200];
    for (int i = 0; i < BESIDE; i++) {
        hash[i] = 0;
        PLUMB_TRY(plumb_path_join(path, sizeof(path), folder_of(m, i), beside[i]));
        if (plumb_file_exists(path))
            PLUMB_TRY(plumb_file_hash(&hash[i], path));
    }
    return PLUMB_OK;
}

/* Fails unless the files beside the weights of this rank are those of rank 0. */
static plumb_status same_settings(plumb_comm *comm, const char *key, const plumb_model *m)
{
    struct told first;
    uint64_t mine[BESIDE], wanted[BESIDE];
    plumb_status st = plumb_comm_agree(comm, hash_settings(mine, m));
    PLUMB_TRY(st);
    memcpy(wanted, mine, sizeof(wanted));
    PLUMB_TRY(compare(comm, &first, 0)); /* for the name of rank 0's host */
    PLUMB_TRY(plumb_comm_broadcast(comm, wanted, (int64_t)sizeof(wanted), 0));
    for (int i = 0; i < BESIDE && st == PLUMB_OK; i++)
        if (mine[i] != wanted[i])
            st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                               "%s: %s in %s on %s is not that of rank 0 on %s; copy the folder to "
                               "every host again, or put it on a shared file system",
                               key, beside[i], folder_of(m, i), plumb_comm_host(comm), first.host);
    return plumb_comm_agree(comm, st);
}

plumb_status plumb_same_model(plumb_comm *comm, const char *key, const plumb_model *m)
{
    struct told first;
    plumb_status st = PLUMB_OK;
    if (plumb_comm_size(comm) == 1)
        return PLUMB_OK;
    /* If the masters are divided among the ranks, all ranks compute the fingerprint together and
     * get the same value. So held_hash, the hash of this rank's own copy of the weights, is
     * compared, too. */
    const uint64_t mine = m->masters ? m->fingerprint ^ m->held_hash : m->fingerprint;
    PLUMB_TRY(same_settings(comm, key, m));
    PLUMB_TRY(compare(comm, &first, mine));
    if (first.hash != mine)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "%s: the weights in %s are %016" PRIx64
                           " on %s, but rank 0 on %s has %016" PRIx64
                           ": every rank must read the same weights; copy the folder to every "
                           "host again, or put it on a shared file system",
                           key, m->dir, mine, plumb_comm_host(comm), first.host, first.hash);
    return plumb_comm_agree(comm, st);
}

static uint64_t hash_bytes(const void *bytes, int64_t n, uint64_t seed)
{
    seed = plumb_hash(&n, (int64_t)sizeof(n), seed);
    return n > 0 && bytes ? plumb_hash(bytes, n, seed) : seed;
}

static uint64_t hash_piece(const struct plumb_piece *p, uint64_t seed)
{
    seed = hash_bytes(p->ids, p->n * (int64_t)sizeof(*p->ids), seed);
    return hash_bytes(p->text, p->text ? p->len : 0, seed);
}

static uint64_t hash_record(const struct plumb_record *r, uint64_t seed)
{
    seed = hash_bytes(r->json.text, r->json.len, seed);
    seed = hash_bytes(r->solution, r->solution ? r->solution_len : 0, seed);
    seed = hash_piece(&r->prompt, seed);
    seed = hash_piece(&r->principled, seed);
    seed = hash_piece(&r->contrary, seed);
    for (int i = 0; i < 2; i++) {
        seed = hash_piece(&r->completion[i], seed);
        seed = hash_bytes(&r->score[i], (int64_t)sizeof(r->score[i]), seed);
    }
    return hash_bytes(r->trained, r->trained ? r->completion[0].n : 0, seed);
}

plumb_status plumb_same_records(plumb_comm *comm, const char *key, const char *path,
                                const struct plumb_dataset *data)
{
    struct told first;
    plumb_status st = PLUMB_OK;
    if (plumb_comm_size(comm) == 1 || !data)
        return PLUMB_OK;
    uint64_t mine = plumb_hash(&data->n, (int64_t)sizeof(data->n), 0);
    for (int64_t i = 0; i < data->n; i++)
        mine = hash_record(&data->record[i], mine);
    PLUMB_TRY(compare(comm, &first, mine));
    if (first.hash != mine)
        st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                           "%s: the records of %s on %s are not those that rank 0 has read on %s: "
                           "file, tokenizer and chat template must be the same on every rank; copy "
                           "them to every host again, or put them on a shared file system",
                           key, path, plumb_comm_host(comm), first.host);
    return plumb_comm_agree(comm, st);
}

/* Returns true for a line whose option may differ between ranks. */
static bool is_own(const char *line)
{
    static const char *const own[] = {"threads:", "log_level:", "pins:", "memory:"};
    line += strspn(line, " ");
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strncmp(line, own[i], strlen(own[i])) == 0)
            return true;
    return false;
}

/* Returns the length of the line at `line`, without the line end. */
static int line_len(const char *line)
{
    return (int)strcspn(line, "\n");
}

/* Returns the length of NAME in "NAME:", the first line of a section. */
static int name_len(const char *line)
{
    return (int)strcspn(line, ":\n");
}

/* Compares two texts line by line. */
static plumb_status compare_lines(const char *mine, const char *first)
{
    const char *section = "";
    while (*mine || *first) {
        const int m = line_len(mine), f = line_len(first);
        const bool same = m == f && strncmp(mine, first, (size_t)m) == 0;
        const bool own = is_own(mine) && is_own(first);
        const int indent = (int)strspn(mine, " ");
        PLUMB_REQUIRE(
            same || own, PLUMB_ERR_CONFIG,
            "this rank was started with '%.*s%s%.*s', rank 0 with '%.*s': give every rank "
            "the same command and options",
            indent ? name_len(section) : 0, section, indent ? "." : "", m - indent, mine + indent,
            f - (int)strspn(first, " "), first + strspn(first, " "));
        section = *mine && !indent ? mine : section;
        mine += m + (mine[m] == '\n');
        first += f + (first[f] == '\n');
    }
    return PLUMB_OK;
}

plumb_status plumb_same_options(plumb_comm *comm, const char *text)
{
    int64_t len = (int64_t)strlen(text);
    plumb_status st = PLUMB_OK;
    if (plumb_comm_size(comm) == 1)
        return PLUMB_OK;
    PLUMB_TRY(plumb_comm_broadcast(comm, &len, (int64_t)sizeof(len), 0));
    char *first = calloc((size_t)len + 1, 1);
    if (!first)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "the options of rank 0");
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    if (plumb_comm_rank(comm) == 0)
        memcpy(first, text, (size_t)len);
    PLUMB_TRY_GOTO(st, plumb_comm_broadcast(comm, first, len, 0), done);
    st = plumb_comm_agree(comm, compare_lines(text, first));
done:
    free(first);
    return st;
}
