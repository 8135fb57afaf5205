/* fuzz_spec.c - reads any bytes as config.json. plumb must refuse them, or give sizes whose memory
 * layout can be computed.
 * Test. Includes model/, base/.
 *
 * The bytes after the last NUL byte of the input are generation_config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/net.h"
#include "model/spec.h"

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

static char dir[] = "/tmp/plumb_fuzz_spec_XXXXXX";
static char model_file[64], generation_file[64];

static void remove_dir(void)
{
    unlink(model_file);
    unlink(generation_file);
    rmdir(dir);
}

static void make_dir(void)
{
    if (!mkdtemp(dir) || atexit(remove_dir) != 0)
        abort();
    snprintf(model_file, sizeof model_file, "%s/config.json", dir);
    snprintf(generation_file, sizeof generation_file, "%s/generation_config.json", dir);
}

static void write_file(const char *path, const unsigned char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static int64_t packed_count(int64_t rows, int64_t cols)
{
    return rows * cols;
}

static void check_layers(const struct plumb_spec *s)
{
    if (s->n_rope < 1 || s->n_rope > PLUMB_MAX_ROPE)
        abort();
    for (int i = 0; i < s->n_rope; i++) {
        const struct plumb_rope *o = &s->rope[i];
        if (o->columns < 2 || o->columns % 2 || o->columns > s->d || !(o->theta > 1) ||
            !(o->attention_factor >= 0))
            abort();
    }
    for (int64_t l = 0; l < s->l; l++)
        if (s->rotation[l] < -1 || s->rotation[l] >= s->n_rope || (s->windowed[l] && s->window < 1))
            abort();
}

static void check(const struct plumb_spec *s)
{
    if (s->v < 1 || s->c < 1 || s->f < 1 || s->l < 1 || s->h < 1 || s->hk < 1 || s->h % s->hk ||
        s->d < 2 || s->d % 2 || s->max_pos < 1 || s->labels < 0 || s->window < 0 || !(s->eps > 0) ||
        !(s->init_range > 0))
        abort();
    check_layers(s);
    if (s->n_eos < 0 || s->n_eos > PLUMB_MAX_EOS || s->bos < -1 || s->bos >= s->v)
        abort();
    for (int i = 0; i < s->n_eos; i++)
        if (s->eos[i] < 0 || s->eos[i] >= s->v)
            abort();
    if (!plumb_spec_architecture(s) || !plumb_spec_same_sizes(s, s))
        abort();
    const struct plumb_backend b = {.k = {.linear_packed_count = packed_count}};
    int64_t tensors, count, packed;
    const plumb_status st =
        plumb_params_layout(NULL, NULL, &tensors, &count, &packed, s, &b, PLUMB_FORM_WHOLE);
    if (st == PLUMB_OK ? tensors < 3 || count < s->v * s->c || packed < 0
                       : st != PLUMB_ERR_UNSUPPORTED)
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n)
{
    if (!model_file[0])
        make_dir();
    const unsigned char *nul = n ? memrchr(bytes, 0, n) : NULL;
    write_file(model_file, bytes, nul ? (size_t)(nul - bytes) : n);
    if (nul)
        write_file(generation_file, nul + 1, n - (size_t)(nul + 1 - bytes));
    else
        unlink(generation_file);
    struct plumb_spec s;
    const plumb_status st = plumb_spec_read(&s, dir);
    if (st == PLUMB_OK)
        check(&s);
    else if (st != PLUMB_ERR_FORMAT && st != PLUMB_ERR_UNSUPPORTED)
        abort();
    return 0;
}
