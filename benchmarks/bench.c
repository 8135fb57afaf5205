/* bench.c - shared by the benchmarks of whole models: options, the device, random models, and
 * result lines. Benchmarks only. Includes bench.h, bench_cuda.h, io/. */
#include "bench.h"

#include <stdarg.h>

#include "io/file.h"
#ifdef PLUMB_HAVE_CUDA
#include "bench_cuda.h"
#endif

/* ---- options -------------------------------------------------------------------------------- */

/* Returns the value if word is NAME=VALUE, else NULL. */
static const char *value_of(const char *word, const char *name, size_t n)
{
    return strncmp(word, name, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

struct bench_args bench_args(int argc, char **argv, const char *names)
{
    for (int i = 1; i < argc; i++) {
        bool known = false;
        for (const char *p = names; *p && !known;) {
            const size_t n = strcspn(p, " ");
            known = value_of(argv[i], p, n) != NULL;
            p += n + strspn(p + n, " ");
        }
        if (known)
            continue;
        fprintf(stderr, "%s: '%s', expected NAME=VALUE with one of: %s\n", argv[0], argv[i], names);
        exit(2);
    }
    return (struct bench_args){argc - 1, argv + 1};
}

const char *bench_text(const struct bench_args *a, const char *name, const char *fallback)
{
    for (int i = a->n - 1; i >= 0; i--) {
        const char *value = value_of(a->word[i], name, strlen(name));
        if (value)
            return value;
    }
    return fallback;
}

/* Reads one number from a comma-separated list and advances *text to the next number. Exits unless
 * the number is within [least, most]. */
static int64_t number(const char **text, const char *name, int64_t least, int64_t most)
{
    char *end;
    const int64_t n = strtoll(*text, &end, 10);
    if (end == *text || (*end && *end != ',') || n < least || n > most) {
        fprintf(stderr, "%s=%s, expected a number from %lld to %lld\n", name, *text,
                (long long)least, (long long)most);
        exit(2);
    }
    *text = *end ? end + 1 : end;
    return n;
}

int64_t bench_number(const struct bench_args *a, const char *name, int64_t least, int64_t most,
                     int64_t fallback)
{
    const char *text = bench_text(a, name, NULL);
    return text ? number(&text, name, least, most) : fallback;
}

int bench_numbers(const struct bench_args *a, const char *name, int64_t least, const char *fallback,
                  int64_t *out, int most)
{
    const char *text = bench_text(a, name, fallback);
    int n = 0;
    while (*text && n < most)
        out[n++] = number(&text, name, least, INT64_C(1) << 40);
    return n;
}

/* ---- devices --------------------------------------------------------------------------------- */

static enum plumb_dtype dtype_of(const char *name)
{
    if (strcmp(name, "float32") == 0)
        return PLUMB_F32;
    if (strcmp(name, "bfloat16") == 0)
        return PLUMB_BF16;
    fprintf(stderr, "dtype=%s, expected float32 or bfloat16\n", name);
    exit(2);
}

static double cpu_bandwidth(const struct bench_device *d)
{
    return ceiling_read(d->memory, d->copy_bytes);
}

static double cpu_rate(const struct bench_device *d)
{
    (void)d;
    return ceiling_fma(0.2);
}

static int64_t cpu_memory_used(const struct bench_device *d)
{
    (void)d;
    return 0;
}

static void cpu_init(struct bench_device *d)
{
    d->copy_bytes = (int64_t)1 << 30;
    d->memory = ceiling_alloc(d->copy_bytes);
    if (!d->memory)
        exit(1);
    memset(d->memory, 1, (size_t)d->copy_bytes);
    d->bandwidth = cpu_bandwidth;
    d->rate = cpu_rate;
    d->memory_used = cpu_memory_used;
    BENCH_OK(plumb_backend_cpu_create(&d->b, 1, 1));
}

void bench_device_init(struct bench_device *d, const struct bench_args *a)
{
    const char *device = bench_text(a, "device", "cpu");
    *d = (struct bench_device){.dtype = dtype_of(bench_text(a, "dtype", "float32"))};
    if (strcmp(device, "cpu") == 0) {
        cpu_init(d);
        BENCH_OK(plumb_backend_set_dtype(d->b, d->dtype));
        return;
    }
#ifdef PLUMB_HAVE_CUDA
    if (strcmp(device, "cuda") == 0) {
        d->copy_bytes = bench_number(a, "copy", 4096, INT64_C(1) << 36, INT64_C(1) << 31);
        d->matrix = bench_number(a, "matrix", 16, 1 << 16, d->dtype == PLUMB_F32 ? 4096 : 8192);
        bench_cuda_init(d);
        BENCH_OK(plumb_backend_set_dtype(d->b, d->dtype));
        return;
    }
#endif
    fprintf(stderr, "device=%s: expected cpu, or cuda in builds with CUDA\n", device);
    exit(2);
}

void bench_device_fini(struct bench_device *d)
{
    plumb_backend_destroy(&d->b);
    free(d->memory);
}

static void read_pins(struct plumb_backend *b, const char *path)
{
    struct plumb_buf text = {0};
    if (!*path || !plumb_file_exists(path))
        return;
    BENCH_OK(plumb_file_read_text(&text, path, "a text file"));
    BENCH_OK(b->gemm_cache_read(b, plumb_buf_text(&text)));
    plumb_buf_fini(&text);
}

struct plumb_joined bench_joined(const struct plumb_backend *b, const struct bench_shape *s)
{
    const int64_t d = s->c / s->h;
    const struct plumb_spec spec = {
        .c = s->c, .h = s->h, .hk = s->hk, .d = d, .f = s->f, .block.gated = true};
    return plumb_joined_of(b, &spec);
}

void bench_tune(struct bench_device *d, const struct bench_args *a, const char *shape)
{
    const struct bench_shape *s = bench_shape(shape);
    const char *path = bench_text(a, "pins", "");
    struct plumb_backend *b = d->b;
    const int64_t kv = (int64_t)s->c / s->h * s->hk;
    const struct plumb_joined joined = bench_joined(b, s);
    const unsigned back = PLUMB_GEMM_BACKWARD_X | PLUMB_GEMM_BACKWARD_W;
    const unsigned both = PLUMB_GEMM_FORWARD | back;
    const struct {
        int64_t out, in;
        unsigned uses;
    } size[] = {{s->c, s->c, both},
                {kv, s->c, joined.qkv ? back : both},
                {s->c + 2 * kv, s->c, joined.qkv ? PLUMB_GEMM_FORWARD : 0},
                {s->f, s->c, joined.gate_up ? 0 : both},
                {2 * s->f, s->c, joined.gate_up ? both : 0},
                {s->c, s->f, both}};
    struct plumb_buf text = {0};
    if (!b->gemm_cache_tune)
        return;
    read_pins(b, path);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (size[i].uses)
            BENCH_OK(b->gemm_cache_tune(b, size[i].out, size[i].in, size[i].uses));
    BENCH_OK(b->gemm_cache_tune(b, s->v, s->c, PLUMB_GEMM_HEAD | back));
    BENCH_OK(b->gemm_cache_write(b, &text));
    if (*path)
        BENCH_OK(plumb_file_write_atomic(path, text.data, text.len));
    plumb_buf_fini(&text);
}

double bench_now(const struct bench_device *d)
{
    BENCH_OK(d->b->sync(d->b));
    return ceiling_now();
}

/* ---- models ---------------------------------------------------------------------------------- */

/* Shape 1.1b has the sizes of TinyLlama. Shape 8b.4 has 4 of the 32 layers of Llama 3 8B. Its
 * vocabulary is 32000 instead of 128256, so that the vocabulary head has about the same share of
 * the work as in the whole model. */
static const struct bench_shape shapes[] = {
    {"tiny", 64, 2, 4, 2, 128, 256, true},         {"0.1b", 768, 12, 12, 12, 2048, 32000, true},
    {"0.5b", 1280, 26, 20, 4, 3456, 32000, true},  {"1.1b", 2048, 22, 32, 4, 5632, 32000, false},
    {"8b.4", 4096, 4, 32, 8, 14336, 32000, false},
};

const struct bench_shape *bench_shape(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    fprintf(stderr, "shape=%s, expected 0.1b, 0.5b, 1.1b, 8b.4 or tiny\n", name);
    exit(2);
}

plumb_model *bench_model(struct plumb_backend *b, const char *shape)
{
    const struct bench_shape *s = bench_shape(shape);
    char dir[] = "/tmp/plumb_bench_XXXXXX", path[64], config[640];
    plumb_model *m;
    const int n = snprintf(
        config, sizeof config,
        "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": "
        "%d, \"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
        "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
        "\"max_position_embeddings\": 2048, \"tie_word_embeddings\": %s}",
        s->v, s->c, s->f, s->l, s->h, s->hk, s->tied ? "true" : "false");
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(1);
    }
    snprintf(path, sizeof path, "%s/config.json", dir);
    BENCH_OK(plumb_file_write_atomic(path, config, n));
    BENCH_OK(plumb_model_create(&m, b, dir, 1));
    BENCH_OK(plumb_dir_remove(dir));
    return m;
}

int64_t bench_parameters(const plumb_model *m)
{
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_param; i++)
        n += m->param[i].count;
    return n;
}

int64_t bench_parameters_read(const plumb_model *m)
{
    return bench_parameters(m) - (m->spec.tied ? 0 : m->spec.v * m->spec.c);
}

/* ---- results --------------------------------------------------------------------------------- */

void bench_result(const char *part, const char *what, double value, const char *unit,
                  const char *note, ...)
{
    va_list ap;
    va_start(ap, note);
    printf("=\t%s\t%s\t%.6g\t%s\t", part, what, value, unit);
    vprintf(note, ap);
    putchar('\n');
    fflush(stdout);
    va_end(ap);
}
