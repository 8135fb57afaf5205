/* spm.h - a tokenizer.json with a dozen tokens: a BPE in the style of SentencePiece that can encode
 * any text.
 * Test. Includes nothing. */
#ifndef PLUMB_TESTS_FUZZ_SPM_H
#define PLUMB_TESTS_FUZZ_SPM_H

static const char spm[] =
    "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"fuse_unk\":true,\"unk_token\":\"<unk>\","
    "\"vocab\":{\"<unk>\":0,\"<0xC3>\":1,\"<0xA9>\":2,\"\xe2\x96\x81\":3,\"a\":4,\"b\":5,\"ab\":6,"
    "\"\xe2\x96\x81"
    "ab\":7,\"\xe2\x96\x81\xe2\x96\x81\":8,\"<0xFF>\":9},\"merges\":[\"a b\",\"\xe2\x96\x81 ab\","
    "\"\xe2\x96\x81 \xe2\x96\x81\"]},\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
    "{\"type\":\"NFKC\"},{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]},\"added_tokens\":[{\"id\":0,"
    "\"content\":\"<unk>\",\"special\":true},{\"id\":10,\"content\":\"<s>\",\"special\":true,"
    "\"lstrip\":true,\"rstrip\":true},{\"id\":11,\"content\":\"w\",\"single_word\":true}],"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{"
    "\"String\":"
    "\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]}}";

#endif
