/* prefill.c - reads prompts: chooses the rows of a pass, and starts the samples of complete
 * prompts.
 * Layer 4. Includes base/, model/generator.h. */
#include <string.h>

#include "base/num.h"
#include "model/generator.h"

plumb_status plumb_read_rows(struct plumb_run *r, struct plumb_reading *rows)
{
    plumb_generator *g = r->g;
    for (int64_t k = 0; k < g->n_prefill && rows->n < rows->most; k++, rows->groups++) {
        const int64_t i = g->prefill[k];
        struct plumb_group *p = &g->group[i];
        const struct plumb_request *q = &r->request[p->request];
        const int64_t n = plumb_min_i64(plumb_prefix(q) - p->rows, rows->most - rows->n);
        PLUMB_TRY(plumb_kv_cover(&g->kv, plumb_group_pages(g, i), &p->pages, p->rows + n - 1));
        for (int64_t j = 0; j < n; j++, p->rows++, rows->n++) {
            rows->ids[rows->n] = p->rows < q->n ? q->ids[p->rows] : q->given[p->rows - q->n];
            rows->seq[rows->n] = (int32_t)(g->slots + i);
            rows->pos[rows->n] = (int32_t)p->rows;
        }
    }
    return PLUMB_OK;
}

/* ---- the repetition penalty -------------------------------------------------------------- */

void plumb_see(plumb_generator *g, struct plumb_slot *s, const int32_t *ids, int64_t n)
{
    for (int64_t i = 0; i < n && g->seen_words > 0; i++)
        s->seen[ids[i] / 32] |= (int32_t)(1u << (ids[i] % 32));
}

/* Marks the tokens of the slot's prompt and the given tokens of its completion as seen, and no
 * others. */
static void see_prefix(struct plumb_run *r, struct plumb_slot *s)
{
    const struct plumb_request *q = &r->request[s->request];
    memset(s->seen, 0, (size_t)r->g->seen_words * sizeof *s->seen);
    plumb_see(r->g, s, q->ids, q->n);
    plumb_see(r->g, s, s->ids, s->n);
}

/* ---- when a prompt is complete: its samples begin -------------------------------------------- */

/* Handles the groups whose prompt these rows complete. For each group, adds a copy of the hidden
 * state of its last row to the copies in g->read_host, and removes the group from the queue. */
static void end_prefills(struct plumb_run *r, const struct plumb_reading *rows)
{
    plumb_generator *g = r->g;
    int64_t left = 0;
    for (int64_t k = 0; k < g->n_prefill; k++) {
        const int64_t i = g->prefill[k];
        if (g->group[i].rows < plumb_prefix(&r->request[g->group[i].request])) {
            g->prefill[left++] = i;
            continue;
        }
        int64_t row = rows->n - 1; /* the group's last row */
        while (rows->seq[row] != g->slots + i)
            row--;
        int32_t *pair = g->read_host.last + 2 * g->n_last++;
        pair[0] = (int32_t)row;
        pair[1] = (int32_t)(g->max_rows + i);
    }
    g->n_prefill = left;
}

/* Sets the page table of a slot to the KV pages of its group's prompt. Full pages are shared. The
 * last page is copied if it is not full, because the slot writes to it. The last sample of a group
 * gets the group's own pages without a copy. */
static plumb_status inherit(struct plumb_run *r, int64_t slot, int64_t group)
{
    plumb_generator *g = r->g;
    struct plumb_slot *s = &g->slot[slot];
    struct plumb_group *p = &g->group[group];
    int32_t *to = plumb_slot_pages(g, slot), *from = plumb_group_pages(g, group);
    memcpy(to, from, (size_t)p->pages * sizeof *to);
    s->pages = p->pages;
    if (p->waiting == 1 && !p->open) {
        p->pages = 0;
        return PLUMB_OK;
    }
    const int64_t full = plumb_prefix(&r->request[p->request]) / PLUMB_KV_PAGE;
    for (int64_t i = 0; i < full; i++)
        plumb_kv_share(&g->kv, to[i]);
    s->pages = full;
    if (full == p->pages)
        return PLUMB_OK;
    PLUMB_TRY(plumb_kv_take(&g->kv, &to[full]));
    s->pages++;
    int32_t *pair = g->read_host.copy + 2 * g->n_copy++;
    pair[0] = from[full];
    pair[1] = to[full];
    return PLUMB_OK;
}

/* Starts the samples of all slots whose prompt has been read completely. Frees the groups whose
 * prompt no slot waits for, and that have no sample left in the queue. */
static plumb_status start_samples(struct plumb_run *r)
{
    plumb_generator *g = r->g;
    for (int64_t i = 0; i < g->slots; i++) {
        struct plumb_slot *s = &g->slot[i];
        struct plumb_group *p = &g->group[s->group];
        if (s->state != SLOT_WAIT || p->rows < plumb_prefix(&r->request[p->request]))
            continue;
        PLUMB_TRY(inherit(r, i, s->group));
        s->source = g->max_rows + s->group;
        s->begins = true;
        s->state = SLOT_LIVE;
        see_prefix(r, s);
        p->waiting--;
    }
    for (int64_t i = 0; i < g->groups; i++) {
        struct plumb_group *p = &g->group[i];
        if (p->request < 0 || p->waiting > 0 || p->open)
            continue;
        for (int64_t j = 0; j < p->pages; j++)
            plumb_kv_drop(&g->kv, plumb_group_pages(g, i)[j]);
        p->request = -1;
    }
    return PLUMB_OK;
}

plumb_status plumb_read_end(struct plumb_run *r, const struct plumb_reading *rows)
{
    r->g->n_last = r->g->n_copy = 0;
    end_prefills(r, rows);
    if (plumb_reads_on(r->g, rows))
        return PLUMB_OK;
    return start_samples(r);
}
