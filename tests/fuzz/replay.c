/* replay.c - runs a fuzz target without a fuzzer on a folder of input files: on each file, on
 * beginnings of it, and on copies with one changed byte.
 * Test. Includes io/, base/. */
#include <stdio.h>

#include "harness.h"
#include "io/file.h"

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t n);

enum { PIECES = 64, CHANGES = 512 };

/* Runs the target on a copy of exactly n bytes, so that the address sanitizer finds reads after its
 * end. The byte at `at` is XORed with `change`. */
static void run(const unsigned char *bytes, int64_t n, int64_t at, unsigned char change)
{
    unsigned char *copy = malloc((size_t)n + (n == 0));
    CHECK(copy);
    memcpy(copy, bytes, (size_t)n);
    if (change)
        copy[at] ^= change;
    CHECK(LLVMFuzzerTestOneInput(copy, (size_t)n) == 0);
    free(copy);
}

int main(int argc, char **argv)
{
    struct plumb_names names;
    struct rng r = {12345};
    int64_t runs = 0;
    CHECK(argc == 2);
    CHECK_OK(plumb_dir_list(&names, argv[1]));
    CHECKF(names.n > 0, "%s has no inputs", argv[1]);
    for (int64_t i = 0; i < names.n; i++) {
        char path[1024];
        struct plumb_buf b = {0};
        CHECK_OK(plumb_path_join(path, sizeof path, argv[1], names.name[i]));
        CHECK_OK(plumb_file_read(&b, path));
        const unsigned char *bytes = (const unsigned char *)plumb_buf_text(&b);
        for (int64_t k = 0; k <= PIECES; k++, runs++)
            run(bytes, b.len * k / PIECES, 0, 0);
        for (int64_t k = 0; k < CHANGES && b.len > 0; k++, runs++) {
            const int64_t at = (int64_t)(rng_u(&r) * (double)b.len);
            run(bytes, b.len, at, (unsigned char)(1 + rng_u(&r) * 255));
        }
        plumb_buf_fini(&b);
    }
    printf("%lld inputs from %lld files\n", (long long)runs, (long long)names.n);
    plumb_names_fini(&names);
    return 0;
}
