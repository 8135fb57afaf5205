/* samples.c - writes the sample table: one line per completion, without control characters.
 * Layer 4. Includes base/, text/utf8.h. */
#include "report/samples.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/num.h"
#include "text/utf8.h"

static bool in_ranges(uint32_t rune, const uint32_t (*range)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (rune >= range[i][0] && rune <= range[i][1])
            return true;
    }
    return false;
}

/* Returns the number of terminal columns of a code point: 2 for wide characters (EastAsianWidth W
 * and F), 0 for combining marks, else 1. The tables only have the Unicode blocks that are common in
 * text. */
static int rune_columns(uint32_t rune)
{
    static const uint32_t zero[][2] = {
        {0x300, 0x36F},   {0x483, 0x489},    {0x591, 0x5BD},   {0x610, 0x61A},   {0x64B, 0x65F},
        {0x93C, 0x93C},   {0x941, 0x948},    {0x94D, 0x94D},   {0xE31, 0xE31},   {0xE34, 0xE3A},
        {0xE47, 0xE4E},   {0x1AB0, 0x1AFF},  {0x1DC0, 0x1DFF}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F},
        {0xFE20, 0xFE2F}, {0xE0100, 0xE01EF}};
    static const uint32_t wide[][2] = {
        {0x1100, 0x115F},   {0x231A, 0x231B},   {0x23E9, 0x23EC},   {0x2705, 0x2705},
        {0x2728, 0x2728},   {0x274C, 0x274C},   {0x2753, 0x2755},   {0x2B50, 0x2B50},
        {0x2E80, 0x303E},   {0x3041, 0x33FF},   {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},
        {0xA000, 0xA4CF},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
        {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF},
        {0x1F900, 0x1F9FF}, {0x1FA70, 0x1FAFF}, {0x20000, 0x3FFFD}};
    if (rune < 0x300)
        return 1;
    if (in_ranges(rune, zero, sizeof(zero) / sizeof(zero[0])))
        return 0;
    return in_ranges(rune, wide, sizeof(wide) / sizeof(wide[0])) ? 2 : 1;
}

/* Returns true if a code point moves the cursor or hides text: C0, C1, line and paragraph
 * separators, zero-width and direction marks. */
static bool is_control(uint32_t rune)
{
    return rune < 0x20 || (rune >= 0x7F && rune < 0xA0) || (rune >= 0x200B && rune <= 0x200F) ||
           (rune >= 0x2028 && rune <= 0x202E) || (rune >= 0x2060 && rune <= 0x206F) ||
           rune == 0xFEFF;
}

/* Returns the code point at *s, or a blank if is_control is true for it, and moves *s past it. */
static uint32_t next_rune(const char **s)
{
    const uint32_t rune = plumb_utf8_at(*s);
    *s += plumb_utf8_size(**s);
    return is_control(rune) ? ' ' : rune;
}

/* Returns the number of terminal columns of valid UTF-8 text; counting stops above `limit`. */
static int text_columns(const char *s, const char *end, int limit)
{
    int n = 0;
    while (s < end && n <= limit)
        n += rune_columns(next_rune(&s));
    return n;
}

static plumb_status put_rune(struct plumb_buf *out, uint32_t rune)
{
    char bytes[4];
    return plumb_buf_add(out, bytes, plumb_utf8_put(bytes, rune));
}

/* Appends the beginning of valid UTF-8 text in at most `columns` columns, with U+2026 at the end if
 * the text is longer. *used = the number of columns. */
static plumb_status cut_valid(struct plumb_buf *out, const struct plumb_buf *text, int columns,
                              int *used)
{
    const char *s = plumb_buf_text(text), *end = s + text->len;
    const bool cut = text_columns(s, end, columns) > columns;
    const int room = cut ? columns - 1 : columns;
    int n = 0;
    while (s < end && room >= 0) {
        const uint32_t rune = next_rune(&s);
        const int w = rune_columns(rune);
        if (n + w > room)
            break;
        PLUMB_TRY(put_rune(out, rune));
        n += w;
    }
    if (cut && columns >= 1) {
        PLUMB_TRY(put_rune(out, 0x2026));
        n++;
    }
    *used = n;
    return PLUMB_OK;
}

/* Does the same as cut_valid, but appends the end of the text, after U+2026 if the text is longer.
 */
static plumb_status tail_valid(struct plumb_buf *out, const struct plumb_buf *text, int columns,
                               int *used)
{
    const char *s = plumb_buf_text(text), *end = s + text->len;
    int64_t at = text->len;
    int n = 0;
    while (at > 0) {
        const int64_t before = plumb_utf8_before(s, at);
        const char *c = s + before;
        n += rune_columns(next_rune(&c));
        if (n > columns)
            break;
        at = before;
    }
    if (at == 0)
        return cut_valid(out, text, columns, used);
    *used = 0;
    if (columns < 1)
        return PLUMB_OK;
    PLUMB_TRY(put_rune(out, 0x2026));
    *used = 1;
    for (n = text_columns(s + at, end, columns); at < text->len && n > columns - 1;) {
        const char *c = s + at;
        n -= rune_columns(next_rune(&c));
        at = c - s;
    }
    bool base = false; /* a combining mark must not follow U+2026 */
    for (const char *c = s + at; c < end;) {
        const uint32_t rune = next_rune(&c);
        base = base || rune_columns(rune) > 0;
        if (!base)
            continue;
        *used += rune_columns(rune);
        PLUMB_TRY(put_rune(out, rune));
    }
    return PLUMB_OK;
}

static plumb_status cut(struct plumb_buf *out, const char *text, int columns, bool tail, int *used)
{
    struct plumb_buf valid = {0};
    int n = 0;
    plumb_status st = PLUMB_OK;
    if (text)
        st = plumb_utf8_lossy(&valid, text, (int64_t)strlen(text));
    if (!st)
        st = tail ? tail_valid(out, &valid, columns, &n) : cut_valid(out, &valid, columns, &n);
    plumb_buf_fini(&valid);
    if (used)
        *used = n;
    return st;
}

plumb_status plumb_samples_cut(struct plumb_buf *out, const char *text, int columns, int *used)
{
    return cut(out, text, columns, false, used);
}

plumb_status plumb_samples_tail(struct plumb_buf *out, const char *text, int columns, int *used)
{
    return cut(out, text, columns, true, used);
}

int plumb_samples_width(void)
{
    const char *columns = getenv("COLUMNS");
    const long n = columns ? strtol(columns, NULL, 10) : 0;
    if (n >= 40 && n <= 1000)
        return (int)n;
    struct winsize w;
    if (isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col >= 40)
        return w.ws_col;
    return 120;
}

/* Columns of a line without prompt and completion: reward 8, gap 2, kind 5, gap 1 before the
 * prompt, gap 2 between prompt and completion. */
#define FIXED_COLUMNS 18

static plumb_status put_line(struct plumb_buf *out, const char *reward, const char *kind,
                             const char *prompt, const char *completion, int prompt_columns,
                             int completion_columns)
{
    int used = 0;
    PLUMB_TRY(plumb_buf_addf(out, "%8.8s  %-5.5s ", reward, kind));
    PLUMB_TRY(plumb_samples_tail(out, prompt, prompt_columns, &used));
    PLUMB_TRY(plumb_buf_addf(out, "%*s  ", prompt_columns - used, ""));
    PLUMB_TRY(plumb_samples_cut(out, completion, completion_columns, NULL));
    return plumb_buf_add_text(out, "\n");
}

plumb_status plumb_samples_format(struct plumb_buf *out, const struct plumb_sample_row *row,
                                  int64_t n, int width)
{
    const int rest = (int)plumb_max_i64(width, 40) - FIXED_COLUMNS;
    int prompt_columns = 6;
    for (int64_t i = 0; i < n; i++) {
        struct plumb_buf cut = {0};
        int w = 0;
        const plumb_status st = plumb_samples_cut(&cut, row[i].prompt, rest * 2 / 5, &w);
        plumb_buf_fini(&cut);
        PLUMB_TRY(st);
        prompt_columns = (int)plumb_max_i64(prompt_columns, w);
    }
    const int completion_columns = rest - prompt_columns;
    PLUMB_TRY(put_line(out, "reward", "kind", "prompt", "completion", prompt_columns,
                       completion_columns));
    for (int64_t i = 0; i < n; i++) {
        char reward[32];
        if (isfinite(row[i].reward))
            snprintf(reward, sizeof(reward), "%.4g", row[i].reward);
        else
            snprintf(reward, sizeof(reward), "missing");
        PLUMB_TRY(put_line(out, reward, row[i].principled ? "princ" : "plain", row[i].prompt,
                           row[i].completion, prompt_columns, completion_columns));
    }
    return PLUMB_OK;
}
