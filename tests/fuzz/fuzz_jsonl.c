/* fuzz_jsonl.c - reads any bytes as a data set, with any kind of record and any options. plumb
 * must refuse them with a message that names the line, or give records as dataset.h describes
 * them.
 * Test. Includes data/, text/, base/.
 *
 * The first byte of the input selects the kind, the second byte the options. The rest is the
 * file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/dataset.h"
#include "spm.h"

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

enum {
    IDS = 1,
    EOS = 2,
    BARE = 4,
    SKIP_LONG = 8,
    BLANK = 16,
    PRINCIPLE = 32,
    CHAT = 64,
    FEW = 128
};

static plumb_tokenizer *tokenizer(void)
{
    static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"w\"}";
    static plumb_tokenizer *t; /* the same tokenizer for all inputs; never closed */
    if (!t && plumb_tokenizer_parse(&t, spm, sizeof spm - 1, config, sizeof config - 1, "spm"))
        abort();
    return t;
}

static void require(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check_piece(const struct plumb_piece *p, int64_t vocab)
{
    if (p->text)
        require(strlen(p->text) <= (size_t)p->len && p->text[p->len] == '\0', "text");
    require(p->n >= 0 && (p->n == 0 || p->ids), "ids");
    for (int64_t i = 0; i < p->n; i++)
        require(p->ids[i] >= 0 && p->ids[i] < vocab, "an id outside the vocabulary");
}

static void check(const struct plumb_dataset *d, const struct plumb_data_options *o, int64_t vocab)
{
    require(d->n >= 1 && d->skipped >= 0 && (o->overlong || !d->skipped), "counts");
    require(!o->limit || d->n <= o->limit, "limit");
    for (int64_t i = 0; i < d->n; i++) {
        const struct plumb_record *r = &d->record[i];
        require(r->line > (i ? r[-1].line : 0), "lines in order");
        check_piece(&r->prompt, vocab);
        check_piece(&r->context, vocab);
        check_piece(&r->principled, vocab);
        check_piece(&r->completion[0], vocab);
        check_piece(&r->completion[1], vocab);
        require(r->prompt.len > 0 || r->prompt.n > 0, "an empty prompt");
        const int64_t longer =
            r->completion[0].n > r->completion[1].n ? r->completion[0].n : r->completion[1].n;
        require(!o->max_prompt_tokens || r->prompt.n <= o->max_prompt_tokens, "prompt's length");
        require(!o->max_tokens || r->prompt.n + longer <= o->max_tokens, "record's length");
        if (r->id)
            require(strlen(r->id) < SIZE_MAX, "id");
        if (r->solution)
            require(strlen(r->solution) < SIZE_MAX, "solution");
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    if (n < 2)
        return 0;
    const unsigned on = bytes[1];
    const struct plumb_data_options o = {
        .kind = (enum plumb_data_kind)(bytes[0] % (PLUMB_DATA_ANY + 1)),
        .tokenizer = on & IDS ? tokenizer() : NULL,
        .vocab = on & IDS ? 0 : 12,
        .append_eos = (on & EOS) != 0,
        .no_special = (on & BARE) != 0,
        .overlong = on & SKIP_LONG ? PLUMB_OVERLONG_DROP : PLUMB_OVERLONG_ERROR,
        .max_prompt_tokens = on & SKIP_LONG ? 40 : 0,
        .max_tokens = on & SKIP_LONG ? 60 : 0,
        .blank_lines = (on & BLANK) != 0,
        .principle = on & PRINCIPLE ? "be kind" : NULL,
        .prompt_template = on & CHAT ? "{#messages}<{role}>{content}{/messages}" : NULL,
        .limit = on & FEW ? 2 : 0,
    };
    struct plumb_dataset *d;
    const plumb_status st =
        plumb_dataset_parse(&d, (const char *)bytes + 2, (int64_t)n - 2, "fuzz", &o);
    if (st == PLUMB_OK)
        check(d, &o, 12);
    else
        require(!d && (st == PLUMB_ERR_FORMAT || st == PLUMB_ERR_ARG ||
                       /* for a field that plumb does not support, such as "partial" */
                       st == PLUMB_ERR_UNSUPPORTED),
                plumb_trail());
    plumb_dataset_close(&d);
    return 0;
}
