/* balance.c - lets ranks generate completions of prompts that other ranks own, so that all ranks
 * have about the same work (generate.balance).
 * Layer 5. Includes stage/stages.h, base/, data/, io/.
 *
 * The owner of a prompt is the rank that scores its completions and trains on them. The maker is
 * the rank that generates them. With generate.balance=length, every rank computes the makers of all
 * prompts as a pure function of values that are equal on all ranks (data/deal.h), so no messages
 * are needed. This assignment of prompts to makers is called the deal. With generate.balance=queue,
 * the deal covers only the prompts that start immediately and those with partial completions. The
 * other prompts form a queue, in an order that is also equal on all ranks. A rank with a free slot
 * takes the next prompt of the queue by a counter that all ranks share (plumb_comm_count_take), so
 * the makers of queued prompts depend on the speed of the ranks. A completion depends on its prompt
 * and not on its maker, so the completions, the rollout files and the weights have the same bytes
 * as without balance. load.jsonl records the maker of each prompt.
 *
 *     begin       the owner has the tokens that an interrupted iteration generated, if any
 *       |  deal   owner ---- these tokens ----> maker        (no message in most iterations)
 *     rollout                                   the maker generates
 *       |  collect  owner <-- completions ----- maker
 *     reward      the owner scores, as without balance
 *
 * A pause comes after `collect`, so a pause file has the same content as without balance. A resumed
 * run may therefore have another number of ranks or another value of generate.balance. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"
#include "data/deal.h"
#include "data/rollout_store.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "stage/stages.h"

/* The message of one completion of n tokens, in words of 4 bytes: its stop reason (1 word), then
 * its ids, logp and logp_sampled (n words each). Sender and receiver both know n. */
enum { HEAD_WORDS = 1, TOKEN_WORDS = 3, WORD = 4 };

static int64_t entries_of(const struct plumb_balance *b, const struct plumb_partition *p)
{
    return p->split.items * b->made.group_size;
}

plumb_status plumb_balance_open(struct plumb_balance *b, const struct plumb_align_context *c,
                                const struct plumb_partition *p, int64_t *bytes)
{
    const struct plumb_config *cfg = c->t->cfg;
    const int64_t n = p->per_iteration, ranks = plumb_comm_size(c->t->comm);
    const int64_t entries = n * cfg->generate.group_size;
    if (cfg->generate.balance == PLUMB_BALANCE_NONE || ranks == 1)
        return PLUMB_OK;
    /* twice the prompts per rank: a rank whose prompts have short completions may generate for more
     * prompts than a rank with long ones */
    b->cap = plumb_min_i64(n, 2 * plumb_ceil_div(n, ranks));
    b->at_once = plumb_max_i64(cfg->generate.slots / cfg->generate.group_size, 1);
    b->comm = c->t->comm;
    b->length = calloc((size_t)c->data->n + 1, sizeof(*b->length));
    b->tokens = calloc((size_t)entries, sizeof(*b->tokens));
    b->open = calloc((size_t)entries, sizeof(*b->open));
    b->share = calloc((size_t)(entries + n), sizeof(*b->share));
    b->owner = calloc((size_t)n, sizeof(*b->owner));
    b->maker = calloc((size_t)n, sizeof(*b->maker));
    b->prompt_of_made = calloc((size_t)b->cap, sizeof(*b->prompt_of_made));
    b->record_of_made = calloc((size_t)b->cap, sizeof(*b->record_of_made));
    b->order_of_made = calloc((size_t)b->cap, sizeof(*b->order_of_made));
    b->local_of_owner = calloc(2 * (size_t)n, sizeof(*b->local_of_owner));
    b->queue = calloc((size_t)n, sizeof(*b->queue));
    PLUMB_REQUIRE(b->length && b->tokens && b->open && b->share && b->owner && b->maker &&
                      b->prompt_of_made && b->record_of_made && b->order_of_made &&
                      b->local_of_owner && b->queue,
                  PLUMB_ERR_NOMEM, "the deal of %lld prompts", (long long)n);
    b->local_of_maker = b->local_of_owner + n;
    PLUMB_TRY(plumb_rollouts_init(&b->made, b->cap, cfg->generate.group_size,
                                  cfg->generate.max_new_tokens));
    b->made.order = b->order_of_made;
    const size_t each = sizeof(*b->tokens) + sizeof(*b->open) + sizeof(*b->share);
    const size_t prompt = sizeof(*b->share) + sizeof(*b->owner) + sizeof(*b->maker) +
                          2 * sizeof(*b->local_of_owner) + sizeof(*b->queue);
    const size_t made =
        sizeof(*b->prompt_of_made) + sizeof(*b->record_of_made) + sizeof(*b->order_of_made);
    *bytes += plumb_rollouts_bytes(&b->made) + c->data->n * (int64_t)sizeof(*b->length) +
              entries * (int64_t)each + n * (int64_t)prompt + b->cap * (int64_t)made;
    return PLUMB_OK;
}

void plumb_balance_close(struct plumb_balance *b)
{
    plumb_rollouts_fini(&b->made);
    free(b->length);
    free(b->tokens);
    free(b->open);
    free(b->share);
    free(b->owner);
    free(b->maker);
    free(b->prompt_of_made);
    free(b->record_of_made);
    free(b->order_of_made);
    free(b->local_of_owner);
    free(b->queue);
    *b = (struct plumb_balance){0};
}

/* ---- lengths of earlier completions --------------------------------------------------------- */

/* Sets b->length for the prompts of one finished iteration, from its rollout file. offsets and
 * record are scratch arrays for the prompts of one iteration. Returns false if the file cannot be
 * used. */
static bool recall_one(struct plumb_balance *b, const struct plumb_align_context *c,
                       const struct plumb_partition *p, int64_t iteration, int64_t *offsets,
                       int64_t *record)
{
    const int64_t group = b->made.group_size;
    char dir[4096], path[4096];
    int64_t n = 0;
    plumb_h5 *f = NULL;
    if (plumb_path_join(dir, sizeof(dir), c->t->cfg->output_dir, "rollouts") != PLUMB_OK ||
        plumb_rollout_store_path(path, sizeof(path), dir, iteration, -1) != PLUMB_OK ||
        !plumb_file_exists(path) || plumb_h5_open(&f, path) != PLUMB_OK)
        return false;
    bool good = plumb_h5_count(f, "logprob_offsets", &n) == PLUMB_OK && n % group == 1 % group &&
                n > 0 && (n - 1) / group <= p->per_iteration &&
                plumb_h5_read(f, "logprob_offsets", PLUMB_H5_I64, 0, n, offsets) == PLUMB_OK &&
                plumb_partition_records(record, p, c, iteration) == PLUMB_OK;
    plumb_h5_close(&f);
    for (int64_t prompt = 0; good && prompt < (n - 1) / group; prompt++) {
        const int64_t tokens = offsets[(prompt + 1) * group] - offsets[prompt * group];
        b->length[record[prompt]] = (double)plumb_max_i64(tokens, 0) / (double)group;
    }
    return good;
}

/* Sets b->length from the rollout files of the newest iterations, as many as visit every record
 * once. Only rank 0 calls it. */
static plumb_status recall_all(struct plumb_balance *b, const struct plumb_align_context *c,
                               const struct plumb_partition *p)
{
    const int64_t done = c->t->state.iteration, n = p->per_iteration;
    const int64_t first = plumb_max_i64(done - plumb_ceil_div(c->data->n, n), 0) + 1;
    int64_t found = 0;
    int64_t *offsets = calloc((size_t)(n * b->made.group_size) + 1, sizeof(*offsets));
    int64_t *record = calloc((size_t)n, sizeof(*record));
    if (offsets && record)
        for (int64_t iteration = first; iteration <= done; iteration++)
            found += recall_one(b, c, p, iteration, offsets, record);
    const bool enough = offsets && record;
    free(offsets);
    free(record);
    PLUMB_REQUIRE(enough, PLUMB_ERR_NOMEM, "lengths of %lld completions",
                  (long long)(n * b->made.group_size));
    plumb_log(PLUMB_LOG_INFO,
              "generate.balance: knows the lengths of completions from %lld of %lld earlier "
              "iterations",
              (long long)found, (long long)(done - first + 1));
    return PLUMB_OK;
}

plumb_status plumb_balance_recall(struct plumb_balance *b, const struct plumb_align_context *c,
                                  const struct plumb_partition *p)
{
    plumb_comm *comm = c->t->comm;
    plumb_status st = PLUMB_OK;
    if (b->cap == 0 || c->t->state.iteration == 0)
        return PLUMB_OK;
    if (plumb_comm_rank(comm) == 0)
        st = recall_all(b, c, p);
    PLUMB_TRY(plumb_comm_agree(comm, st));
    return plumb_comm_broadcast(comm, b->length, c->data->n * (int64_t)sizeof(*b->length), 0);
}

/* ---- the deal ------------------------------------------------------------------------------- */

/* Sets b->owner, b->tokens and b->open on every rank. Each value is known to one rank, and the
 * others add 0 to it. Collective. */
static plumb_status share_state(struct plumb_balance *b, const struct plumb_rollouts *r,
                                plumb_comm *comm, const struct plumb_partition *p)
{
    const int64_t entries = entries_of(b, p), n = p->split.items;
    memset(b->share, 0, (size_t)(entries + n) * sizeof(*b->share));
    for (int64_t i = 0; i < plumb_rollouts_n(r); i++) {
        const struct plumb_rollout *o = &r->at[i];
        const double tokens = (double)o->n; /* a finished completion is sent as a negative number */
        b->share[plumb_rollouts_entry(r, o)] = o->finished ? -1 - tokens : tokens;
    }
    for (int64_t local = 0; local < p->n_local; local++)
        b->share[entries + p->prompt_of_local[local]] = plumb_comm_rank(comm);
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, b->share, entries + n, PLUMB_SUM));
    for (int64_t entry = 0; entry < entries; entry++) {
        b->open[entry] = b->share[entry] >= 0;
        b->tokens[entry] = (int64_t)(b->open[entry] ? b->share[entry] : -1 - b->share[entry]);
    }
    for (int64_t prompt = 0; prompt < n; prompt++)
        b->owner[prompt] = (int32_t)b->share[entries + prompt];
    return PLUMB_OK;
}

/* Sets load (prompts,) to the number of tokens that each prompt's unfinished completions are
 * expected to need. The expected length of a completion is the mean length of the record's last
 * completions. If these are not known, it is the prompt's length times the ratio of completion
 * tokens to prompt tokens over the records with known lengths, or times 1 if there are none. */
static void predict(double *load, const struct plumb_balance *b,
                    const struct plumb_align_context *c, const struct plumb_partition *p)
{
    const struct plumb_record *record = c->data->record;
    const int64_t group = b->made.group_size;
    double known = 0, of_known = 0;
    for (int64_t prompt = 0; prompt < p->split.items; prompt++) {
        const int64_t at = p->record_of_prompt[prompt];
        known += b->length[at];
        of_known += b->length[at] > 0 ? (double)record[at].prompt.n : 0;
    }
    const double ratio = of_known > 0 ? known / of_known : 1;
    for (int64_t prompt = 0; prompt < p->split.items; prompt++) {
        const int64_t at = p->record_of_prompt[prompt];
        const double length =
            b->length[at] > 0 ? b->length[at] : ratio * (double)record[at].prompt.n;
        load[prompt] = 0;
        for (int64_t entry = prompt * group; entry < (prompt + 1) * group; entry++)
            /* at least 1 token, also if the completion is already longer than expected */
            if (b->open[entry])
                load[prompt] +=
                    length > (double)b->tokens[entry] + 1 ? length - (double)b->tokens[entry] : 1;
    }
}

/* Sets the prompts that are dealt to this rank, and the order in which it generates them: the
 * largest load first, so that no long completion begins late. Returns their number in *mine. */
static plumb_status list_made(int64_t *mine, struct plumb_balance *b,
                              const struct plumb_partition *p, const double *load, int rank)
{
    double *of_made = calloc((size_t)b->cap, sizeof(*of_made));
    PLUMB_REQUIRE(of_made, PLUMB_ERR_NOMEM, "loads of %lld prompts", (long long)b->cap);
    *mine = 0;
    for (int64_t prompt = 0; prompt < p->split.items; prompt++)
        if (b->maker[prompt] == rank) {
            of_made[*mine] = load[prompt];
            b->prompt_of_made[*mine] = prompt;
            b->record_of_made[(*mine)++] = p->record_of_prompt[prompt];
        }
    const plumb_status st = plumb_deal_order(b->order_of_made, of_made, *mine);
    free(of_made);
    return st;
}

/* Puts all prompts that need not start immediately into the queue, the largest load first, and sets
 * their load to 0. A prompt with a finished or partial completion is never queued: its tokens must
 * be sent to its maker before the rollout. */
static plumb_status fill_queue(struct plumb_balance *b, const struct plumb_partition *p,
                               double *load, int ranks)
{
    const int64_t group = b->made.group_size, n = p->split.items;
    int64_t *order = calloc((size_t)n + 1, sizeof(*order)), dealt = 0;
    PLUMB_REQUIRE(order, PLUMB_ERR_NOMEM, "the queue of %lld prompts", (long long)n);
    const plumb_status st = plumb_deal_order(order, load, n);
    for (int64_t i = 0; st == PLUMB_OK && i < n && load[order[i]] > 0; i++) {
        const int64_t first = order[i] * group;
        bool fresh = true;
        for (int64_t entry = first; entry < first + group; entry++)
            fresh = fresh && b->open[entry] && b->tokens[entry] == 0;
        if (!fresh || dealt < ranks * b->at_once) {
            dealt++;
            continue;
        }
        b->queue[b->queued++] = order[i];
        load[order[i]] = 0;
    }
    free(order);
    return st;
}

/* Sets b->maker of the prompts that are not in the queue, and clears b->made for the prompts that
 * are dealt to this rank. weights: fingerprint of the weights that began the iteration's
 * completions. */
static plumb_status deal(struct plumb_balance *b, const struct plumb_align_context *c,
                         const struct plumb_partition *p, const struct plumb_rollout_source *src,
                         uint64_t weights)
{
    const int rank = plumb_comm_rank(c->t->comm), ranks = plumb_comm_size(c->t->comm);
    const int64_t n = p->split.items;
    int64_t mine = 0;
    plumb_status st = PLUMB_OK;
    double *load = calloc((size_t)n + 1, sizeof(*load));
    PLUMB_REQUIRE(load, PLUMB_ERR_NOMEM, "the deal of %lld prompts", (long long)n);
    predict(load, b, c, p);
    b->queued = 0;
    b->record_of_prompt = p->record_of_prompt;
    if (c->t->cfg->generate.balance == PLUMB_BALANCE_QUEUE)
        st = fill_queue(b, p, load, ranks);
    if (st == PLUMB_OK)
        st = plumb_deal(b->maker, load, n, ranks, b->cap);
    if (st == PLUMB_OK)
        st = list_made(&mine, b, p, load, rank);
    free(load);
    PLUMB_TRY(st);
    PLUMB_TRY(plumb_rollouts_begin(&b->made, src, b->prompt_of_made, b->record_of_made, mine));
    b->made.weights = weights;
    for (int64_t i = 0; i < plumb_rollouts_n(&b->made); i++) {
        struct plumb_rollout *o = &b->made.at[i];
        o->finished = !b->open[plumb_rollouts_entry(&b->made, o)];
    }
    return PLUMB_OK;
}

/* ---- moving completions between makers and owners ------------------------------------------- */

/* The sending or the receiving side of `move`: this rank's completions on that side, the rank that
 * holds the completions of each prompt, and the local prompt of each prompt on that rank. */
struct end {
    struct plumb_rollouts *r;
    const int32_t *rank;  /* (prompts,) -1 if no rank holds them */
    const int64_t *local; /* (prompts,) index in that rank's completions; -1 on other ranks */
};

/* Returns true if a prompt has a maker. The prompt has no maker if all its completions were
 * finished before the rollout, or while it is in the queue. */
static bool moves(const struct plumb_balance *b, int64_t prompt)
{
    return b->maker[prompt] >= 0;
}

/* Sets local (prompts,) to the local prompt of each prompt in r, or to -1 for a prompt that r does
 * not have. */
static void set_local(int64_t *local, const struct plumb_rollouts *r, int64_t prompts)
{
    for (int64_t prompt = 0; prompt < prompts; prompt++)
        local[prompt] = -1;
    for (int64_t k = 0; k < r->prompts; k++)
        local[r->at[plumb_rollouts_completion(r, k, 0)].prompt] = k;
}

/* The messages of one `move`, with one part per rank in the order of the ranks. give and get
 * (ranks,): bytes sent to and received from each rank. place (ranks,): word at which the next
 * completion of each rank's part begins. out and in: the parts sent and received. */
struct mail {
    int64_t *give, *get, *place;
    int32_t *out, *in;
};

static void mail_fini(struct mail *m)
{
    free(m->give);
    free(m->get);
    free(m->place);
    free(m->out);
    free(m->in);
}

/* Sets give and get, and allocates the messages. */
static plumb_status mail_init(struct mail *m, const struct plumb_balance *b, int64_t prompts,
                              const struct end *from, const struct end *to, int rank, int ranks)
{
    int64_t out = 0, in = 0;
    m->give = calloc((size_t)ranks, sizeof(*m->give));
    m->get = calloc((size_t)ranks, sizeof(*m->get));
    m->place = calloc((size_t)ranks, sizeof(*m->place));
    PLUMB_REQUIRE(m->give && m->get && m->place, PLUMB_ERR_NOMEM, "messages to %d ranks", ranks);
    for (int64_t prompt = 0; prompt < prompts; prompt++) {
        const int64_t group = b->made.group_size;
        int64_t words = 0;
        for (int64_t entry = prompt * group; entry < (prompt + 1) * group && moves(b, prompt);
             entry++)
            words += b->open[entry] ? HEAD_WORDS + TOKEN_WORDS * b->tokens[entry] : 0;
        if (words > 0 && from->rank[prompt] == rank)
            m->give[to->rank[prompt]] += words * WORD;
        if (words > 0 && to->rank[prompt] == rank)
            m->get[from->rank[prompt]] += words * WORD;
    }
    for (int r = 0; r < ranks; r++) {
        out += m->give[r];
        in += m->get[r];
    }
    m->out = malloc((size_t)out + 1);
    m->in = malloc((size_t)in + 1);
    PLUMB_REQUIRE(m->out && m->in, PLUMB_ERR_NOMEM, "messages with completions of %lld bytes",
                  (long long)(out + in));
    return PLUMB_OK;
}

/* Sets place (ranks,) to the word at which each rank's part of a message begins. bytes (ranks,):
 * size of each part. */
static void begin_parts(int64_t *place, const int64_t *bytes, int ranks)
{
    int64_t at = 0;
    for (int r = 0; r < ranks; r++) {
        place[r] = at;
        at += bytes[r] / WORD;
    }
}

/* Writes one completion to `out`, a place in a message. Returns the number of words written. */
static int64_t put(int32_t *out, const struct plumb_rollout *o)
{
    const size_t row = (size_t)o->n * WORD;
    out[0] = o->finished ? (int32_t)o->stop : (int32_t)PLUMB_STOP_PAUSED;
    if (o->n > 0) {
        memcpy(out + HEAD_WORDS, o->ids, row);
        memcpy(out + HEAD_WORDS + o->n, o->logp, row);
        memcpy(out + HEAD_WORDS + 2 * o->n, o->logp_sampled, row);
    }
    return HEAD_WORDS + TOKEN_WORDS * o->n;
}

/* Returns the completion of n tokens that begins at `in` in a message. Its arrays are borrowed from
 * the message. */
static struct plumb_completion read_one(const int32_t *in, int64_t n, int64_t sample)
{
    const int32_t *ids = in + HEAD_WORDS;
    return (struct plumb_completion){.sample = (int32_t)sample,
                                     .ids = ids,
                                     .logp = (const float *)(const void *)(ids + n),
                                     .logp_sampled = (const float *)(const void *)(ids + 2 * n),
                                     .n = n,
                                     .stop = (enum plumb_stop)in[0]};
}

/* Writes the completions that this rank sends, those with b->open, to m->out. */
static void pack(struct mail *m, const struct plumb_balance *b, int64_t prompts,
                 const struct end *from, const struct end *to, int rank, int ranks)
{
    begin_parts(m->place, m->give, ranks);
    for (int64_t prompt = 0; prompt < prompts; prompt++) {
        if (from->rank[prompt] != rank || !moves(b, prompt))
            continue;
        for (int64_t sample = 0; sample < b->made.group_size; sample++) {
            const int64_t i = plumb_rollouts_completion(from->r, from->local[prompt], sample);
            const struct plumb_rollout *o = &from->r->at[i];
            if (b->open[plumb_rollouts_entry(from->r, o)])
                m->place[to->rank[prompt]] += put(m->out + m->place[to->rank[prompt]], o);
        }
    }
}

static plumb_status unpack(struct mail *m, const struct plumb_balance *b, int64_t prompts,
                           const struct end *from, const struct end *to,
                           const struct plumb_rollout_source *src, int rank, int ranks)
{
    begin_parts(m->place, m->get, ranks);
    for (int64_t prompt = 0; prompt < prompts; prompt++) {
        if (to->rank[prompt] != rank || !moves(b, prompt))
            continue;
        for (int64_t sample = 0; sample < b->made.group_size; sample++) {
            const int64_t entry = prompt * b->made.group_size + sample;
            int64_t *place = &m->place[from->rank[prompt]];
            if (!b->open[entry])
                continue;
            const struct plumb_completion one = read_one(m->in + *place, b->tokens[entry], sample);
            PLUMB_TRY(plumb_rollouts_put(to->r, src, to->local[prompt], &one));
            *place += HEAD_WORDS + TOKEN_WORDS * one.n;
        }
    }
    return PLUMB_OK;
}

/* Sends the completions with b->open from the ranks of `from` to the ranks of `to`. Completion i
 * has b->tokens[i] tokens on every rank. Collective. */
static plumb_status move(const struct plumb_balance *b, const struct plumb_align_context *c,
                         int64_t prompts, const struct end *from, const struct end *to,
                         const struct plumb_rollout_source *src)
{
    plumb_comm *comm = c->t->comm;
    const int rank = plumb_comm_rank(comm), ranks = plumb_comm_size(comm);
    struct mail m = {0};
    plumb_status st = mail_init(&m, b, prompts, from, to, rank, ranks);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    pack(&m, b, prompts, from, to, rank, ranks);
    PLUMB_TRY_GOTO(st, plumb_comm_alltoall(comm, m.in, m.get, m.out, m.give), done);
    st = plumb_comm_agree(comm, unpack(&m, b, prompts, from, to, src, rank, ranks));
done:
    mail_fini(&m);
    return st;
}

/* ---- functions that align.c calls in each iteration ------------------------------------------ */

plumb_status plumb_balance_deal(struct plumb_rollout_stage *r, const struct plumb_align_context *c,
                                const struct plumb_partition *p)
{
    struct plumb_balance *b = &r->balance;
    bool begun = false;
    if (b->cap == 0)
        return PLUMB_OK;
    const struct plumb_rollout_source src = plumb_rollout_stage_source(r, c);
    PLUMB_TRY(share_state(b, &r->rollouts, c->t->comm, p));
    PLUMB_TRY(plumb_comm_agree(c->t->comm, deal(b, c, p, &src, r->rollouts.weights)));
    plumb_comm_count_begin(c->t->comm, b->queued);
    set_local(b->local_of_owner, &r->rollouts, p->split.items);
    set_local(b->local_of_maker, &b->made, p->split.items);
    for (int64_t entry = 0; entry < entries_of(b, p); entry++)
        begun |= b->open[entry] && b->tokens[entry] > 0;
    if (!begun)
        return PLUMB_OK;
    const struct end owner = {&r->rollouts, b->owner, b->local_of_owner};
    const struct end maker = {&b->made, b->maker, b->local_of_maker};
    return move(b, c, p->split.items, &owner, &maker, &src);
}

/* Implements plumb_rollout_source.take: returns the next prompt of the queue. A rank that already
 * generates for `cap` prompts takes none. The ranks below `cap` have enough memory for all prompts
 * left in the queue. */
static plumb_status take(void *arg, bool wait, enum plumb_take *next, int64_t *prompt,
                         int64_t *record)
{
    struct plumb_balance *b = arg;
    int64_t number = b->queued;
    if (b->made.prompts < b->cap)
        PLUMB_TRY(plumb_comm_count_take(b->comm, wait, &number));
    *next = number < 0            ? PLUMB_TAKE_LATER
            : number == b->queued ? PLUMB_TAKE_NONE
                                  : PLUMB_TAKE_PROMPT;
    if (*next == PLUMB_TAKE_PROMPT) {
        b->order_of_made[b->made.prompts] = b->made.prompts; /* after the dealt prompts */
        *prompt = b->queue[number];
        *record = b->record_of_prompt[*prompt];
    }
    return PLUMB_OK;
}

void plumb_balance_supply(struct plumb_rollout_stage *r, struct plumb_rollout_source *src)
{
    if (r->balance.cap == 0 || r->balance.queued == 0)
        return;
    src->take = take;
    src->take_arg = &r->balance;
}

/* Sets b->tokens of the completions with b->open, and b->maker of every prompt, on every rank.
 * Collective. */
static plumb_status share_made(struct plumb_balance *b, plumb_comm *comm,
                               const struct plumb_partition *p)
{
    const int64_t entries = entries_of(b, p), n = p->split.items;
    memset(b->share, 0, (size_t)(entries + n) * sizeof(*b->share));
    for (int64_t i = 0; i < plumb_rollouts_n(&b->made); i++) {
        const struct plumb_rollout *o = &b->made.at[i];
        b->share[plumb_rollouts_entry(&b->made, o)] = (double)o->n;
        b->share[entries + o->prompt] = 1 + plumb_comm_rank(comm);
    }
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, b->share, entries + n, PLUMB_SUM));
    for (int64_t entry = 0; entry < entries; entry++)
        if (b->open[entry])
            b->tokens[entry] = (int64_t)b->share[entry];
    for (int64_t prompt = 0; prompt < n; prompt++)
        b->maker[prompt] = (int32_t)b->share[entries + prompt] - 1;
    return PLUMB_OK;
}

plumb_status plumb_balance_collect(struct plumb_rollout_stage *r,
                                   const struct plumb_align_context *c,
                                   const struct plumb_partition *p)
{
    struct plumb_balance *b = &r->balance;
    const int64_t group = b->made.group_size;
    if (b->cap == 0)
        return PLUMB_OK;
    PLUMB_TRY(share_made(b, c->t->comm, p));
    set_local(b->local_of_maker, &b->made, p->split.items);
    for (int64_t prompt = 0; prompt < p->split.items; prompt++) {
        int64_t sum = 0;
        for (int64_t entry = prompt * group; entry < (prompt + 1) * group; entry++)
            sum += b->tokens[entry];
        b->length[p->record_of_prompt[prompt]] = (double)sum / (double)group;
    }
    const struct plumb_rollout_source src = plumb_rollout_stage_source(r, c);
    const struct end owner = {&r->rollouts, b->owner, b->local_of_owner};
    const struct end maker = {&b->made, b->maker, b->local_of_maker};
    return move(b, c, p->split.items, &maker, &owner, &src);
}
