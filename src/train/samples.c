/* samples.c - the sample table: one clean line per completion.
 * Layer 5. Includes base/. */
#include "train/samples.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/num.h"

/* Strict UTF-8 (Unicode 15, table 3-7): overlong forms, surrogates and cut sequences give U+FFFD
 * for the one byte that starts them. */
uint32_t plumb_utf8_next(const char **text)
{
    const unsigned char *s = (const unsigned char *)*text;
    static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
    int more = 0;
    uint32_t rune = s[0];
    if (s[0] >= 0xF0 && s[0] < 0xF8) {
        more = 3;
        rune = s[0] & 0x07;
    } else if (s[0] >= 0xE0) {
        more = s[0] < 0xF0 ? 2 : -1;
        rune = s[0] & 0x0F;
    } else if (s[0] >= 0xC0) {
        more = 1;
        rune = s[0] & 0x1F;
    } else if (s[0] >= 0x80) {
        more = -1;
    }
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            more = -1;
            break;
        }
        rune = rune << 6 | (s[i] & 0x3F);
    }
    if (more > 0 && (rune < smallest[more] || rune > 0x10FFFF || (rune >= 0xD800 && rune < 0xE000)))
        more = -1;
    *text += more < 0 ? 1 : more + 1;
    return more < 0 ? 0xFFFD : rune;
}

plumb_status plumb_utf8_put(struct plumb_buf *out, uint32_t rune)
{
    unsigned char b[4];
    int n = 1;
    if (rune < 0x80) {
        b[0] = (unsigned char)rune;
    } else if (rune < 0x800) {
        b[0] = (unsigned char)(0xC0 | rune >> 6);
        n = 2;
    } else if (rune < 0x10000) {
        b[0] = (unsigned char)(0xE0 | rune >> 12);
        n = 3;
    } else {
        b[0] = (unsigned char)(0xF0 | rune >> 18);
        n = 4;
    }
    for (int i = 1; i < n; i++)
        b[i] = (unsigned char)(0x80 | ((rune >> (6 * (n - 1 - i))) & 0x3F));
    return plumb_buf_add(out, b, n);
}

static bool in_ranges(uint32_t rune, const uint32_t (*range)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (rune >= range[i][0] && rune <= range[i][1])
            return true;
    }
    return false;
}

/* Columns on a terminal. The tables are the blocks that matter for text (Unicode EastAsianWidth
 * W and F; marks that combine); a rare letter outside them counts as one column. */
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

/* Anything that moves the cursor or hides text: C0, C1, line and paragraph separators, zero-width
 * and direction marks. */
static bool is_control(uint32_t rune)
{
    return rune < 0x20 || (rune >= 0x7F && rune < 0xA0) || (rune >= 0x200B && rune <= 0x200F) ||
           (rune >= 0x2028 && rune <= 0x202E) || (rune >= 0x2060 && rune <= 0x206F) ||
           rune == 0xFEFF;
}

static uint32_t clean_next(const char **text)
{
    const uint32_t rune = plumb_utf8_next(text);
    return is_control(rune) ? ' ' : rune;
}

/* Columns of the whole text, counted up to limit + 1. */
static int text_columns(const char *text, int limit)
{
    int n = 0;
    while (*text && n <= limit)
        n += rune_columns(clean_next(&text));
    return n;
}

plumb_status plumb_samples_cut(struct plumb_buf *out, const char *text, int columns, int *used)
{
    int n = 0;
    if (!text)
        text = "";
    const bool cut = text_columns(text, columns) > columns;
    const int room = cut ? columns - 1 : columns;
    while (*text && room >= 0) {
        const uint32_t rune = clean_next(&text);
        const int w = rune_columns(rune);
        if (n + w > room)
            break;
        PLUMB_TRY(plumb_utf8_put(out, rune));
        n += w;
    }
    if (cut && columns >= 1) {
        PLUMB_TRY(plumb_utf8_put(out, 0x2026));
        n++;
    }
    if (used)
        *used = n;
    return PLUMB_OK;
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

#define FIXED_COLUMNS 18 /* reward 8, gap 2, kind 5, gap 1, gap 2 */

static plumb_status put_line(struct plumb_buf *out, const char *reward, const char *kind,
                             const char *prompt, const char *completion, int prompt_columns,
                             int completion_columns)
{
    int used = 0;
    PLUMB_TRY(plumb_buf_addf(out, "%8.8s  %-5.5s ", reward, kind));
    PLUMB_TRY(plumb_samples_cut(out, prompt, prompt_columns, &used));
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
        const int w = row[i].prompt ? text_columns(row[i].prompt, rest * 2 / 5) : 0;
        prompt_columns = (int)plumb_max_i64(prompt_columns, plumb_min_i64(w, rest * 2 / 5));
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
