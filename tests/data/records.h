/* records.h - the tokenizer and the file of tests that read records.
 * Test. Includes tests/world.h, io/, text/. */
#ifndef PLUMB_TEST_DATA_RECORDS_H
#define PLUMB_TEST_DATA_RECORDS_H

#include "base/buf.h"
#include "harness.h"
#include "io/file.h"
#include "text/tokenizer.h"
#include "world.h"

/* A prompt template for conversations, and JSON objects of single messages. */
#define CHAT    "{#messages}[{role}]{content}\n{/messages}[assistant]"
#define USER(t) "{\"role\":\"user\",\"content\":\"" t "\"}"
#define BOT(t)  "{\"role\":\"assistant\",\"content\":\"" t "\"}"
#define SYS(t)  "{\"role\":\"system\",\"content\":\"" t "\"}"

/* A temporary folder, the data file in it that a test writes, and a byte-level tokenizer. */
static char dir[] = "/tmp/plumb-records-XXXXXX", path[64];
static plumb_tokenizer *tokenizer;

/* Makes the folder and opens the tokenizer. */
static void records_begin(void)
{
    struct plumb_buf b = {0};
    char at[64];
    int vocab;
    CHECK(mkdtemp(dir));
    snprintf(at, sizeof at, "%s/tokenizer.json", dir);
    snprintf(path, sizeof path, "%s/data.jsonl", dir);
    CHECK_OK(world_put_tokenizer(&b, &vocab, " the the the", 262));
    CHECK_OK(plumb_file_write_atomic(at, b.data, b.len));
    plumb_buf_clear(&b);
    snprintf(at, sizeof at, "%s/tokenizer_config.json", dir);
    CHECK_OK(plumb_buf_add_text(&b, "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}"));
    CHECK_OK(plumb_file_write_atomic(at, b.data, b.len));
    plumb_buf_fini(&b);
    CHECK_OK(plumb_tokenizer_open(&tokenizer, dir));
}

static void records_end(void)
{
    plumb_tokenizer_close(&tokenizer);
    CHECK_OK(plumb_dir_remove(dir));
}

#endif
