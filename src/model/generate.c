/* generate.c - generation with continuous batching: each step assigns waiting samples to free
 * slots, runs forward passes, draws one token per live slot and frees the slots of finished
 * completions.
 * Layer 4. Includes base/, op/, model/generator.h.
 *
 * Slots and order decide only when a token is computed, never which token: rows are independent of
 * each other, and every random number is a function of (prompt, sample, position). */
#include "model/generate.h"

#include <math.h>
#include <string.h>

#include "base/num.h"
#include "base/rng.h"
#include "model/generator.h"

const char *plumb_stop_name(enum plumb_stop s)
{
    static const char *const name[] = {"eos", "stop_id", "stop_string", "length", "paused"};
    return name[s];
}

/* ---- admitting samples ------------------------------------------------------------------- */

static void open_group(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    int64_t i = 0;
    while (g->group[i].request >= 0)
        i++;
    g->group[i] = (struct plumb_group){.request = r->next_request, .open = true};
    g->prefill[g->n_prefill++] = i;
    r->open_group = i;
}

/* Advances r->next_request to the next request with samples that have no slot yet. */
static void skip_begun(struct plumb_run *r)
{
    while (r->next_request < r->checked &&
           r->next_sample == r->request[r->next_request].n_samples) {
        r->next_request++;
        r->next_sample = 0;
    }
    r->g->begun = r->next_request;
}

/* Assigns the next samples of the queue to the free slots. */
static void admit(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    skip_begun(r);
    for (int64_t i = 0; i < g->slots && r->next_request < r->checked; i++) {
        struct plumb_slot *s = &g->slot[i];
        if (s->state != SLOT_FREE)
            continue;
        const struct plumb_request *q = &r->request[r->next_request];
        if (r->next_sample == 0)
            open_group(r);
        struct plumb_group *p = &g->group[r->open_group];
        s->state = SLOT_WAIT;
        s->request = r->next_request;
        s->sample = q->first_sample + r->next_sample++;
        s->group = r->open_group;
        s->n = q->n_given;
        s->pages = 0;
        if (q->n_given > 0) {
            memcpy(s->ids, q->given, (size_t)q->n_given * sizeof *s->ids);
            memcpy(s->logp, q->given_logp, (size_t)q->n_given * sizeof *s->logp);
            memcpy(s->logp_sampled, q->given_logp_sampled,
                   (size_t)q->n_given * sizeof *s->logp_sampled);
        }
        p->waiting++;
        p->open = r->next_sample < q->n_samples;
        skip_begun(r);
    }
}

/* ---- the forward of one step -------------------------------------------------------------- */

static void add_row(plumb_generator *g, int32_t id, int64_t seq, int64_t pos)
{
    g->host.ids[g->n_rows] = id;
    g->host.seq[g->n_rows] = (int32_t)seq;
    g->host.pos[g->n_rows] = (int32_t)pos;
    g->n_rows++;
}

/* Writes one row for each live slot to g->host: the slot's newest token. A slot whose completion
 * begins gets a padding row instead, because its first token is drawn from the last row of the
 * prompt. */
static plumb_status collect_live(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    g->n_rows = 0;
    for (int64_t i = 0; i < g->slots; i++) {
        struct plumb_slot *s = &g->slot[i];
        if (s->state != SLOT_LIVE)
            continue;
        if (s->begins) { /* draws from the last row of the prompt, which was kept in x */
            plumb_step_pad(g, g->n_rows++);
            continue;
        }
        const int64_t pos = r->request[s->request].n + s->n - 1;
        PLUMB_TRY(plumb_kv_cover(&g->kv, plumb_slot_pages(g, i), &s->pages, pos));
        s->source = g->n_rows;
        add_row(g, s->ids[s->n - 1], i, pos);
    }
    return PLUMB_OK;
}

/* Returns true if the step has exactly one row per live slot, because no prompt is being read and
 * no slot waits for a prompt. */
static bool only_decodes(const plumb_generator *g)
{
    for (int64_t i = 0; i < g->slots; i++)
        if (g->slot[i].state == SLOT_WAIT)
            return false;
    return g->n_rows > 0 && g->n_prefill == 0;
}

static plumb_status forward(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    struct plumb_backend *b = g->backend;
    if (g->n_rows == 0)
        return PLUMB_OK;
    PLUMB_TRY(b->send(b, g->dev.ids, g->host.ids, g->dev.in_bytes - g->dev.draw_bytes));
    PLUMB_TRY(plumb_step_forward(g, r->m, r->o, g->n_rows));
    /* sync waits until the copies are done, because the host overwrites the rows afterwards */
    return b->sync(b);
}

/* ---- drawing tokens -------------------------------------------------------------------- */

static void collect_draws(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    g->n_draw = 0;
    for (int64_t i = 0; i < g->slots; i++) {
        struct plumb_slot *s = &g->slot[i];
        if (s->state != SLOT_LIVE)
            continue;
        const struct plumb_rng_key key = {.seed = r->o->seed,
                                          .purpose = PLUMB_RNG_SAMPLE,
                                          .iteration = r->o->iteration,
                                          .prompt = (uint64_t)r->request[s->request].prompt_id,
                                          .sample = (uint32_t)s->sample,
                                          .position = (uint32_t)s->n};
        g->host.source[g->n_draw] = (int32_t)s->source;
        s->begins = false;
        memcpy(g->host.seen + g->n_draw * g->seen_words, s->seen,
               (size_t)g->seen_words * sizeof *s->seen);
        g->drawer[g->n_draw] = i;
        g->host.u[g->n_draw++] = plumb_rng_uniform(&key);
    }
}

static plumb_status draw(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    struct plumb_backend *b = g->backend;
    if (g->n_draw == 0)
        return PLUMB_OK;
    PLUMB_TRY(b->send(b, g->dev.u, g->host.u, g->dev.draw_bytes));
    PLUMB_TRY(plumb_step_draw(g, r->m, r->o, g->n_draw));
    return plumb_step_receive(g);
}

/* ---- one step: read prompts and decode ---------------------------------------------- */

/* Runs one step on the CPU: a single forward decodes the live slots and reads prompts. */
static plumb_status mixed_step(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    PLUMB_TRY(collect_live(r));
    struct plumb_reading rows = {.ids = g->host.ids,
                                 .seq = g->host.seq,
                                 .pos = g->host.pos,
                                 .n = g->n_rows,
                                 .most = g->max_rows};
    PLUMB_TRY(plumb_read_rows(r, &rows));
    g->n_rows = rows.n;
    g->steps += g->n_rows > 0;
    if (only_decodes(g)) {
        collect_draws(r);
        return plumb_step_decode(g, r->m, r->o);
    }
    PLUMB_TRY(forward(r));
    PLUMB_TRY(plumb_read_end(r, &rows));
    PLUMB_TRY(plumb_step_read(g, r->m, r->o, 0, 0));
    collect_draws(r);
    return draw(r);
}

/* Returns true if the step begins with a pass over prompts (the comment of PLUMB_PREFILL_ROWS_APART
 * lists the conditions). Increments g->waited, the number of steps for which prompts have
 * waited. */
static bool reads_now(plumb_generator *g)
{
    int64_t live = 0, waiting = 0;
    if (g->n_prefill == 0)
        return false;
    for (int64_t i = 0; i < g->slots; i++) {
        live += g->slot[i].state == SLOT_LIVE;
        waiting += g->slot[i].state == SLOT_WAIT;
    }
    if (live == 0 || waiting * PLUMB_PREFILL_SHARE >= g->slots)
        g->waited = PLUMB_PREFILL_WAIT; /* every step reads prompts until the queue is empty */
    return g->waited++ >= PLUMB_PREFILL_WAIT;
}

/* Runs one step on a device. If reads_now returns true, one pass reads prompts. If another pass
 * over prompts must follow (plumb_reads_on), the step ends here. Otherwise the slots whose prompt
 * is complete begin, and one decode step runs. */
static plumb_status step_apart(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    struct plumb_reading rows = {.ids = g->read_host.ids,
                                 .seq = g->read_host.seq,
                                 .pos = g->read_host.pos,
                                 .most = g->max_rows};
    if (reads_now(g))
        PLUMB_TRY(plumb_read_rows(r, &rows));
    g->steps += rows.n > 0;
    if (rows.n > 0)
        memcpy(g->read_host.page, g->host.page,
               (size_t)(g->sequences * g->max_pages) * sizeof *g->host.page);
    PLUMB_TRY(plumb_read_end(r, &rows));
    if (g->n_prefill == 0)
        g->waited = 0;
    PLUMB_TRY(plumb_step_read(g, r->m, r->o, rows.n, rows.groups));
    g->n_draw = 0;
    if (plumb_reads_on(g, &rows))
        return g->backend->sync(g->backend);
    PLUMB_TRY(collect_live(r));
    if (g->n_rows == 0)
        return g->backend->sync(g->backend);
    g->steps++;
    collect_draws(r);
    return plumb_step_decode(g, r->m, r->o);
}

static plumb_status step(struct plumb_run *r)
{
    admit(r);
    return r->g->apart ? step_apart(r) : mixed_step(r);
}

/* ---- the end of a completion ---------------------------------------------------------------- */

static bool listed(int32_t id, const int32_t *list, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (list[i] == id)
            return true;
    return false;
}

/* Decodes the last n_prompt tokens of the prompt and the last n tokens of the completion to
 * g->text. *known receives the number of bytes that belong to the prompt. */
static plumb_status decode_tail(plumb_generator *g, int64_t *known, const struct plumb_request *q,
                                int64_t n_prompt, const struct plumb_slot *s, int64_t n)
{
    const int32_t *prompt = q->ids + q->n - n_prompt, *ids = s->ids + s->n - n;
    struct plumb_ids *all = &g->tail;
    *known = all->n = 0;
    plumb_buf_clear(&g->text);
    if (n_prompt == 0)
        return plumb_tokenizer_decode(g->tokenizer, &g->text, ids, n, false);
    for (int64_t i = 0; i < n_prompt; i++)
        PLUMB_TRY(plumb_ids_add(all, prompt[i]));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_ids_add(all, ids[i]));
    plumb_buf_clear(&g->before);
    PLUMB_TRY(plumb_tokenizer_decode(g->tokenizer, &g->before, prompt, n_prompt, false));
    PLUMB_TRY(plumb_tokenizer_decode(g->tokenizer, &g->text, all->id, all->n, false));
    const int64_t most = plumb_min_i64(g->before.len, g->text.len);
    while (*known < most && g->before.data[*known] == g->text.data[*known])
        ++*known;
    return PLUMB_OK;
}

/* Returns true if the decoded text begins with U+FFFD, the replacement character. The first decoded
 * token may then be the middle of a multi-byte character, and a byte-level tokenizer may fail to
 * decode the bytes that follow. */
static bool begins_broken(const struct plumb_buf *text)
{
    return text->len >= 3 && memcmp(text->data, "\xef\xbf\xbd", 3) == 0;
}

/* Returns true if the text contains the string, and the string ends after the first `known`
 * bytes. */
static bool ends_behind(const struct plumb_buf *text, int64_t known, const char *string)
{
    const int64_t len = (int64_t)strlen(string);
    const int64_t from = plumb_max_i64(known - len + 1, 0);
    return memmem(plumb_buf_text(text) + from, (size_t)(text->len - from), string, (size_t)len) !=
           NULL;
}

/* Sets *out to true if a stop string ends within the completion. The stop string may begin in the
 * prompt, as in transformers' StopStringCriteria. A new occurrence must end in the newest token. It
 * is therefore enough to decode as many of the last tokens as the longest stop string has bytes,
 * plus 8, because the first tokens of a part of a text may be decoded differently. If the
 * completion is shorter, prompt tokens are decoded with it, so that a space at the start of the
 * completion is kept. */
static plumb_status ends_in_string(struct plumb_run *r, const struct plumb_slot *s, bool *out)
{
    plumb_generator *g = r->g;
    const struct plumb_request *q = &r->request[s->request];
    int64_t known = 0;
    *out = false;
    if (r->o->n_stop == 0)
        return PLUMB_OK;
    /* one more token per try, because a character has up to four bytes */
    for (int64_t more = 0; more < 4; more++) {
        const int64_t window = r->longest_stop + 8 + more, n = plumb_min_i64(s->n, window);
        PLUMB_TRY(decode_tail(g, &known, q, plumb_min_i64(q->n, window - n), s, n));
        if (!begins_broken(&g->text))
            break;
    }
    for (int64_t i = 0; i < r->o->n_stop && !*out; i++)
        *out = ends_behind(&g->text, known, r->o->stop[i]);
    return PLUMB_OK;
}

/* Sets *done to true if the slot's last token ends its completion, and *stop to the reason. */
static plumb_status check_stop(struct plumb_run *r, const struct plumb_slot *s, bool *done,
                               enum plumb_stop *stop)
{
    const struct plumb_generate_options *o = r->o;
    const struct plumb_spec *spec = &r->g->spec;
    const int32_t id = s->ids[s->n - 1];
    *done = true;
    *stop = PLUMB_STOP_EOS;
    if (!o->ignore_eos && listed(id, spec->eos, spec->n_eos))
        return PLUMB_OK;
    *stop = PLUMB_STOP_ID;
    if (listed(id, o->stop_id, o->n_stop_id))
        return PLUMB_OK;
    *stop = PLUMB_STOP_STRING;
    PLUMB_TRY(ends_in_string(r, s, done));
    if (*done)
        return PLUMB_OK;
    *stop = PLUMB_STOP_LENGTH;
    *done = s->n >= o->max_new_tokens || r->request[s->request].n + s->n >= r->g->limit;
    return PLUMB_OK;
}

static plumb_status hand_out(struct plumb_run *r, const struct plumb_slot *s, enum plumb_stop stop)
{
    const struct plumb_completion c = {.request = s->request,
                                       .sample = s->sample,
                                       .ids = s->ids,
                                       .logp = s->logp,
                                       .logp_sampled = s->logp_sampled,
                                       .n = s->n,
                                       .stop = stop};
    return r->done(r->arg, &c);
}

/* Calls done for every unfinished completion that has more tokens than its request gave (n_given),
 * and returns PLUMB_STOPPED. Adds no message: the message of o->pause or o->pass says why. */
static plumb_status pause_here(struct plumb_run *r)
{
    const plumb_generator *g = r->g;
    for (int64_t i = 0; i < g->slots; i++) {
        const struct plumb_slot *s = &g->slot[i];
        if (s->state == SLOT_LIVE && s->n > r->request[s->request].n_given)
            PLUMB_TRY(hand_out(r, s, PLUMB_STOP_PAUSED));
    }
    return PLUMB_STOPPED;
}

static plumb_status take_tokens(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    for (int64_t i = 0; i < g->n_draw; i++) {
        struct plumb_slot *s = &g->slot[g->drawer[i]];
        bool done;
        enum plumb_stop stop;
        PLUMB_REQUIRE(
            isfinite(g->host.logp[i]), PLUMB_ERR_NUMERIC,
            "prompt %lld, sample %d, token %lld: the log-prob is %g, expected a finite number",
            (long long)r->request[s->request].prompt_id, s->sample, (long long)s->n,
            (double)g->host.logp[i]);
        s->ids[s->n] = g->host.token[i];
        s->logp[s->n] = g->host.logp[i];
        s->logp_sampled[s->n++] = g->host.logp_sampled[i];
        plumb_see(g, s, &s->ids[s->n - 1], 1);
        g->tokens++;
        PLUMB_TRY(check_stop(r, s, &done, &stop));
        if (!done)
            continue;
        PLUMB_TRY(hand_out(r, s, stop));
        for (int64_t j = 0; j < s->pages; j++)
            plumb_kv_drop(&g->kv, plumb_slot_pages(g, g->drawer[i])[j]);
        s->state = SLOT_FREE;
        r->finished++;
    }
    return PLUMB_OK;
}

void plumb_generator_count(const plumb_generator *g, struct plumb_generator_count *out)
{
    *out =
        (struct plumb_generator_count){.steps = g->steps, .tokens = g->tokens, .begun = g->begun};
    for (int64_t i = 0; i < g->slots; i++)
        out->running += g->slot[i].state != SLOT_FREE;
    out->free = g->slots - out->running;
}

/* ---- checks and entry point -------------------------------------------------------------- */

static plumb_status check_ids(const plumb_generator *g, const struct plumb_request *q,
                              const int32_t *ids, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        PLUMB_REQUIRE(ids[j] >= 0 && ids[j] < g->spec.v, PLUMB_ERR_ARG,
                      "prompt %lld, token %lld: id %d is outside the vocabulary of %lld",
                      (long long)q->prompt_id, (long long)j, ids[j], (long long)g->spec.v);
    return PLUMB_OK;
}

static plumb_status check_options(struct plumb_run *r)
{
    const struct plumb_generate_options *o = r->o;
    const plumb_generator *g = r->g;
    PLUMB_REQUIRE(o->max_new_tokens >= 1, PLUMB_ERR_ARG, "max_new_tokens is %lld, expected >= 1",
                  (long long)o->max_new_tokens);
    PLUMB_REQUIRE(o->n_stop == 0 || g->tokenizer, PLUMB_ERR_ARG,
                  "stop strings need the model's tokenizer");
    PLUMB_REQUIRE(
        o->repetition_penalty >= 0 &&
            (g->seen_words > 0 || o->repetition_penalty == 0 || o->repetition_penalty == 1),
        PLUMB_ERR_ARG,
        "repetition_penalty is %g; expected 0 or more, and for a value other than 0 and 1 a "
        "generator that was created with the memory for it",
        o->repetition_penalty);
    for (int64_t i = 0; i < o->n_stop; i++) {
        PLUMB_REQUIRE(o->stop[i][0], PLUMB_ERR_ARG,
                      "generate.stop: text %lld of the list is an empty text", (long long)i + 1);
        r->longest_stop = plumb_max_i64(r->longest_stop, (int64_t)strlen(o->stop[i]));
    }
    return PLUMB_OK;
}

/* Checks the requests that have become ready since the last call. */
static plumb_status check_ready(struct plumb_run *r)
{
    const struct plumb_generate_options *o = r->o;
    const plumb_generator *g = r->g;
    const int64_t ready = o->supply ? plumb_min_i64(o->supply->ready, r->n) : r->n;
    for (; r->checked < ready; r->checked++) {
        const struct plumb_request *q = &r->request[r->checked];
        PLUMB_REQUIRE(q->n >= 1 && q->n + 1 <= g->limit, PLUMB_ERR_ARG,
                      "prompt %lld has %lld tokens, expected 1 to %lld", (long long)q->prompt_id,
                      (long long)q->n, (long long)(g->limit - 1));
        PLUMB_REQUIRE(q->n_samples >= 0, PLUMB_ERR_ARG,
                      "prompt %lld: n_samples is %d, expected >= 0", (long long)q->prompt_id,
                      q->n_samples);
        PLUMB_REQUIRE(
            q->n_given >= 0 && (q->n_given == 0 || q->n_samples == 1) &&
                q->n_given < o->max_new_tokens && plumb_prefix(q) + 1 <= g->limit,
            PLUMB_ERR_ARG,
            "prompt %lld: %lld given tokens with %d samples; given tokens need exactly 1 sample, "
            "must be fewer than max_new_tokens %lld, and must leave room for one more token",
            (long long)q->prompt_id, (long long)q->n_given, q->n_samples,
            (long long)o->max_new_tokens);
        PLUMB_TRY(check_ids(g, q, q->ids, q->n));
        PLUMB_TRY(check_ids(g, q, q->given, q->n_given));
        r->wanted += q->n_samples;
    }
    return PLUMB_OK;
}

/* Returns true if no more requests can become ready and done was called for every completion. */
static bool is_done(const struct plumb_run *r)
{
    const bool all = r->checked == r->n || (r->o->supply && r->o->supply->closed);
    return all && r->finished == r->wanted;
}

plumb_status plumb_generate(plumb_generator *g, const plumb_model *m,
                            const struct plumb_request *request, int64_t n,
                            const struct plumb_generate_options *o, plumb_completion_fn *done,
                            void *arg)
{
    struct plumb_run r = {
        .g = g, .m = m, .request = request, .n = n, .o = o, .done = done, .arg = arg};
    PLUMB_REQUIRE(
        m->backend == g->backend && plumb_spec_same_sizes(&m->spec, &g->spec), PLUMB_ERR_SHAPE,
        "the generator was created for another architecture or backend than model %s", m->dir);
    PLUMB_REQUIRE(o->pass || !plumb_model_gathers(m), PLUMB_ERR_ARG,
                  "the layers of %s are shares of the ranks, so the ranks must meet before each "
                  "forward pass, but no function for that is given",
                  m->dir);
    PLUMB_TRY(check_options(&r));
    PLUMB_TRY(check_ready(&r));
    plumb_kv_reset(&g->kv);
    g->n_prefill = g->waited = g->begun = 0;
    memset(g->host.page, 0, (size_t)(g->sequences * g->max_pages) * sizeof *g->host.page);
    /* padding rows use the one page after the KV cache's own pages */
    g->host.page[(g->sequences - 1) * g->max_pages] = (int32_t)g->kv.n;
    for (int64_t i = 0; i < g->slots; i++)
        g->slot[i].state = SLOT_FREE;
    for (int64_t i = 0; i < g->groups; i++)
        g->group[i].request = -1;
    while (!is_done(&r)) {
        plumb_status st = o->pause ? o->pause(o->pause_arg) : PLUMB_OK;
        if (st == PLUMB_STOPPED)
            return pause_here(&r);
        PLUMB_TRY(st);
        PLUMB_TRY(check_ready(&r));
        st = step(&r);
        if (st == PLUMB_STOPPED) { /* o->pass stopped the step before it drew a token */
            /* copies of the step's inputs to the device may still run */
            PLUMB_TRY(g->backend->sync(g->backend));
            return pause_here(&r);
        }
        PLUMB_TRY(st);
        PLUMB_TRY(take_tokens(&r));
    }
    return PLUMB_OK;
}
