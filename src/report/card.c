/* card.c - writes the model card.
 * Layer 4. Includes base/, io/. */
#include "report/card.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"
#include "io/file.h"
#include "io/json.h"

/* Returns true if s looks like a name of the Hugging Face hub and not like a file: "org/name" of
 * letters, digits, '-', '_' and '.'. */
static bool is_hub_name(const char *s)
{
    int slashes = 0;
    if (!s || !isalnum((unsigned char)s[0]) || strlen(s) > 96 || strstr(s, ".json"))
        return false;
    for (const char *c = s; *c; c++) {
        if (*c == '/' && ++slashes == 1 && isalnum((unsigned char)c[1]))
            continue;
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return false;
    }
    return slashes == 1;
}

/* Appends "key: value" with value as a quoted JSON string, which is valid YAML, too. */
static plumb_status put_yaml(struct plumb_buf *b, const char *key, const char *value)
{
    PLUMB_TRY(plumb_buf_addf(b, "%s: ", key));
    PLUMB_TRY(plumb_json_put_string(b, value, (int64_t)strlen(value)));
    return plumb_buf_add_text(b, "\n");
}

/* Appends text as the content of a Markdown table cell. */
static plumb_status put_cell(struct plumb_buf *b, const char *text)
{
    for (const char *c = text ? text : ""; *c; c++) {
        if (*c == '|')
            PLUMB_TRY(plumb_buf_add_text(b, "\\|"));
        else if (*c == '<')
            PLUMB_TRY(plumb_buf_add_text(b, "&lt;"));
        else
            PLUMB_TRY(plumb_buf_add(b, (unsigned char)*c < 0x20 ? " " : c, 1));
    }
    return PLUMB_OK;
}

static plumb_status put_row(struct plumb_buf *b, const char *name, const char *value)
{
    PLUMB_TRY(plumb_buf_add_text(b, "| "));
    PLUMB_TRY(put_cell(b, name));
    PLUMB_TRY(plumb_buf_add_text(b, " | "));
    PLUMB_TRY(put_cell(b, value));
    return plumb_buf_add_text(b, " |\n");
}

static plumb_status put_table(struct plumb_buf *b, const char *title, const char *first_head,
                              const struct plumb_card_field *field, int64_t n)
{
    if (!n)
        return PLUMB_OK;
    PLUMB_TRY(plumb_buf_addf(b, "\n## %s\n\n| %s | value |\n|---|---|\n", title, first_head));
    for (int64_t i = 0; i < n; i++)
        PLUMB_TRY(put_row(b, field[i].name, field[i].value));
    return PLUMB_OK;
}

static plumb_status put_front_matter(struct plumb_buf *b, const struct plumb_card *card,
                                     bool classifier)
{
    PLUMB_TRY(
        plumb_buf_addf(b, "---\nlibrary_name: %s\n", card->adapter ? "peft" : "transformers"));
    PLUMB_TRY(put_yaml(b, "pipeline_tag", classifier ? "text-classification" : "text-generation"));
    PLUMB_TRY(put_yaml(b, "license", card->license ? card->license : "other"));
    if (is_hub_name(card->base_model))
        PLUMB_TRY(put_yaml(b, "base_model", card->base_model));
    if (is_hub_name(card->dataset)) {
        PLUMB_TRY(plumb_buf_add_text(b, "datasets:\n"));
        PLUMB_TRY(plumb_buf_addf(b, "- %s\n", card->dataset));
    }
    PLUMB_TRY(plumb_buf_add_text(b, "tags:\n- plumb\n- "));
    PLUMB_TRY(plumb_json_put_string(b, card->method, (int64_t)strlen(card->method)));
    return plumb_buf_add_text(b, "\n---\n\n");
}

static plumb_status put_card(struct plumb_buf *b, const struct plumb_card *card, int64_t step,
                             int64_t iteration, bool classifier)
{
    const char *base = card->base_model ? card->base_model : "fresh weights";
    PLUMB_TRY(put_front_matter(b, card, classifier));
    PLUMB_TRY(plumb_buf_addf(b, "# %s, step %lld\n\nTrained by plumb %s from ", card->method,
                             (long long)step, PLUMB_VERSION));
    PLUMB_TRY(put_cell(b, base));
    PLUMB_TRY(plumb_buf_addf(b, ". The folder %s; `trainer_state.h5` is what plumb resumes from.\n",
                             card->adapter
                                 ? "holds a LoRA adapter, which loads in Hugging Face peft"
                                 : "loads in Hugging Face transformers"));
    PLUMB_TRY(plumb_buf_add_text(b, "\n| | |\n|---|---|\n"));
    PLUMB_TRY(put_row(b, "base model", base));
    PLUMB_TRY(put_row(b, "method", card->method));
    if (card->dataset)
        PLUMB_TRY(put_row(b, "data", card->dataset));
    PLUMB_TRY(plumb_buf_addf(b, "| optimizer steps | %lld |\n", (long long)step));
    if (iteration > 0)
        PLUMB_TRY(plumb_buf_addf(b, "| iterations | %lld |\n", (long long)iteration));
    PLUMB_TRY(put_table(b, "Hyper-parameters", "field", card->parameter, card->n_parameter));
    return put_table(b, "Figures at this step", "metric", card->metric, card->n_metric);
}

plumb_status plumb_card_write(const char *path, const struct plumb_card *card, int64_t step,
                              int64_t iteration, bool classifier)
{
    struct plumb_buf b = {0};
    plumb_status st = put_card(&b, card, step, iteration, classifier);
    if (!st)
        st = plumb_file_write_atomic(path, plumb_buf_text(&b), b.len);
    plumb_buf_fini(&b);
    return st;
}
