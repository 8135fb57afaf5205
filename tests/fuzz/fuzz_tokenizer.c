/* fuzz_tokenizer.c - uses any bytes as a tokenizer.json, as a regular expression in one, or as a
 * text.
 * Test.
 *
 * The first byte of the input selects the use. The rest is split at its last NUL byte: the file or
 * expression comes first, the text after it. */
#include "io/json.h"
#include "spm.h"
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

/* Encodes a text twice, which must give the same ids. Then decodes ids, which may fail: the ids of
 * the text, all at once and one after another, and arbitrary ids. */
static void use(const plumb_tokenizer *t, const char *text, int64_t n)
{
    struct plumb_ids ids = {0}, again = {0};
    struct plumb_buf out = {0};
    struct plumb_decode_stream s = {0};
    if (plumb_tokenizer_encode(t, &ids, text, n, true) == PLUMB_OK) {
        if (plumb_tokenizer_encode(t, &again, text, n, true) || again.n != ids.n ||
            (ids.n && memcmp(ids.id, again.id, (size_t)ids.n * sizeof *ids.id) != 0))
            abort();
        (void)!plumb_tokenizer_decode(t, &out, ids.id, ids.n, false);
        for (int64_t i = 0; i < ids.n && i < 64; i++)
            (void)!plumb_decode_stream_add(&s, t, &out, ids.id[i]);
        (void)!plumb_decode_stream_end(&s, t, &out);
    }
    ids.n = 0;
    for (int64_t i = 0; i < n && i < 64; i++) /* arbitrary ids */
        if (plumb_ids_add(&ids, (unsigned char)text[i]))
            abort();
    plumb_buf_clear(&out);
    (void)!plumb_tokenizer_decode(t, &out, ids.id, ids.n, true);
    plumb_decode_stream_fini(&s);
    plumb_buf_fini(&out);
    plumb_ids_fini(&ids);
    plumb_ids_fini(&again);
}

static plumb_status file_with_expression(struct plumb_buf *out, const char *expr, int64_t n)
{
    PLUMB_TRY(plumb_buf_add_text(out,
                                 "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":"
                                 "[\"a b\"]},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":"
                                 "{\"Regex\":"));
    PLUMB_TRY(plumb_json_put_string(out, expr, n));
    return plumb_buf_add_text(out, "},\"behavior\":\"MergedWithNext\",\"invert\":false}}");
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    struct plumb_buf file = {0};
    plumb_tokenizer *t = NULL;
    if (n < 1)
        return 0;
    const char *head = (const char *)bytes + 1, *nul = memrchr(head, 0, n - 1);
    const int64_t head_len = nul ? nul - head : (int64_t)n - 1;
    const char *text = nul ? nul + 1 : head;
    const int64_t len = (const char *)bytes + n - text;
    plumb_status st;
    if (bytes[0] % 3 == 0)
        st = plumb_buf_add(&file, head, head_len);
    else if (bytes[0] % 3 == 1)
        st = plumb_buf_add(&file, spm, sizeof spm - 1);
    else
        st = file_with_expression(&file, head, head_len);
    if (!st && !plumb_tokenizer_parse(&t, plumb_buf_text(&file), file.len, NULL, 0, "fuzz"))
        use(t, text, len);
    plumb_tokenizer_close(&t);
    plumb_buf_fini(&file);
    return 0;
}
