/* filter_seq.c - the filters for sequences and mappings.
 * Layer 3. Private to text/jinja. */
#include "text/jinja/run.h"

typedef struct plumb_jrun run;
typedef const struct plumb_jargs args_t;

/* Replaces *item by the element or attribute that one part of a path names. A part that consists of
 * digits is an index. */
static plumb_status path_part(run *r, jv *item, const char *at, int64_t n)
{
    jv key;
    int64_t i = 0;
    bool big;
    bool digits = n > 0;
    for (int64_t k = 0; k < n; k++)
        digits &= at[k] >= '0' && at[k] <= '9';
    if (digits && plumb_jinja_parse_int(at, n, 10, &i, &big))
        key = plumb_jv_int(i);
    else
        PLUMB_TRY(plumb_jv_part(&r->arena, &key, at, n));
    return plumb_jinja_item(r, item, *item, key);
}

/* Sets *out to the value that a path such as "a.b" or an index leads to from item. `otherwise`
 * replaces an undefined result; NULL means that it stays undefined. */
static plumb_status follow(run *r, jv *out, jv item, jv path, const jv *otherwise)
{
    *out = item;
    if (path.kind == JK_NONE)
        return PLUMB_OK;
    if (path.kind != JK_STR) {
        PLUMB_TRY(plumb_jinja_item(r, out, item, path));
        if (otherwise && out->kind == JK_UNDEFINED)
            *out = *otherwise;
        return PLUMB_OK;
    }
    const char *at = path.u.str->at, *end = at + path.u.str->n;
    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        PLUMB_TRY(path_part(r, out, at, (dot ? dot : end) - at));
        if (otherwise && out->kind == JK_UNDEFINED)
            *out = *otherwise;
        if (!dot)
            return PLUMB_OK;
        at = dot + 1;
    }
}

plumb_status plumb_jinja_path(struct plumb_jrun *r, jv *out, jv item, jv path)
{
    return follow(r, out, item, path, NULL);
}

static plumb_status fold(run *r, jv *v)
{
    return v->kind == JK_STR ? plumb_jstr_case(r, v, v->u.str, JC_LOWER) : PLUMB_OK;
}

/* Gets the sort key of an element: the value at `path`, in lower case if fold_case is true. If
 * several is true, `path` may list several paths, such as "a,b"; the key is then a list of their
 * values. */
static plumb_status key_of(run *r, jv *out, jv item, jv path, bool fold_case, bool several)
{
    if (!several || path.kind != JK_STR || !memchr(path.u.str->at, ',', (size_t)path.u.str->n)) {
        PLUMB_TRY(follow(r, out, item, path, NULL));
        return fold_case ? fold(r, out) : PLUMB_OK;
    }
    struct plumb_jseq *all;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &all, 2));
    const char *at = path.u.str->at, *end = at + path.u.str->n;
    for (;;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        jv part, v;
        PLUMB_TRY(plumb_jv_part(&r->arena, &part, at, (comma ? comma : end) - at));
        PLUMB_TRY(follow(r, &v, item, part, NULL));
        if (fold_case)
            PLUMB_TRY(fold(r, &v));
        PLUMB_TRY(plumb_jseq_add(&r->arena, all, v));
        if (!comma)
            break;
        at = comma + 1;
    }
    *out = plumb_jv_of(JK_LIST, all);
    return PLUMB_OK;
}

/* A value and its key. plumb sorts pairs with a stable merge sort, which needs memory for n more
 * pairs. */
struct pair {
    jv key, value;
};
static plumb_status sort_pairs(run *r, struct pair *p, struct pair *work, int64_t n, bool reverse)
{
    if (n < 2)
        return PLUMB_OK;
    const int64_t half = n / 2;
    PLUMB_TRY(sort_pairs(r, p, work, half, reverse));
    PLUMB_TRY(sort_pairs(r, p + half, work, n - half, reverse));
    int64_t i = 0, k = half, at = 0;
    while (i < half && k < n) {
        bool right;
        PLUMB_TRY(plumb_jinja_work(r, 0));
        PLUMB_TRY(reverse ? plumb_jinja_less(r, &right, p[i].key, p[k].key)
                          : plumb_jinja_less(r, &right, p[k].key, p[i].key));
        work[at++] = right ? p[k++] : p[i++];
    }
    while (i < half)
        work[at++] = p[i++];
    while (k < n)
        work[at++] = p[k++];
    memcpy(p, work, (size_t)n * sizeof(*p));
    return PLUMB_OK;
}

static plumb_status sorted(run *r, struct pair **out, const struct plumb_jseq *s, jv path,
                           bool fold_case, bool several, bool reverse)
{
    struct pair *work;
    PLUMB_TRY(plumb_jarena_get(&r->arena, out, (s->n + 1) * (int64_t)sizeof(**out)));
    PLUMB_TRY(plumb_jarena_get(&r->arena, &work, (s->n + 1) * (int64_t)sizeof(*work)));
    for (int64_t i = 0; i < s->n; i++) {
        (*out)[i].value = s->at[i];
        PLUMB_TRY(key_of(r, &(*out)[i].key, s->at[i], path, fold_case, several));
    }
    return sort_pairs(r, *out, work, s->n, reverse);
}

static plumb_status from_pairs(run *r, jv *out, const struct pair *p, int64_t n)
{
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &s, n));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, s, p[i].value));
    *out = plumb_jv_of(JK_LIST, s);
    return PLUMB_OK;
}

static plumb_status want_order(run *r, jv reverse, bool got)
{
    if (got && !plumb_jv_is_int(reverse))
        JFAIL(r, "reverse must be true or false, not a %s", plumb_jv_type(reverse));
    return PLUMB_OK;
}

static plumb_status f_sort(run *r, jv *out, jv in, args_t *args)
{
    jv v[3];
    bool got[3];
    struct plumb_jseq *s;
    struct pair *p;
    PLUMB_TRY(plumb_jinja_spread(r, args, "reverse=,case_sensitive=,attribute=", v, got));
    PLUMB_TRY(want_order(r, v[0], got[0]));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    PLUMB_TRY(sorted(r, &p, s, got[2] ? v[2] : plumb_jv_none(), !plumb_jv_true(v[1]), true,
                     plumb_jv_true(v[0])));
    return from_pairs(r, out, p, s->n);
}

static plumb_status f_dictsort(run *r, jv *out, jv in, args_t *args)
{
    jv v[3], items;
    bool got[3];
    struct pair *p;
    PLUMB_TRY(plumb_jinja_spread(r, args, "case_sensitive=,by=,reverse=", v, got));
    PLUMB_TRY(want_order(r, v[2], got[2]));
    if (in.kind != JK_DICT)
        JFAIL(r, "a %s is no mapping", plumb_jv_type(in));
    const bool value = got[1] && v[1].kind == JK_STR && plumb_jstr_is(v[1].u.str, "value");
    if (got[1] && !value && !(v[1].kind == JK_STR && plumb_jstr_is(v[1].u.str, "key")))
        JFAIL(r, "by must be \"key\" or \"value\"");
    const struct plumb_jmethod m = {in, "items"};
    const struct plumb_jargs none = {0};
    PLUMB_TRY(plumb_jinja_method(r, &items, &m, &none));
    PLUMB_TRY(sorted(r, &p, items.u.seq, plumb_jv_int(value), !plumb_jv_true(v[0]), false,
                     plumb_jv_true(v[2])));
    return from_pairs(r, out, p, items.u.seq->n);
}

static plumb_status f_groupby(run *r, jv *out, jv in, args_t *args)
{
    jv v[3];
    bool got[3];
    struct plumb_jseq *s, *groups, *group = NULL;
    struct pair *p, *work;
    PLUMB_TRY(plumb_jinja_spread(r, args, "attribute,default=,case_sensitive=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    const bool fold_case = !plumb_jv_true(v[2]);
    const jv *otherwise = got[1] && v[1].kind != JK_NONE ? &v[1] : NULL;
    PLUMB_TRY(plumb_jarena_get(&r->arena, &p, (s->n + 1) * (int64_t)sizeof(*p)));
    PLUMB_TRY(plumb_jarena_get(&r->arena, &work, (s->n + 1) * (int64_t)sizeof(*p)));
    for (int64_t i = 0; i < s->n; i++) {
        p[i].value = s->at[i];
        PLUMB_TRY(follow(r, &p[i].key, s->at[i], v[0], otherwise));
        if (fold_case)
            PLUMB_TRY(fold(r, &p[i].key));
    }
    PLUMB_TRY(sort_pairs(r, p, work, s->n, false));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &groups, 0));
    for (int64_t i = 0; i < s->n; i++) {
        if (!i || !plumb_jv_equal(p[i].key, p[i - 1].key)) {
            struct plumb_jseq *tuple;
            jv name;
            PLUMB_TRY(plumb_jseq_new(&r->arena, &group, 0));
            PLUMB_TRY(plumb_jseq_new(&r->arena, &tuple, 2));
            PLUMB_TRY(follow(r, &name, p[i].value, v[0], otherwise));
            PLUMB_TRY(plumb_jseq_add(&r->arena, tuple, name));
            PLUMB_TRY(plumb_jseq_add(&r->arena, tuple, plumb_jv_of(JK_LIST, group)));
            tuple->what = "group"; /* makes the attributes grouper and list available */
            tuple->depth = 2;
            PLUMB_TRY(plumb_jseq_add(&r->arena, groups, plumb_jv_of(JK_TUPLE, tuple)));
        }
        PLUMB_TRY(plumb_jseq_add(&r->arena, group, p[i].value));
    }
    *out = plumb_jv_of(JK_LIST, groups);
    return PLUMB_OK;
}

static plumb_status f_unique(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2];
    struct plumb_jseq *s, *kept;
    struct plumb_jmap seen = {0};
    PLUMB_TRY(plumb_jinja_spread(r, args, "case_sensitive=,attribute=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    PLUMB_TRY(plumb_jseq_new(&r->arena, &kept, 0));
    for (int64_t i = 0; i < s->n; i++) {
        jv key;
        PLUMB_TRY(key_of(r, &key, s->at[i], got[1] ? v[1] : plumb_jv_none(), !plumb_jv_true(v[0]),
                         false));
        if (!plumb_jv_hashable(key))
            JFAIL(r, "a %s cannot be hashed", plumb_jv_type(key));
        PLUMB_TRY(plumb_jinja_work(r, seen.n));
        if (plumb_jmap_get(&seen, key))
            continue;
        PLUMB_TRY(plumb_jmap_set(&r->arena, &seen, key, key));
        PLUMB_TRY(plumb_jseq_add(&r->arena, kept, s->at[i]));
    }
    return plumb_jinja_new_iter(r, out, kept, "generator");
}

static plumb_status extreme(run *r, jv *out, jv in, args_t *args, bool max)
{
    jv v[2], best, key;
    bool got[2];
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jinja_spread(r, args, "case_sensitive=,attribute=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    if (!s->n)
        return plumb_jinja_undefined(r, out, "the sequence is empty");
    for (int64_t i = 0; i < s->n; i++) {
        bool better = i == 0;
        PLUMB_TRY(key_of(r, &key, s->at[i], got[1] ? v[1] : plumb_jv_none(), !plumb_jv_true(v[0]),
                         false));
        if (i)
            PLUMB_TRY(max ? plumb_jinja_less(r, &better, best, key)
                          : plumb_jinja_less(r, &better, key, best));
        if (better) {
            best = key;
            *out = s->at[i];
        }
    }
    return PLUMB_OK;
}

static plumb_status f_min(run *r, jv *out, jv in, args_t *args)
{
    return extreme(r, out, in, args, false);
}

static plumb_status f_max(run *r, jv *out, jv in, args_t *args)
{
    return extreme(r, out, in, args, true);
}

static plumb_status f_sum(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2];
    struct plumb_jseq *s;
    PLUMB_TRY(plumb_jinja_spread(r, args, "attribute=,start=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    *out = got[1] ? v[1] : plumb_jv_int(0);
    if (out->kind == JK_STR)
        JFAIL(r, "strings cannot be summed; use join");
    for (int64_t i = 0; i < s->n; i++) {
        jv item = s->at[i];
        if (got[0] && v[0].kind != JK_NONE)
            PLUMB_TRY(follow(r, &item, item, v[0], NULL));
        PLUMB_TRY(plumb_jinja_binary(r, out, JO_ADD, *out, item));
    }
    return PLUMB_OK;
}

static plumb_status f_first(run *r, jv *out, jv in, args_t *args)
{
    struct plumb_jseq *s;
    if (args->n || args->n_kw)
        JFAIL(r, "the filter takes no argument");
    if (in.kind == JK_ITER) {
        s = in.u.seq;
        if (s->next < s->n) {
            *out = s->at[s->next++];
            return PLUMB_OK;
        }
        return plumb_jinja_undefined(r, out, "the sequence is empty");
    }
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    if (!s->n)
        return plumb_jinja_undefined(r, out, "the sequence is empty");
    *out = s->at[0];
    return PLUMB_OK;
}

static plumb_status f_last(run *r, jv *out, jv in, args_t *args)
{
    struct plumb_jseq *s;
    if (args->n || args->n_kw)
        JFAIL(r, "the filter takes no argument");
    if (in.kind == JK_ITER)
        JFAIL(r, "a %s has no last element; make it a list first", plumb_jv_type(in));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    if (!s->n)
        return plumb_jinja_undefined(r, out, "the sequence is empty");
    *out = s->at[s->n - 1];
    return PLUMB_OK;
}

static plumb_status copy_list(run *r, struct plumb_jseq **out, const struct plumb_jseq *s)
{
    PLUMB_TRY(plumb_jinja_work(r, s->n));
    PLUMB_TRY(plumb_jseq_new(&r->arena, out, s->n));
    for (int64_t i = 0; i < s->n; i++)
        PLUMB_TRY(plumb_jseq_add(&r->arena, *out, s->at[i]));
    return PLUMB_OK;
}

static plumb_status f_list(run *r, jv *out, jv in, args_t *args)
{
    struct plumb_jseq *s, *copy;
    if (args->n || args->n_kw)
        JFAIL(r, "the filter takes no argument");
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    PLUMB_TRY(copy_list(r, &copy, s));
    *out = plumb_jv_of(JK_LIST, copy);
    return PLUMB_OK;
}

static plumb_status f_reverse(run *r, jv *out, jv in, args_t *args)
{
    struct plumb_jseq *s, *copy;
    if (args->n || args->n_kw)
        JFAIL(r, "the filter takes no argument");
    if (in.kind == JK_STR)
        return plumb_jinja_slice(r, out, in, plumb_jv_none(), plumb_jv_none(), plumb_jv_int(-1));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    PLUMB_TRY(copy_list(r, &copy, s));
    for (int64_t i = 0; i < copy->n / 2; i++) {
        const jv swap = copy->at[i];
        copy->at[i] = copy->at[copy->n - 1 - i];
        copy->at[copy->n - 1 - i] = swap;
    }
    if (in.kind == JK_ITER) {
        *out = plumb_jv_of(JK_LIST, copy);
        return PLUMB_OK;
    }
    return plumb_jinja_new_iter(r, out, copy, "reversed");
}

static plumb_status f_join(run *r, jv *out, jv in, args_t *args)
{
    jv v[2], d;
    bool got[2];
    struct plumb_jseq *s;
    struct plumb_buf b = {0};
    PLUMB_TRY(plumb_jinja_spread(r, args, "d=,attribute=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    PLUMB_TRY(plumb_jinja_str(r, &d, v[0]));
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < s->n && st == PLUMB_OK; i++) {
        jv item = s->at[i];
        if (got[1] && v[1].kind != JK_NONE)
            st = follow(r, &item, item, v[1], NULL);
        if (st == PLUMB_OK && i)
            st = plumb_jinja_put_str(r, &b, d);
        if (st == PLUMB_OK)
            st = plumb_jinja_put_str(r, &b, item);
    }
    return plumb_jinja_take(r, out, &b, st);
}

static plumb_status f_items(run *r, jv *out, jv in, args_t *args)
{
    struct plumb_jseq *empty;
    jv items;
    if (args->n || args->n_kw)
        JFAIL(r, "the filter takes no argument");
    if (in.kind == JK_UNDEFINED) {
        PLUMB_TRY(plumb_jseq_new(&r->arena, &empty, 0));
        return plumb_jinja_new_iter(r, out, empty, "generator");
    }
    if (in.kind != JK_DICT)
        JFAIL(r, "only a mapping has items, not a %s", plumb_jv_type(in));
    const struct plumb_jmethod m = {in, "items"};
    PLUMB_TRY(plumb_jinja_method(r, &items, &m, args));
    return plumb_jinja_new_iter(r, out, items.u.seq, "generator");
}

static plumb_status f_batch(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2];
    struct plumb_jseq *s, *all, *one = NULL;
    PLUMB_TRY(plumb_jinja_spread(r, args, "linecount,fill_with=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    if (!plumb_jv_is_int(v[0]))
        JREFUSE(r, "batch needs an integer, not a %s", plumb_jv_type(v[0]));
    const int64_t n = plumb_jv_as_int(v[0]);
    PLUMB_TRY(plumb_jseq_new(&r->arena, &all, 0));
    if (n < 1)
        JREFUSE(r, "a batch of %lld is not supported", (long long)n);
    for (int64_t i = 0; i < s->n; i++) {
        if (i % n == 0) {
            PLUMB_TRY(plumb_jseq_new(&r->arena, &one, 0));
            one->depth = s->depth;
            PLUMB_TRY(plumb_jseq_add(&r->arena, all, plumb_jv_of(JK_LIST, one)));
        }
        PLUMB_TRY(plumb_jseq_add(&r->arena, one, s->at[i]));
    }
    while (one && got[1] && v[1].kind != JK_NONE && one->n < n) {
        PLUMB_TRY(plumb_jinja_work(r, 0));
        PLUMB_TRY(plumb_jseq_add(&r->arena, one, v[1]));
    }
    return plumb_jinja_new_iter(r, out, all, "generator");
}

static plumb_status f_slice(run *r, jv *out, jv in, args_t *args)
{
    jv v[2];
    bool got[2];
    struct plumb_jseq *s, *all, *one;
    PLUMB_TRY(plumb_jinja_spread(r, args, "slices,fill_with=", v, got));
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    if (!plumb_jv_is_int(v[0]) || plumb_jv_as_int(v[0]) == 0)
        JFAIL(r, "slice needs an integer other than 0");
    const int64_t n = plumb_jv_as_int(v[0]);
    const int64_t each = n > 0 ? s->n / n : 0, extra = n > 0 ? s->n % n : 0;
    int64_t at = 0;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &all, 0));
    for (int64_t k = 0; k < n; k++) {
        PLUMB_TRY(plumb_jinja_work(r, 0));
        PLUMB_TRY(plumb_jseq_new(&r->arena, &one, 0));
        for (int64_t i = 0; i < each + (k < extra); i++)
            PLUMB_TRY(plumb_jseq_add(&r->arena, one, s->at[at++]));
        if (got[1] && v[1].kind != JK_NONE && k >= extra)
            PLUMB_TRY(plumb_jseq_add(&r->arena, one, v[1]));
        PLUMB_TRY(plumb_jseq_add(&r->arena, all, plumb_jv_of(JK_LIST, one)));
    }
    return plumb_jinja_new_iter(r, out, all, "generator");
}

static plumb_status map_attribute(run *r, struct plumb_jseq *out, const struct plumb_jseq *s,
                                  args_t *args)
{
    jv v[2];
    bool got[2];
    PLUMB_TRY(plumb_jinja_spread(r, args, "attribute=,default=", v, got));
    const jv *otherwise = got[1] && v[1].kind != JK_NONE ? &v[1] : NULL;
    for (int64_t i = 0; i < s->n; i++) {
        jv item;
        PLUMB_TRY(follow(r, &item, s->at[i], v[0], otherwise));
        PLUMB_TRY(plumb_jseq_add(&r->arena, out, item));
    }
    return PLUMB_OK;
}

static plumb_status f_map(run *r, jv *out, jv in, args_t *args)
{
    struct plumb_jseq *s, *mapped;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &mapped, 0));
    if (!plumb_jv_true(in))
        return plumb_jinja_new_iter(r, out, mapped, "generator");
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    bool attribute = false;
    for (int64_t i = 0; i < args->n_kw; i++)
        attribute |= plumb_jstr_is(args->kw[i].name, "attribute");
    if (!args->n && attribute) {
        PLUMB_TRY(map_attribute(r, mapped, s, args));
        return plumb_jinja_new_iter(r, out, mapped, "generator");
    }
    if (!args->n || args->at[0].kind != JK_STR)
        JFAIL(r, "map needs the name of a filter, or attribute=..");
    const struct plumb_jstr *name = args->at[0].u.str;
    const struct plumb_jargs rest = {args->at + 1, args->n - 1, args->kw, args->n_kw};
    const int index = plumb_jinja_find_filter(name->at, name->n);
    if (index < 0)
        JFAIL(r, "there is no filter named %.*s", (int)name->n, name->at);
    if (!plumb_jinja_filter_known(index))
        JREFUSE(r, "the filter %.*s is not supported", (int)name->n, name->at);
    for (int64_t i = 0; i < s->n; i++) {
        jv item;
        PLUMB_TRY(plumb_jinja_work(r, 0));
        PLUMB_TRY(plumb_jinja_filter(r, &item, index, s->at[i], &rest));
        PLUMB_TRY(plumb_jseq_add(&r->arena, mapped, item));
    }
    return plumb_jinja_new_iter(r, out, mapped, "generator");
}

/* Implements select, reject, selectattr and rejectattr: keeps the elements for which the test that
 * the arguments name gives `want`. Without a test, the truth of the value counts. If attr is true,
 * the attribute of the element that the first argument names is tested. */
static plumb_status choose(run *r, jv *out, jv in, args_t *args, bool want, bool attr)
{
    struct plumb_jseq *s, *kept;
    int index = -1;
    const int64_t off = attr;
    PLUMB_TRY(plumb_jseq_new(&r->arena, &kept, 0));
    if (!plumb_jv_true(in))
        return plumb_jinja_new_iter(r, out, kept, "generator");
    if (args->n < off)
        JFAIL(r, "the name of the attribute is missing");
    PLUMB_TRY(plumb_jinja_elements(r, &s, in));
    if (args->n > off) {
        const jv name = args->at[off];
        index = name.kind == JK_STR ? plumb_jinja_find_test(name.u.str->at, name.u.str->n) : -1;
        if (index < 0 && name.kind == JK_STR)
            JFAIL(r, "there is no test named %.*s", (int)name.u.str->n, name.u.str->at);
        if (index < 0)
            JFAIL(r, "the name of a test must be a string, not a %s", plumb_jv_type(name));
    }
    const bool named = args->n > off;
    const struct plumb_jargs rest = {named ? args->at + off + 1 : NULL,
                                     named ? args->n - off - 1 : 0, args->kw, args->n_kw};
    for (int64_t i = 0; i < s->n; i++) {
        jv item = s->at[i];
        bool yes;
        PLUMB_TRY(plumb_jinja_work(r, 0));
        if (attr)
            PLUMB_TRY(follow(r, &item, item, args->at[0], NULL));
        if (named)
            PLUMB_TRY(plumb_jinja_test(r, &yes, index, item, &rest));
        else
            yes = plumb_jv_true(item);
        if (yes == want)
            PLUMB_TRY(plumb_jseq_add(&r->arena, kept, s->at[i]));
    }
    return plumb_jinja_new_iter(r, out, kept, "generator");
}

static plumb_status f_select(run *r, jv *out, jv in, args_t *args)
{
    return choose(r, out, in, args, true, false);
}

static plumb_status f_reject(run *r, jv *out, jv in, args_t *args)
{
    return choose(r, out, in, args, false, false);
}

static plumb_status f_selectattr(run *r, jv *out, jv in, args_t *args)
{
    return choose(r, out, in, args, true, true);
}

static plumb_status f_rejectattr(run *r, jv *out, jv in, args_t *args)
{
    return choose(r, out, in, args, false, true);
}

const struct plumb_jfilter plumb_jinja_seq_filters[] = {
    {"batch", f_batch},
    {"dictsort", f_dictsort},
    {"first", f_first},
    {"groupby", f_groupby},
    {"items", f_items},
    {"join", f_join},
    {"last", f_last},
    {"list", f_list},
    {"map", f_map},
    {"max", f_max},
    {"min", f_min},
    {"reject", f_reject},
    {"rejectattr", f_rejectattr},
    {"reverse", f_reverse},
    {"select", f_select},
    {"selectattr", f_selectattr},
    {"slice", f_slice},
    {"sort", f_sort},
    {"sum", f_sum},
    {"unique", f_unique},
    {NULL, NULL},
};
