/* test_status.c - checks error texts, exit codes, and the trail of an error through its callers.
 * Test. */
#include "base/status.h"

#include <pthread.h>
#include <string.h>

#include "harness.h"

static plumb_status deepest(int value)
{
    PLUMB_REQUIRE(value < 3, PLUMB_ERR_FORMAT, "%s:%d: value %d, expected less than 3", "a.json", 7,
                  value);
    return PLUMB_OK;
}
static plumb_status middle(int value)
{
    PLUMB_TRY(deepest(value));
    return PLUMB_OK;
}
static plumb_status top(int value, int *released)
{
    plumb_status st = PLUMB_OK;
    PLUMB_TRY_GOTO(st, middle(value), fail);
    if (value == 1)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_IO, fail, "one");
fail:
    (*released)++;
    return st;
}
static plumb_status deep(int n)
{
    if (n == 0)
        PLUMB_FAIL(PLUMB_ERR_COMM, "the message stays");
    PLUMB_TRY(deep(n - 1));
    return PLUMB_OK;
}

static plumb_status no_memory(const char *what)
{
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "%s", what);
}

static void *other_thread(void *arg)
{
    (void)arg;
    CHECK(strcmp(plumb_trail(), "") == 0);
    CHECK(deepest(9) == PLUMB_ERR_FORMAT);
    CHECK(strstr(plumb_trail_message(), "value 9"));
    return NULL;
}

int main(void)
{
    int released = 0;
    CHECK(strcmp(plumb_trail(), "") == 0 && strcmp(plumb_trail_message(), "") == 0);
    CHECK(top(0, &released) == PLUMB_OK && released == 1);
    CHECK(strcmp(plumb_trail(), "") == 0);
    CHECK(top(5, &released) == PLUMB_ERR_FORMAT && released == 2);
    CHECK(strcmp(plumb_trail_message(), "a.json:7: value 5, expected less than 3") == 0);
    const char *first = strstr(plumb_trail(), "value 5");
    CHECK(first && strstr(first, "deepest(value)") && strstr(first, "middle(value)"));
    CHECK(strstr(plumb_trail(), "test_status.c:"));
    pthread_t t;
    CHECK(pthread_create(&t, NULL, other_thread, NULL) == 0 && pthread_join(t, NULL) == 0);
    /* each thread has its own trail, so the error of the other thread does not change this one */
    CHECK(strstr(plumb_trail_message(), "value 5"));
    CHECK(top(1, &released) == PLUMB_ERR_IO && released == 3);
    CHECK(strcmp(plumb_trail_message(), "one") == 0 && !strstr(plumb_trail(), "value 5"));
    CHECK(deep(500) == PLUMB_ERR_COMM);
    CHECK(strcmp(plumb_trail_message(), "the message stays") == 0);
    CHECK(strstr(plumb_trail(), "the message stays"));
    CHECK(no_memory("scores of 3 answers") == PLUMB_ERR_NOMEM);
    CHECK(strcmp(plumb_trail_message(), "out of memory: scores of 3 answers") == 0);
    CHECK(no_memory("3 GB of memory are too few") == PLUMB_ERR_NOMEM);
    CHECK(strcmp(plumb_trail_message(), "3 GB of memory are too few") == 0);
    CHECK(plumb_status_exit_code(PLUMB_OK) == 0);
#define X(name, value, text, code)                                                                 \
    CHECK(plumb_status_exit_code(name) == (code) && strcmp(plumb_status_text(name), text) == 0);
    PLUMB_STATUS_LIST(X)
#undef X
    return 0;
}
