/* test_ordered.c - checks that numbered texts that are put in any order are written in the order of
 * their numbers.
 * Test. Includes harness.h, io/. */
#include "io/ordered.h"

#include "harness.h"

enum { N = 1000, NOTHING = -1 };

struct sink {
    struct plumb_buf text;
    int64_t calls, fails_at; /* fails_at: number of the call that fails */
};

static plumb_status take(void *arg, const char *text, int64_t len)
{
    struct sink *s = arg;
    PLUMB_REQUIRE(s->calls++ != s->fails_at, PLUMB_ERR_IO, "the sink is full");
    return plumb_buf_add(&s->text, text, len);
}

static plumb_status put(struct plumb_ordered *o, int64_t number)
{
    char line[32];
    const int n = snprintf(line, sizeof(line), "%lld\n", (long long)number);
    return plumb_ordered_put(o, number, line, n);
}

/* Checks that exactly the lines first .. end-1 were written, in order. */
static void check_lines(const struct sink *s, int64_t first, int64_t end)
{
    struct plumb_buf want = {0};
    for (int64_t i = first; i < end; i++)
        CHECK_OK(plumb_buf_addf(&want, "%lld\n", (long long)i));
    CHECK(s->text.len == want.len);
    CHECK(memcmp(plumb_buf_text(&s->text), plumb_buf_text(&want), (size_t)want.len) == 0);
    plumb_buf_fini(&want);
}

static void any_order(uint64_t seed, int64_t first)
{
    struct rng r = {seed};
    struct sink sink = {.fails_at = NOTHING};
    struct plumb_ordered o;
    int64_t order[N];
    for (int64_t i = 0; i < N; i++)
        order[i] = first + i;
    for (int64_t i = N - 1; i > 0; i--) {
        const int64_t k = (int64_t)(rng_u(&r) * (double)(i + 1)), other = order[i];
        order[i] = order[k];
        order[k] = other;
    }
    plumb_ordered_init(&o, first, take, &sink);
    for (int64_t i = 0; i < N; i++) {
        CHECK_OK(put(&o, order[i]));
        CHECK(o.waiting == i + 1 - (o.next - first));
        /* each text is written as soon as all earlier ones are written */
        check_lines(&sink, first, o.next);
    }
    CHECK(o.next == first + N && o.waiting == 0 && o.bytes == 0 && sink.calls == N);
    plumb_ordered_fini(&o);
    plumb_buf_fini(&sink.text);
}

/* Checks that texts put in order are not kept in memory. Texts put a little too early need only a
 * small ring buffer, however many texts there are. */
static void distance(void)
{
    struct sink sink = {.fails_at = NOTHING};
    struct plumb_ordered o;
    plumb_ordered_init(&o, 0, take, &sink);
    for (int64_t i = 0; i < N; i++)
        CHECK_OK(put(&o, i));
    CHECK(o.cap == 0);
    for (int64_t i = N; i < 3 * N; i += 2) {
        CHECK_OK(put(&o, i + 1));
        CHECK(o.waiting == 1 && o.bytes == 5);
        CHECK_OK(put(&o, i));
    }
    CHECK(o.cap > 0 && o.cap <= 16);
    check_lines(&sink, 0, 3 * N);
    plumb_ordered_fini(&o);
    plumb_buf_fini(&sink.text);
}

static void faults(void)
{
    struct sink sink = {.fails_at = 1};
    struct plumb_ordered o;
    plumb_ordered_init(&o, 5, take, &sink);
    CHECK_FAILS(put(&o, 4), PLUMB_ERR_ARG, "line 4 was given twice");
    CHECK_OK(put(&o, 7));
    CHECK_FAILS(put(&o, 7), PLUMB_ERR_ARG, "line 7 was given twice");
    CHECK_OK(put(&o, 6));
    CHECK(sink.calls == 0);
    CHECK_FAILS(put(&o, 5), PLUMB_ERR_IO, "the sink is full");
    check_lines(&sink, 5, 6); /* line 5 was written before the error */
    CHECK(o.next == 6 && o.waiting == 2);
    plumb_ordered_fini(&o); /* frees the texts that are not written yet */
    plumb_buf_fini(&sink.text);
}

int main(void)
{
    any_order(1, 0);
    any_order(2, 123456);
    distance();
    faults();
    return 0;
}
