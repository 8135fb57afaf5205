/* text.c - functions on the code points of strings: case, white space, padding, lines, predicates.
 * Layer 3. Private to text/jinja. Uses utf8proc for Unicode. */
#include <utf8proc.h>

#include "text/jinja/case_table.h"
#include "text/jinja/run.h"
#include "text/utf8.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static utf8proc_category_t category(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c);
}

static bool in_ranges(uint32_t c, const uint32_t (*range)[2], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (c >= range[i][0] && c <= range[i][1])
            return true;
    return false;
}

/* Returns the result of Python's str.isspace: White_Space of Unicode and the four ASCII
 * separators. */
bool plumb_jchar_space(uint32_t c)
{
    return plumb_utf8_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

bool plumb_jchar_printable(uint32_t c)
{
    if (c < 0x7f)
        return c >= 0x20;
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

/* Returns true for lower-case letters (category Ll), and for characters of other categories that
 * count as lower case (Unicode's Other_Lowercase). */
static bool is_lower(uint32_t c)
{
    static const uint32_t other[][2] = {
        {0xaa, 0xaa},       {0xba, 0xba},       {0x2b0, 0x2b8},     {0x2c0, 0x2c1},
        {0x2e0, 0x2e4},     {0x345, 0x345},     {0x37a, 0x37a},     {0x1d2c, 0x1d6a},
        {0x1d78, 0x1d78},   {0x1d9b, 0x1dbf},   {0x2071, 0x2071},   {0x207f, 0x207f},
        {0x2090, 0x209c},   {0x2170, 0x217f},   {0x24d0, 0x24e9},   {0x2c7c, 0x2c7d},
        {0xa69c, 0xa69d},   {0xa770, 0xa770},   {0xa7f8, 0xa7f9},   {0xab5c, 0xab5f},
        {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107b0}, {0x107b2, 0x107ba}};
    return category(c) == UTF8PROC_CATEGORY_LL || in_ranges(c, other, COUNT(other));
}

static bool is_upper(uint32_t c)
{
    static const uint32_t other[][2] = {{0x2160, 0x216f},
                                        {0x24b6, 0x24cf},
                                        {0x1f130, 0x1f149},
                                        {0x1f150, 0x1f169},
                                        {0x1f170, 0x1f189}};
    return category(c) == UTF8PROC_CATEGORY_LU || in_ranges(c, other, COUNT(other));
}

static bool is_cased(uint32_t c)
{
    return is_lower(c) || is_upper(c) || category(c) == UTF8PROC_CATEGORY_LT;
}

int64_t plumb_jstr_offset(const struct plumb_jstr *s, int64_t index)
{
    if (s->n == s->chars || index <= 0)
        return index < 0 ? 0 : index;
    if (index >= s->chars)
        return s->n;
    int64_t at = 0;
    for (; index > 0; index--)
        at += plumb_utf8_size(s->at[at]);
    return at;
}

static plumb_status put_char(struct plumb_buf *b, uint32_t c)
{
    char text[4];
    return plumb_buf_add(b, text, plumb_utf8_put(text, c));
}

static plumb_status put_row(struct plumb_buf *b, const struct plumb_jcase_row *row, size_t n,
                            uint32_t c, uint32_t simple)
{
    for (size_t i = 0; i < n && c >= row[i].from; i++) {
        if (row[i].from != c)
            continue;
        for (int k = 0; k < 3 && row[i].to[k]; k++)
            PLUMB_TRY(put_char(b, row[i].to[k]));
        return PLUMB_OK;
    }
    return put_char(b, simple);
}

static plumb_status put_upper(struct plumb_buf *b, uint32_t c)
{
    return put_row(b, upper_row, COUNT(upper_row), c,
                   (uint32_t)utf8proc_toupper((utf8proc_int32_t)c));
}

static plumb_status put_title(struct plumb_buf *b, uint32_t c)
{
    return put_row(b, title_row, COUNT(title_row), c,
                   (uint32_t)utf8proc_totitle((utf8proc_int32_t)c));
}

/* Returns true for the characters with the property Case_Ignorable that matter for Final_Sigma. */
static bool is_ignorable(uint32_t c)
{
    switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2018 || c == 0x2019 ||
               c == 0x2024 || c == 0x2027;
    }
}

/* Returns true if the capital sigma at byte `at` becomes a final sigma: the character before it is
 * a cased letter, and the one after it, if any, is not. Characters for which is_ignorable is true
 * are skipped, and text before byte `begin` is ignored. */
static bool final_sigma(const struct plumb_jstr *s, int64_t at, int64_t begin)
{
    int64_t i = at;
    bool before = false;
    while (i > begin) {
        i = plumb_utf8_before(s->at, i);
        const uint32_t c = plumb_utf8_at(s->at + i);
        if (is_ignorable(c))
            continue;
        before = is_cased(c);
        break;
    }
    if (!before)
        return false;
    for (i = at + 2; i < s->n; i += plumb_utf8_size(s->at[i])) {
        const uint32_t c = plumb_utf8_at(s->at + i);
        if (!is_ignorable(c))
            return !is_cased(c);
    }
    return true;
}

static plumb_status put_lower(struct plumb_buf *b, const struct plumb_jstr *s, int64_t at,
                              int64_t begin)
{
    const uint32_t c = plumb_utf8_at(s->at + at);
    if (c == 0x130) {
        PLUMB_TRY(put_char(b, 'i'));
        return put_char(b, 0x307);
    }
    if (c == 0x3a3)
        return put_char(b, final_sigma(s, at, begin) ? 0x3c2 : 0x3c3);
    return put_char(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
}

/* Returns true if a new word begins after c for the filter title: after -, white space, (, {, [ or
 * <. */
static bool breaks_word(uint32_t c)
{
    return plumb_jchar_space(c) || (c && c < 0x80 && strchr("-({[<", (int)c));
}

plumb_status plumb_jstr_case(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                             enum plumb_jcase how)
{
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    bool start = true, inside = false;
    /* With JC_JINJA_TITLE, byte offset after the first letter of the current word; otherwise 0.
     * Jinja converts the rest of the word alone, so put_lower ignores the text before `begin`. */
    int64_t begin = 0;
    for (int64_t i = 0; i < s->n && st == PLUMB_OK; i += plumb_utf8_size(s->at[i])) {
        const uint32_t c = plumb_utf8_at(s->at + i);
        if (how == JC_JINJA_TITLE && start)
            begin = i + plumb_utf8_size(s->at[i]);
        if (how == JC_UPPER || (how == JC_SWAP && is_lower(c)) || (how == JC_JINJA_TITLE && start))
            st = put_upper(&b, c);
        else if ((how == JC_CAPITALIZE && start) || (how == JC_TITLE && !inside))
            st = put_title(&b, c);
        else if (how == JC_SWAP && !is_upper(c))
            st = put_char(&b, c);
        else
            st = put_lower(&b, s, i, begin);
        inside = is_cased(c);
        start = how == JC_JINJA_TITLE && breaks_word(c);
    }
    const bool markup = s->markup;
    PLUMB_TRY(plumb_jinja_take(r, out, &b, st));
    ((struct plumb_jstr *)(uintptr_t)out->u.str)->markup = markup;
    return PLUMB_OK;
}

static bool is_one_of(uint32_t c, const struct plumb_jstr *chars)
{
    if (!chars)
        return plumb_jchar_space(c);
    for (int64_t i = 0; i < chars->n; i += plumb_utf8_size(chars->at[i]))
        if (plumb_utf8_at(chars->at + i) == c)
            return true;
    return false;
}

plumb_status plumb_jstr_strip(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s, int sides,
                              const struct plumb_jstr *chars)
{
    int64_t begin = 0, end = s->n;
    while ((sides & 1) && begin < end && is_one_of(plumb_utf8_at(s->at + begin), chars))
        begin += plumb_utf8_size(s->at[begin]);
    while ((sides & 2) && end > begin) {
        const int64_t at = plumb_utf8_before(s->at, end);
        if (!is_one_of(plumb_utf8_at(s->at + at), chars))
            break;
        end = at;
    }
    PLUMB_TRY(plumb_jinja_work(r, s->n));
    PLUMB_TRY(plumb_jv_part(&r->arena, out, s->at + begin, end - begin));
    ((struct plumb_jstr *)(uintptr_t)out->u.str)->markup = s->markup;
    return PLUMB_OK;
}

int64_t plumb_jstr_find(const char *s, int64_t n, const char *what, int64_t m)
{
    if (m == 0)
        return 0;
    const char *p = m <= n ? memmem(s, (size_t)n, what, (size_t)m) : NULL;
    return p ? p - s : -1;
}

plumb_status plumb_jstr_replace(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                                const struct plumb_jstr *old, const struct plumb_jstr *new,
                                int64_t count)
{
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    int64_t at = 0;
    for (int64_t done = 0; st == PLUMB_OK && (count < 0 || done < count) && at <= s->n; done++) {
        const int64_t found = plumb_jstr_find(s->at + at, s->n - at, old->at, old->n);
        if (found < 0)
            break;
        st = plumb_buf_add(&b, s->at + at, found);
        if (st == PLUMB_OK)
            st = plumb_buf_add(&b, new->at, new->n);
        at += found + old->n;
        if (!old->n &&
            at < s->n) { /* an empty pattern matches before every character and at the end */
            const int size = plumb_utf8_size(s->at[at]);
            if (st == PLUMB_OK)
                st = plumb_buf_add(&b, s->at + at, size);
            at += size;
        } else if (!old->n) {
            at++;
        }
        if (st == PLUMB_OK && b.len > r->limit.memory)
            st = plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                  "a string exceeded the limit of %lld bytes of memory",
                                  (long long)r->limit.memory);
    }
    if (st == PLUMB_OK && at < s->n)
        st = plumb_buf_add(&b, s->at + at, s->n - at);
    if (st == PLUMB_OK)
        st = plumb_jinja_work(r, s->n);
    return plumb_jinja_take(r, out, &b, st);
}

/* Returns the length in bytes of the line break at s[i]; 0 if there is none. */
static int line_break(const struct plumb_jstr *s, int64_t i)
{
    const uint32_t c = plumb_utf8_at(s->at + i);
    if (c == '\r')
        return 1 + (i + 1 < s->n && s->at[i + 1] == '\n');
    if ((c >= '\n' && c <= '\f') || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
        c == 0x2029)
        return plumb_utf8_size(s->at[i]);
    return 0;
}

plumb_status plumb_jstr_lines(struct plumb_jrun *r, struct plumb_jseq *out,
                              const struct plumb_jstr *s, bool keep)
{
    int64_t begin = 0;
    PLUMB_TRY(plumb_jinja_work(r, s->n));
    for (int64_t i = 0; i < s->n;) {
        const int size = line_break(s, i);
        if (!size) {
            i += plumb_utf8_size(s->at[i]);
            continue;
        }
        jv line;
        PLUMB_TRY(plumb_jv_part(&r->arena, &line, s->at + begin, i - begin + (keep ? size : 0)));
        PLUMB_TRY(plumb_jseq_add(&r->arena, out, line));
        begin = i = i + size;
    }
    if (begin == s->n)
        return PLUMB_OK;
    jv line;
    PLUMB_TRY(plumb_jv_part(&r->arena, &line, s->at + begin, s->n - begin));
    return plumb_jseq_add(&r->arena, out, line);
}

bool plumb_jstr_is_case(const struct plumb_jstr *s, enum plumb_jcase how)
{
    bool some = false, inside = false;
    for (int64_t i = 0; i < s->n; i += plumb_utf8_size(s->at[i])) {
        const uint32_t c = plumb_utf8_at(s->at + i);
        const bool lower = is_lower(c), title = category(c) == UTF8PROC_CATEGORY_LT;
        const bool upper = is_upper(c) || (title && how == JC_TITLE);
        const bool cased = lower || upper || title;
        if (how == JC_UPPER && (lower || title))
            return false;
        if (how == JC_LOWER && (upper || title))
            return false;
        if (how == JC_TITLE && ((upper && inside) || (lower && !inside)))
            return false;
        some |= how == JC_UPPER ? upper : how == JC_LOWER ? lower : cased;
        inside = cased;
    }
    return some;
}

enum { P_ALPHA, P_ALNUM, P_DIGIT, P_DECIMAL, P_NUMERIC, P_SPACE, P_ASCII, P_PRINTABLE, N_P };

/* Returns 1 if c has the property `what` (P_ALPHA ..), 0 if not, and -2 if plumb cannot decide. */
static int has(uint32_t c, int what)
{
    static const uint32_t digit[][2] = {
        {0xb2, 0xb3},       {0xb9, 0xb9},       {0x1369, 0x1371},   {0x19da, 0x19da},
        {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
        {0x2474, 0x247c},   {0x2488, 0x2490},   {0x24ea, 0x24ea},   {0x24f5, 0x24fd},
        {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},   {0x278a, 0x2792},
        {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a}};
    const utf8proc_category_t k = category(c);
    const bool alpha = k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
    const bool decimal = k == UTF8PROC_CATEGORY_ND;
    switch (what) {
    case P_ALPHA:
        return alpha;
    case P_DECIMAL:
        return decimal;
    case P_DIGIT:
        return decimal || in_ranges(c, digit, COUNT(digit));
    case P_SPACE:
        return plumb_jchar_space(c);
    case P_ASCII:
        return c < 0x80;
    case P_PRINTABLE:
        return plumb_jchar_printable(c);
    case P_ALNUM:
        return alpha || decimal || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
    default: /* some ideographs are numeric, but utf8proc does not tell which */
        if (k == UTF8PROC_CATEGORY_LO)
            return -2;
        return decimal || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
    }
}

int plumb_jstr_predicate(const struct plumb_jstr *s, const char *name)
{
    static const char *const names[N_P] = {"isalpha",   "isalnum", "isdigit", "isdecimal",
                                           "isnumeric", "isspace", "isascii", "isprintable"};
    int what = 0;
    if (strcmp(name, "islower") == 0)
        return plumb_jstr_is_case(s, JC_LOWER);
    if (strcmp(name, "isupper") == 0)
        return plumb_jstr_is_case(s, JC_UPPER);
    if (strcmp(name, "istitle") == 0)
        return plumb_jstr_is_case(s, JC_TITLE);
    while (what < N_P && strcmp(names[what], name) != 0)
        what++;
    if (what == N_P)
        return -1;
    for (int64_t i = 0; i < s->n; i += plumb_utf8_size(s->at[i])) {
        const int yes = has(plumb_utf8_at(s->at + i), what);
        if (yes != 1)
            return yes;
    }
    return s->n > 0 || what == P_ASCII || what == P_PRINTABLE;
}

plumb_status plumb_jstr_pad(struct plumb_jrun *r, jv *out, const struct plumb_jstr *s,
                            int64_t width, char align, const char *fill, int64_t fill_n)
{
    struct plumb_buf b = {0};
    const int64_t room = width > s->chars ? width - s->chars : 0;
    if (room > r->limit.memory)
        return plumb_jinja_fail(r, PLUMB_ERR_ARG,
                                "a string exceeded the limit of %lld bytes of memory",
                                (long long)r->limit.memory);
    /* If one fill character is left over, str.center puts it on the left if room and width are both
     * odd; format always puts it on the right. */
    const int64_t left = align == '>'   ? room
                         : align == '^' ? room / 2
                         : align == 'c' ? room / 2 + (room & width & 1)
                                        : 0;
    plumb_status st = PLUMB_OK;
    for (int64_t i = 0; i < left && st == PLUMB_OK; i++)
        st = plumb_buf_add(&b, fill, fill_n);
    if (st == PLUMB_OK)
        st = plumb_buf_add(&b, s->at, s->n);
    for (int64_t i = left; i < room && st == PLUMB_OK; i++)
        st = plumb_buf_add(&b, fill, fill_n);
    return plumb_jinja_take(r, out, &b, st);
}

plumb_status plumb_jinja_escape(struct plumb_jrun *r, jv *out, jv v)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct plumb_buf b = {0};
    plumb_status st = PLUMB_OK;
    PLUMB_TRY(plumb_jinja_str(r, &v, v));
    if (v.u.str->markup) {
        *out = v;
        return PLUMB_OK;
    }
    for (int64_t i = 0; i < v.u.str->n && st == PLUMB_OK; i++) {
        const char c = v.u.str->at[i];
        const char *known = c ? strchr(from, c) : NULL;
        st = known ? plumb_buf_add(&b, to[known - from], (int64_t)strlen(to[known - from]))
                   : plumb_buf_add(&b, &c, 1);
    }
    PLUMB_TRY(plumb_jinja_take(r, out, &b, st));
    ((struct plumb_jstr *)(uintptr_t)out->u.str)->markup = true;
    return PLUMB_OK;
}
