/* bench_tokenizer.c - speed of encoding and decoding a text in MB/s, one thread.
 *     build/benchmarks/bench_tokenizer TOKENIZER_FOLDER TEXT_FILE
 * To measure huggingface/tokenizers in the same way:
 *     python3 -c 'import sys, time; from tokenizers import Tokenizer
 *     t = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json"); s = open(sys.argv[2]).read()
 *     b = time.process_time(); n = len(t.encode(s).ids); d = time.process_time() - b
 *     print(n, len(s.encode()) / d / 1e6, "MB/s")' TOKENIZER_FOLDER TEXT_FILE */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "io/file.h"
#include "text/tokenizer.h"

#define ROUNDS 5

static int fail(void)
{
    fputs(plumb_trail(), stderr);
    return 1;
}

int main(int argc, char **argv)
{
    plumb_tokenizer *t = NULL;
    struct plumb_buf text = {0}, back = {0};
    struct plumb_ids ids = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: bench_tokenizer TOKENIZER_FOLDER TEXT_FILE\n");
        return 2;
    }
    double before = plumb_now();
    if (plumb_tokenizer_open(&t, argv[1]) || plumb_file_read(&text, argv[2]))
        return fail();
    printf("open      %8.3f s\n", plumb_now() - before);
    for (int i = 0; i < ROUNDS; i++) {
        ids.n = 0;
        plumb_buf_clear(&back);
        before = plumb_now();
        if (plumb_tokenizer_encode(t, &ids, text.data, text.len, false))
            return fail();
        const double encoded = plumb_now();
        if (plumb_tokenizer_decode(t, &back, ids.id, ids.n, false))
            return fail();
        printf("round %d   encode %7.1f MB/s   decode %7.1f MB/s   %lld bytes, %lld tokens\n",
               i + 1, 1e-6 * (double)text.len / (encoded - before),
               1e-6 * (double)back.len / (plumb_now() - encoded), (long long)text.len,
               (long long)ids.n);
    }
    plumb_ids_fini(&ids);
    plumb_buf_fini(&text);
    plumb_buf_fini(&back);
    plumb_tokenizer_close(&t);
    return 0;
}
