/* postprocess.c - the "post_processor" of tokenizer.json: the tokens added before and after a text.
 * Layer 3. Includes base/ and io/json.h. */
#include "text/postprocess.h"

#include <string.h>

#define KNOWN     "TemplateProcessing, ByteLevel, Sequence"
#define MAX_DEPTH 8

void plumb_postprocessor_fini(struct plumb_postprocessor *z)
{
    plumb_ids_fini(&z->before);
    plumb_ids_fini(&z->after);
    *z = (struct plumb_postprocessor){0};
}

static plumb_status add_special(struct plumb_ids *ids, const plumb_json *v, const char *piece,
                                const char *where)
{
    const plumb_json *list =
        plumb_json_get(plumb_json_get(plumb_json_get(v, "special_tokens"), piece), "ids");
    PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: post_processor.special_tokens[\"%s\"].ids: expected an array", where, piece);
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const int64_t id = plumb_json_int(plumb_json_at(list, i), -1);
        PLUMB_REQUIRE(id >= 0 && id <= INT32_MAX, PLUMB_ERR_FORMAT,
                      "%s: post_processor.special_tokens[\"%s\"].ids[%lld]: expected a token id",
                      where, piece, (long long)i);
        PLUMB_TRY(plumb_ids_add(ids, (int32_t)id));
    }
    return PLUMB_OK;
}

static plumb_status move(struct plumb_ids *to, const struct plumb_ids *from)
{
    for (int64_t i = 0; i < from->n; i++)
        PLUMB_TRY(plumb_ids_add(to, from->id[i]));
    return PLUMB_OK;
}

/* Adds the tokens of a TemplateProcessing node v: those that stand before the text are put in front
 * of z->before, and those that stand after it behind z->after. */
static plumb_status template(struct plumb_postprocessor *z, const plumb_json *v, const char *where)
{
    plumb_status st = PLUMB_OK;
    struct plumb_ids before = {0};
    const plumb_json *list = plumb_json_get(v, "single");
    bool text = false;
    PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: post_processor.single: expected an array", where);
    for (int64_t i = 0; i < plumb_json_count(list); i++) {
        const plumb_json *one = plumb_json_at(list, i);
        const plumb_json *token = plumb_json_get(one, "SpecialToken");
        const char *id = plumb_json_string(
            plumb_json_get(token ? token : plumb_json_get(one, "Sequence"), "id"), NULL);
        if (!id || (!token && (text || strcmp(id, "A") != 0)))
            PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                            "%s: post_processor.single[%lld]: expected SpecialToken or one "
                            "Sequence with id A",
                            where, (long long)i);
        if (token)
            PLUMB_TRY_GOTO(st, add_special(text ? &z->after : &before, v, id, where), fail);
        else
            text = true;
    }
    if (!text)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_FORMAT, fail,
                        "%s: post_processor.single: expected one Sequence, found none", where);
    PLUMB_TRY_GOTO(st, move(&before, &z->before), fail);
    const struct plumb_ids swap = z->before;
    z->before = before;
    before = swap;
fail:
    plumb_ids_fini(&before);
    return st;
}

static plumb_status add(struct plumb_postprocessor *z, const plumb_json *v, const char *where,
                        int depth)
{
    const char *type;
    PLUMB_REQUIRE(depth < MAX_DEPTH, PLUMB_ERR_UNSUPPORTED,
                  "%s: post_processor: sequences are nested too deeply", where);
    PLUMB_TRY(plumb_json_want_string(v, "type", &type, NULL, where));
    if (strcmp(type, "TemplateProcessing") == 0)
        return template(z, v, where);
    if (strcmp(type, "ByteLevel") == 0) /* ByteLevel changes only offsets, which plumb does not
                                         * compute */
        return PLUMB_OK;
    PLUMB_REQUIRE(strcmp(type, "Sequence") == 0, PLUMB_ERR_UNSUPPORTED,
                  "%s: post_processor: type \"%s\" is not supported; plumb supports " KNOWN, where,
                  type);
    const plumb_json *list = plumb_json_get(v, "processors");
    PLUMB_REQUIRE(plumb_json_type_of(list) == PLUMB_JSON_ARRAY, PLUMB_ERR_FORMAT,
                  "%s: post_processor.processors: expected an array", where);
    for (int64_t i = 0; i < plumb_json_count(list); i++)
        PLUMB_TRY(add(z, plumb_json_at(list, i), where, depth + 1));
    return PLUMB_OK;
}

plumb_status plumb_postprocessor_init(struct plumb_postprocessor *z, const plumb_json *v,
                                      const char *where)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_NULL)
        return PLUMB_OK;
    PLUMB_REQUIRE(plumb_json_type_of(v) == PLUMB_JSON_OBJECT, PLUMB_ERR_FORMAT,
                  "%s: post_processor: expected an object or null, found %s", where,
                  plumb_json_type_name(plumb_json_type_of(v)));
    return add(z, v, where, 0);
}
