/* bpe.c - trains a small byte-level BPE tokenizer and writes it as tokenizer.json.
 * Tool; includes base/. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define MAX_PIECES 4096
#define MAX_PIECE  32
#define MAX_VOCAB  4096
#define SPECIALS   3

/* A piece of text as the pre-tokenizer cuts it (about a word): its bytes, the n tokens that it
 * consists of so far, and how often it occurs. */
struct piece {
    char text[MAX_PIECE];
    int16_t token[MAX_PIECE];
    int n;
    int64_t count;
};
struct trainer {
    struct piece piece[MAX_PIECES];
    int n_pieces, n_tokens;
    char token[MAX_VOCAB][MAX_PIECE]; /* bytes of each token, NUL-terminated */
    int left[MAX_VOCAB], right[MAX_VOCAB];
    int64_t pair[MAX_VOCAB][MAX_VOCAB];
};

/* Returns the length of the next piece of s. For texts of letters, punctuation and single spaces
 * the pieces are those of GPT-2's regular expression: an optional space followed by letters or by
 * punctuation, or one white-space character. */
static int cut(const char *s)
{
    const int lead = s[0] == ' ' && s[1] && !isspace((unsigned char)s[1]);
    int n = lead;
    if (isspace((unsigned char)s[n]))
        return n + 1;
    const int letters = isalpha((unsigned char)s[n]) != 0;
    while (s[n] && !isspace((unsigned char)s[n]) && (isalpha((unsigned char)s[n]) != 0) == letters)
        n++;
    return n;
}

/* Returns true if b is a printable Latin-1 character. byte_rank returns the position of a byte in
 * GPT-2's order, which has the printable characters first and then the other bytes. */
static int printable(int b)
{
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}
static int byte_rank(int byte)
{
    int rank = 0;
    for (int b = 0; b < byte; b++)
        rank += printable(b) == printable(byte);
    if (!printable(byte))
        for (int b = 0; b < 256; b++)
            rank += printable(b);
    return rank;
}
/* Writes the character that stands for a byte in tokenizer.json: the byte itself if it is
 * printable, else a character from U+0100 onwards. */
static plumb_status put_byte(struct plumb_buf *out, unsigned char byte)
{
    int shifted = 0x100;
    for (int b = 0; b < byte; b++)
        shifted += !printable(b);
    const int c = printable(byte) ? byte : shifted;
    if (c < 0x80) {
        const char quoted[2] = {'\\', (char)c};
        return c == '"' || c == '\\' ? plumb_buf_add(out, quoted, 2)
                                     : plumb_buf_add(out, quoted + 1, 1);
    }
    const char utf8[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
    return plumb_buf_add(out, utf8, 2);
}
static plumb_status put_token(struct plumb_buf *out, const char *token)
{
    for (const char *p = token; *p; p++)
        PLUMB_TRY(put_byte(out, (unsigned char)*p));
    return PLUMB_OK;
}

static plumb_status count_pieces(struct trainer *t, const char *text)
{
    for (const char *s = text; *s;) {
        const int n = cut(s);
        PLUMB_REQUIRE(n < MAX_PIECE, PLUMB_ERR_ARG,
                      "tokenizer training text: a word is longer than %d letters", MAX_PIECE - 1);
        int i = 0;
        while (i < t->n_pieces &&
               (strncmp(t->piece[i].text, s, (size_t)n) != 0 || t->piece[i].text[n]))
            i++;
        if (i == t->n_pieces) {
            PLUMB_REQUIRE(i < MAX_PIECES, PLUMB_ERR_ARG,
                          "tokenizer training text: more than %d different words", MAX_PIECES);
            t->n_pieces++;
            memcpy(t->piece[i].text, s, (size_t)n);
            t->piece[i].n = n;
            for (int k = 0; k < n; k++)
                t->piece[i].token[k] = (int16_t)(SPECIALS + byte_rank((unsigned char)s[k]));
        }
        t->piece[i].count++;
        s += n;
    }
    return PLUMB_OK;
}

/* Merges the most frequent pair of adjacent tokens into a new token. Returns 0 if there is no pair
 * left. */
static int merge_best(struct trainer *t)
{
    const int v = t->n_tokens;
    for (int a = 0; a < v; a++)
        memset(t->pair[a], 0, (size_t)v * sizeof t->pair[a][0]);
    for (int i = 0; i < t->n_pieces; i++)
        for (int k = 0; k + 1 < t->piece[i].n; k++)
            t->pair[t->piece[i].token[k]][t->piece[i].token[k + 1]] += t->piece[i].count;
    int64_t best = 0;
    for (int a = 0; a < v; a++)
        for (int b = 0; b < v; b++)
            if (t->pair[a][b] > best) {
                best = t->pair[a][b];
                t->left[v] = a;
                t->right[v] = b;
            }
    if (best == 0)
        return 0;
    const int a = t->left[v], b = t->right[v];
    const size_t head = strlen(t->token[a]), tail = strlen(t->token[b]);
    memcpy(t->token[v], t->token[a], head);
    memcpy(t->token[v] + head, t->token[b], tail);
    for (int i = 0; i < t->n_pieces; i++) {
        struct piece *p = &t->piece[i];
        int n = 0;
        for (int k = 0; k < p->n; k++) {
            const int joined = k + 1 < p->n && p->token[k] == a && p->token[k + 1] == b;
            p->token[n++] = (int16_t)(joined ? v : p->token[k]);
            k += joined;
        }
        p->n = n;
    }
    t->n_tokens++;
    return 1;
}

static plumb_status put_head(struct plumb_buf *out)
{
    static const char *const special[SPECIALS] = {"<s>", "</s>", "<pad>"};
    const char *sep = "";
    PLUMB_TRY(plumb_buf_add_text(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
                                      "\"added_tokens\":["));
    for (int i = 0; i < SPECIALS; i++, sep = ",")
        PLUMB_TRY(plumb_buf_addf(out,
                                 "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":"
                                 "false,\"rstrip\":false,\"normalized\":false,\"special\":true}",
                                 sep, i, special[i]));
    PLUMB_TRY(plumb_buf_add_text(
        out,
        "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
        "false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":{\"type\":"
        "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"SpecialToken\":{\"id\":"
        "\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"Sequence\":{"
        "\"id\":\"B\",\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0]"
        ",\"tokens\":[\"<s>\"]}}},\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
        "true,\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\""
        ":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":"
        "null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{"));
    for (int i = 0; i < SPECIALS; i++)
        PLUMB_TRY(plumb_buf_addf(out, "%s\"%s\":%d", i ? "," : "", special[i], i));
    return PLUMB_OK;
}

static plumb_status put_file(struct plumb_buf *out, const struct trainer *t)
{
    PLUMB_TRY(put_head(out));
    for (int byte = 0; byte < 256; byte++) {
        PLUMB_TRY(plumb_buf_add_text(out, ",\""));
        PLUMB_TRY(put_byte(out, (unsigned char)byte));
        PLUMB_TRY(plumb_buf_addf(out, "\":%d", SPECIALS + byte_rank(byte)));
    }
    for (int i = SPECIALS + 256; i < t->n_tokens; i++) {
        PLUMB_TRY(plumb_buf_add_text(out, ",\""));
        PLUMB_TRY(put_token(out, t->token[i]));
        PLUMB_TRY(plumb_buf_addf(out, "\":%d", i));
    }
    PLUMB_TRY(plumb_buf_add_text(out, "},\"merges\":["));
    for (int i = SPECIALS + 256; i < t->n_tokens; i++) {
        PLUMB_TRY(plumb_buf_add_text(out, i > SPECIALS + 256 ? ",\"" : "\""));
        PLUMB_TRY(put_token(out, t->token[t->left[i]]));
        PLUMB_TRY(plumb_buf_add_text(out, " "));
        PLUMB_TRY(put_token(out, t->token[t->right[i]]));
        PLUMB_TRY(plumb_buf_add_text(out, "\""));
    }
    return plumb_buf_add_text(out, "]}}\n");
}

plumb_status world_put_tokenizer(struct plumb_buf *out, int *size, const char *text, int vocab)
{
    PLUMB_REQUIRE(vocab >= SPECIALS + 256 && vocab <= MAX_VOCAB, PLUMB_ERR_ARG,
                  "vocabulary of %d tokens: expected %d to %d", vocab, SPECIALS + 256, MAX_VOCAB);
    struct trainer *t = calloc(1, sizeof *t);
    PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "no memory for the tokenizer's %zu bytes", sizeof *t);
    plumb_status st = PLUMB_OK;
    for (int b = 1; b < 256; b++)
        t->token[SPECIALS + byte_rank(b)][0] = (char)b;
    t->n_tokens = SPECIALS + 256;
    PLUMB_TRY_GOTO(st, count_pieces(t, text), fail);
    while (t->n_tokens < vocab && merge_best(t))
        ;
    *size = t->n_tokens;
    PLUMB_TRY_GOTO(st, put_file(out, t), fail);
fail:
    free(t);
    return st;
}
