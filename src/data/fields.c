/* fields.c - checks the members of a record or message that plumb does not read.
 * Layer 4. Includes base/, io/, config/near.h, data/fields.h. */
#include "data/fields.h"

#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "config/near.h"

/* Largest number of fields that warnings name for one file. One last warning covers all further
 * fields. */
enum { NAMED_MOST = 24 };

enum {
    OF_PROMPTS = 1 << PLUMB_DATA_PROMPTS,
    OF_SFT = 1 << PLUMB_DATA_SFT,
    OF_PAIRS = 1 << PLUMB_DATA_PAIRS,
    OF_TEXTS = 1 << PLUMB_DATA_TEXTS,
    OF_ANY = 1 << PLUMB_DATA_ANY,
    OF_TRAINED = OF_SFT | OF_PAIRS,
    OF_ALL = OF_PROMPTS | OF_TRAINED | OF_TEXTS | OF_ANY,
};

/* The effect that a field has in other programs. Depending on this effect, plumb accepts, reports
 * or refuses a value. */
enum effect {
    /* Adds text that the model sees. Accepted if plumb passes the field to the chat template and
     * the template reads it, or if the value is empty or false; otherwise refused. */
    ADDS_TEXT,
    /* Adds a message. Refused if the value is not empty: the user must write it into the
     * messages. */
    ADDS_MESSAGE,
    /* The value is the weight of the text in the loss. If the loss covers the text, 1 and true are
     * accepted and other values are refused. In a message of a prompt, 0 and false are accepted and
     * other values give a warning. */
    TAKES_PART,
    /* The value says whether the message or record is excluded from the loss. If the loss covers
     * the text, 0 and false are accepted and other values are refused. In a message of a prompt, 1
     * and true are accepted and other values give a warning. */
    LEFT_OUT,
    /* The name suggests one of the effects above. This gives a warning. */
    LOOKS_LIKE,
    /* The value is a setting of generation, which plumb does not read from a record. Gives a
     * warning. */
    IS_SETTING,
};
struct field {
    const char *name;
    enum effect effect;
    /* In of_record only: a bit mask of the data kinds for which the effect applies. */
    int kinds;
};

static const struct field of_message[] = {
    {"tools", ADDS_TEXT, 0},
    {"tool_calls", ADDS_TEXT, 0},
    {"tool_call", ADDS_TEXT, 0},
    {"tool_call_id", LOOKS_LIKE, 0}, /* an id of which most templates write nothing */
    {"tool_responses", ADDS_TEXT, 0},
    {"tool_plan", ADDS_TEXT, 0},
    {"function_call", ADDS_TEXT, 0},
    {"functions", ADDS_TEXT, 0},
    {"name", ADDS_TEXT, 0},
    {"recipient", ADDS_TEXT, 0},
    {"channel", ADDS_TEXT, 0},
    {"reasoning_content", ADDS_TEXT, 0},
    {"reasoning_details", ADDS_TEXT, 0},
    {"reasoning", ADDS_TEXT, 0},
    {"thinking", ADDS_TEXT, 0},
    {"thinking_blocks", ADDS_TEXT, 0},
    {"thought", ADDS_TEXT, 0},
    {"thoughts", ADDS_TEXT, 0},
    {"refusal", ADDS_TEXT, 0},
    {"prefix", ADDS_TEXT, 0},
    {"partial", ADDS_TEXT, 0},
    {"documents", ADDS_TEXT, 0},
    {"citations", ADDS_TEXT, 0},
    {"image", ADDS_TEXT, 0},
    {"images", ADDS_TEXT, 0},
    {"image_url", ADDS_TEXT, 0},
    {"video", ADDS_TEXT, 0},
    {"videos", ADDS_TEXT, 0},
    {"audio", ADDS_TEXT, 0},
    {"audios", ADDS_TEXT, 0},
    {"input_audio", ADDS_TEXT, 0},
    {"attachments", ADDS_TEXT, 0},
    {"weight", TAKES_PART, 0},
    {"weights", TAKES_PART, 0},
    {"loss_weight", TAKES_PART, 0},
    {"loss_mask", TAKES_PART, 0},
    {"loss", TAKES_PART, 0},
    {"train", TAKES_PART, 0},
    {"training", TAKES_PART, 0},
    {"trainable", TAKES_PART, 0},
    {"train_on", TAKES_PART, 0},
    {"train_detail", ADDS_TEXT, 0},
    {"training_detail", ADDS_TEXT, 0},
    {"mask", LEFT_OUT, 0},
    {"masked", LEFT_OUT, 0},
    {"ignore", LEFT_OUT, 0},
    {"ignore_loss", LEFT_OUT, 0},
};

static const struct field of_record[] = {
    {"tools", ADDS_TEXT, OF_ALL},
    {"tool_calls", ADDS_TEXT, OF_ALL},
    {"function_call", ADDS_TEXT, OF_ALL},
    {"chat_template", ADDS_TEXT, OF_ALL},
    {"chat_template_kwargs", ADDS_TEXT, OF_ALL},
    {"image", ADDS_TEXT, OF_ALL},
    {"images", ADDS_TEXT, OF_ALL},
    {"video", ADDS_TEXT, OF_ALL},
    {"videos", ADDS_TEXT, OF_ALL},
    {"audio", ADDS_TEXT, OF_ALL},
    {"audios", ADDS_TEXT, OF_ALL},
    /* For PROMPTS these two members may be data that only the reward reads, so they only give a
     * warning. */
    {"functions", ADDS_TEXT, OF_ALL & ~OF_PROMPTS},
    {"documents", ADDS_TEXT, OF_ALL & ~OF_PROMPTS},
    {"functions", LOOKS_LIKE, OF_PROMPTS},
    {"documents", LOOKS_LIKE, OF_PROMPTS},
    {"system", ADDS_MESSAGE, OF_ALL},
    {"system_prompt", ADDS_MESSAGE, OF_ALL},
    {"history", ADDS_MESSAGE, OF_ALL},
    {"reasoning", LOOKS_LIKE, OF_ALL & ~OF_PROMPTS},
    {"reasoning_content", LOOKS_LIKE, OF_ALL & ~OF_PROMPTS},
    {"thinking", LOOKS_LIKE, OF_ALL & ~OF_PROMPTS},
    {"weight", TAKES_PART, OF_TRAINED},
    {"weights", TAKES_PART, OF_TRAINED},
    {"sample_weight", TAKES_PART, OF_TRAINED},
    {"loss_weight", TAKES_PART, OF_TRAINED},
    {"train", TAKES_PART, OF_TRAINED},
    {"training", TAKES_PART, OF_TRAINED},
    {"trainable", TAKES_PART, OF_TRAINED},
    {"loss_mask", LOOKS_LIKE, OF_TRAINED},
    {"mask", LOOKS_LIKE, OF_TRAINED},
    {"label", LOOKS_LIKE, OF_TRAINED},
    {"labels", LOOKS_LIKE, OF_TRAINED},
    {"attention_mask", LOOKS_LIKE, OF_TRAINED},
    {"assistant_mask", LOOKS_LIKE, OF_TRAINED},
    {"assistant_masks", LOOKS_LIKE, OF_TRAINED},
    {"completion_mask", LOOKS_LIKE, OF_TRAINED},
    {"prompt_mask", LOOKS_LIKE, OF_TRAINED},
    {"token_type_ids", LOOKS_LIKE, OF_TRAINED},
    {"position_ids", LOOKS_LIKE, OF_TRAINED},
    {"input_ids", LOOKS_LIKE, OF_ALL},
    {"prompt_input_ids", LOOKS_LIKE, OF_TRAINED},
    {"chosen_input_ids", LOOKS_LIKE, OF_PAIRS},
    {"rejected_input_ids", LOOKS_LIKE, OF_PAIRS},
    {"chosen_weight", TAKES_PART, OF_PAIRS},
    {"rejected_weight", TAKES_PART, OF_PAIRS},
    {"margin", LOOKS_LIKE, OF_PAIRS},
    {"ref_chosen_logps", LOOKS_LIKE, OF_PAIRS},
    {"ref_rejected_logps", LOOKS_LIKE, OF_PAIRS},
    {"temperature", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"top_p", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"top_k", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"min_p", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"max_tokens", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"max_new_tokens", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"max_completion_tokens", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"stop", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"stop_sequences", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"stop_token_ids", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"seed", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"min_tokens", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"min_new_tokens", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"repetition_penalty", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"presence_penalty", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"frequency_penalty", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"logit_bias", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"ignore_eos", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"tool_choice", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
    {"response_format", IS_SETTING, OF_PROMPTS | OF_TEXTS | OF_ANY},
};

/* Pairs of members that both define the text. If a record of one of these `kinds` has both, `read`
 * is used, `other` is ignored, and a warning says so. */
static const struct {
    const char *read, *other;
    int kinds;
} shadow[] = {
    {"messages", "completion", OF_SFT},
    {"completion", "messages", OF_ANY},
    {"prompt", "messages", OF_ANY},
    {"messages", "text", OF_TEXTS},
    {"messages", "conversations", OF_SFT | OF_TEXTS | OF_ANY},
    {"prompt", "prompt_ids", OF_PROMPTS | OF_ANY},
    {"prompt", "chosen", OF_ANY | OF_SFT},
    {"prompt", "rejected", OF_ANY | OF_SFT},
};

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* Fields with images, videos or sounds. plumb cannot pass them to a model, even if the template
 * reads them. */
static const char *const media[] = {"image", "images", "image_url",   "video",      "videos",
                                    "audio", "audios", "input_audio", "attachments"};

/* Returns true if the chat template reads the field, and plumb can pass its value. */
static bool reads(const plumb_jinja *t, const char *name)
{
    if (!t)
        return false;
    for (int i = 0; i < COUNT(media); i++)
        if (!strcmp(media[i], name))
            return false;
    if (!strcmp(name, "chat_template_kwargs"))
        return true; /* its members are passed as variables, so the template need not mention the
                      * name chat_template_kwargs */
    if (!strcmp(name, "reasoning") || !strcmp(name, "reasoning_content") ||
        !strcmp(name, "thinking"))
        return plumb_jinja_mentions(t, "reasoning") || plumb_jinja_mentions(t, "thinking");
    return plumb_jinja_mentions(t, name);
}

void plumb_fields_fini(struct plumb_fields_named *named)
{
    plumb_buf_fini(&named->names);
    named->n = 0;
}

bool plumb_field_is_empty(const plumb_json *v)
{
    const enum plumb_json_type type = plumb_json_type_of(v);
    const char *text = plumb_json_string(v, "");
    switch (type) {
    case PLUMB_JSON_NULL:
        return true;
    case PLUMB_JSON_STRING:
        return !*text || !strcmp(text, "[]");
    case PLUMB_JSON_ARRAY:
    case PLUMB_JSON_OBJECT:
        return plumb_json_count(v) == 0;
    default:
        return false;
    }
}

bool plumb_field_is_generated(const plumb_json *line)
{
    return plumb_json_get(line, "prompt_ids") && plumb_json_get(line, "completion_ids") &&
           !plumb_json_get(line, "completion") && !plumb_json_get(line, "messages") &&
           !plumb_json_get(line, "conversations");
}

/* Returns true for the members of a record that plumb passes to the chat template. */
static bool is_handed_on(const char *name)
{
    return !strcmp(name, "tools") || !strcmp(name, "documents") ||
           !strcmp(name, "chat_template_kwargs");
}

/* Sets *fresh to true if no warning has named this field of the file yet. After NAMED_MOST fields
 * it is always false; for the next new field, this function itself logs the last warning, which
 * names the field and says that further fields are not reported. scope is the place without
 * an index, so that "messages[0].x" and "messages[1].x" are the same field. */
static plumb_status is_new(bool *fresh, struct plumb_fields_named *named, const char *scope,
                           const char *key, const char *where)
{
    struct plumb_buf name = {0};
    plumb_status st = PLUMB_OK;
    *fresh = named->n <= NAMED_MOST;
    PLUMB_TRY_GOTO(st, plumb_buf_addf(&name, "%s%s", scope, key), done);
    for (const char *at = plumb_buf_text(&named->names), *end = at + named->names.len;
         *fresh && at < end; at += strlen(at) + 1)
        *fresh = strcmp(at, plumb_buf_text(&name)) != 0;
    if (!*fresh)
        goto done;
    PLUMB_TRY_GOTO(st, plumb_buf_add(&named->names, plumb_buf_text(&name), name.len + 1), done);
    if (named->n++ == NAMED_MOST) {
        *fresh = false;
        plumb_log_alike("%s: \"%s\" is not used as it stands either; further fields and messages "
                        "like this are not reported",
                        where, key);
    }
done:
    plumb_buf_fini(&name);
    return st;
}

/* Returns the weight in the loss that a value stands for: 1 for true, 0 for false, the value itself
 * for a number, -1 for any other type. */
static double share_of(const plumb_json *v)
{
    if (plumb_json_type_of(v) == PLUMB_JSON_BOOL)
        return plumb_json_bool(v, false) ? 1 : 0;
    return plumb_json_real(v, -1);
}

static plumb_status refuse_text(const char *at, const char *key, bool template, const char *where)
{
    PLUMB_REQUIRE(
        !template, PLUMB_ERR_UNSUPPORTED,
        "%s: field \"%s%s\": the chat template does not read it, so the model would see "
        "another text than the record intends; remove the field, or name another template "
        "in data.chat_template",
        where, at, key);
    PLUMB_FAIL(
        PLUMB_ERR_UNSUPPORTED,
        "%s: field \"%s%s\": plumb does not add this field to the text, so the model would see "
        "another text than the record intends; write it into the texts of the messages, or "
        "remove the field",
        where, at, key);
}

static plumb_status refuse_message(const char *key, const char *where)
{
    const bool history = strcmp(key, "history") == 0;
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
               "%s: field \"%s\": plumb does not write it into the text, so the model would see "
               "another text than the record means; make the prompt a list of messages that begins "
               "with %s, or remove the field",
               where, key,
               history ? "the earlier ones" : "{\"role\": \"system\", \"content\": ...}");
}

static plumb_status refuse_share(const plumb_json *v, const char *at, const char *key, bool left,
                                 const char *where)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_json_put_node(&text, v);
    if (!st)
        st = plumb_fail_at(PLUMB_ERR_UNSUPPORTED, __FILE__, __LINE__,
                           "%s: field \"%s%s\": found %.60s, expected %s or nothing; plumb trains "
                           "on every answer in full: remove the record from the file, or the field",
                           where, at, key, plumb_buf_text(&text), left ? "false" : "1, true");
    plumb_buf_fini(&text);
    return st;
}

static plumb_status check_one(const struct field *f, const plumb_json *v, const char *at,
                              const char *scope, bool trained, bool training, const plumb_jinja *t,
                              struct plumb_fields_named *named, const char *where)
{
    const bool share = f->effect == TAKES_PART || f->effect == LEFT_OUT;
    const double part = share ? share_of(v) : 0;
    bool fresh = false;
    if (plumb_field_is_empty(v))
        return PLUMB_OK;
    if (f->effect == ADDS_MESSAGE)
        return refuse_message(f->name, where);
    if ((f->effect == ADDS_TEXT || f->effect == LOOKS_LIKE) && reads(t, f->name) &&
        (*at || is_handed_on(f->name)))
        return PLUMB_OK;
    if (f->effect == ADDS_TEXT) {
        const bool off = plumb_json_type_of(v) == PLUMB_JSON_BOOL && !plumb_json_bool(v, true);
        return off ? PLUMB_OK
                   : refuse_text(at, f->name, t && (*at || is_handed_on(f->name)), where);
    }
    if (share && !training)
        return PLUMB_OK; /* the loss does not cover this record */
    if (share && trained)
        return part == (f->effect == TAKES_PART)
                   ? PLUMB_OK
                   : refuse_share(v, at, f->name, f->effect == LEFT_OUT, where);
    if (share && part == (f->effect == LEFT_OUT))
        return PLUMB_OK; /* a prompt message is excluded from the loss, as plumb does anyway */
    PLUMB_TRY(is_new(&fresh, named, scope, f->name, where));
    if (!fresh)
        return PLUMB_OK;
    if (share)
        plumb_log_alike("%s: field \"%s%s\" asks for training on a message that plumb reads as a "
                        "part of the prompt; plumb trains on answers only",
                        where, at, f->name);
    else if (f->effect == IS_SETTING)
        plumb_log_alike("%s: field \"%s\" is ignored: a record cannot change how answers are "
                        "sampled; use the options of the command (plumb help)",
                        where, f->name);
    else
        plumb_log_alike("%s: field \"%s\" is not read: it changes neither the text nor what is "
                        "trained on",
                        where, f->name);
    return PLUMB_OK;
}

/* Warns if a record has a prompt and, under a name of another program, an answer, but no
 * "completion": score and tokenize take the prompt alone. */
static plumb_status note_answer(const plumb_json *line, struct plumb_fields_named *named,
                                const char *where)
{
    static const char *const name[] = {"response", "responses", "completions",
                                       "output",   "outputs",   "generated_text"};
    if (!plumb_json_get(line, "prompt") || plumb_json_get(line, "completion"))
        return PLUMB_OK;
    for (int i = 0; i < COUNT(name); i++) {
        bool fresh = false;
        if (plumb_field_is_empty(plumb_json_get(line, name[i])))
            continue;
        PLUMB_TRY(is_new(&fresh, named, "answer ", name[i], where));
        if (fresh)
            plumb_log_alike("%s: field \"%s\" is not read, and there is no \"completion\": the "
                            "prompt is taken without an answer",
                            where, name[i]);
    }
    return PLUMB_OK;
}

plumb_status plumb_fields_check_record(const plumb_json *line, enum plumb_data_kind kind,
                                       const plumb_jinja *t, struct plumb_fields_named *named,
                                       const char *where)
{
    const int of = 1 << kind;
    /* True for a record with "chosen" and without "completion". As SFT, it is refused later as a
     * preference pair, or its text is in other members, such as "messages". In both cases a warning
     * that only "prompt" is read would be wrong. */
    const bool wrong = plumb_json_get(line, "chosen") && !plumb_json_get(line, "completion");
    const bool training = (of & OF_TRAINED) != 0, ready = plumb_field_is_generated(line);
    for (int i = 0; i < COUNT(of_record); i++) {
        const plumb_json *v = plumb_json_get(line, of_record[i].name);
        if (ready && of_record[i].effect != TAKES_PART)
            continue; /* the token ids are the text, whatever it was made from */
        if (v && (of_record[i].kinds & of))
            PLUMB_TRY(check_one(&of_record[i], v, "", "", training, training, t, named, where));
    }
    for (int i = 0; i < COUNT(shadow); i++) {
        bool fresh = false;
        if (ready || !(shadow[i].kinds & of) || (of == OF_SFT && wrong) ||
            !plumb_json_get(line, shadow[i].read) || !plumb_json_get(line, shadow[i].other))
            continue;
        PLUMB_TRY(is_new(&fresh, named, "beside ", shadow[i].other, where));
        if (fresh)
            plumb_log_alike("%s: the record has both \"%s\" and \"%s\": only \"%s\" is read", where,
                            shadow[i].read, shadow[i].other, shadow[i].read);
    }
    return of == OF_ANY && !ready ? note_answer(line, named, where) : PLUMB_OK;
}

plumb_status plumb_fields_check_asked(const plumb_json *line, const char *chosen, const char *where)
{
    static const char *const name[] = {"question", "instruction",   "query",        "input",
                                       "problem",  "conversations", "conversation", "messages"};
    for (int i = 0; i < COUNT(name); i++) {
        const plumb_json *v = plumb_json_get(line, name[i]);
        const enum plumb_json_type type = plumb_json_type_of(v);
        const bool text = type == PLUMB_JSON_STRING;
        if (plumb_field_is_empty(v) || (!text && type != PLUMB_JSON_ARRAY) ||
            (text && strstr(chosen, plumb_json_string(v, ""))))
            continue;
        PLUMB_FAIL(
            PLUMB_ERR_UNSUPPORTED,
            "%s: field \"%s\": plumb does not read it in a pair, and there is no \"prompt\", "
            "so the prompt would be only what \"chosen\" and \"rejected\" begin with; rename "
            "the field to \"prompt\", or remove it",
            where, name[i]);
    }
    return PLUMB_OK;
}

plumb_status plumb_fields_note_dropped(const char *role, const char *at,
                                       struct plumb_fields_named *named, const char *where)
{
    bool fresh = false;
    PLUMB_TRY(is_new(&fresh, named, "dropped ", role, where));
    if (fresh)
        plumb_log_alike("%s: %s: the chat template leaves out this text, so the model does not see "
                        "it; name another template in data.chat_template, or remove the text",
                        where, at);
    return PLUMB_OK;
}

plumb_status plumb_fields_note_covered(const char *role, const char *at,
                                       struct plumb_fields_named *named, const char *where)
{
    bool fresh = false;
    PLUMB_TRY(is_new(&fresh, named, "covered ", role, where));
    if (fresh)
        plumb_log_alike("%s: field \"%s\": the loss covers this message of role \"%.60s\", because "
                        "it covers all of an answer; sft leaves such messages out if the whole "
                        "conversation is in \"messages\"",
                        where, at, role);
    return PLUMB_OK;
}

/* Roles that chat templates know. */
static const char *const roles[] = {"system",   "user",    "assistant", "tool", "developer",
                                    "function", "ipython", "model",     NULL};

/* Refuses a role that is almost one of the known roles. Any other unknown role is left to the
 * template, as in transformers, with one warning per file unless the template mentions the role. */
static plumb_status check_role(const char *role, const char *at, const plumb_jinja *t,
                               struct plumb_fields_named *named, const char *where)
{
    bool fresh = false;
    const char *best = NULL;
    int least = INT_MAX;
    for (int i = 0; roles[i]; i++) {
        const int d = plumb_edit_distance(role, roles[i]);
        if (d < least) {
            least = d;
            best = roles[i];
        }
    }
    PLUMB_REQUIRE(least == 0 || strlen(role) < 4 || !plumb_is_near(least, role), PLUMB_ERR_FORMAT,
                  "%s: field \"%srole\": found \"%.60s\", did you mean \"%s\"?", where, at, role,
                  best);
    if (least == 0 || (t && plumb_jinja_mentions(t, role)))
        return PLUMB_OK;
    PLUMB_TRY(is_new(&fresh, named, "role ", role, where));
    if (fresh)
        plumb_log_alike("%s: field \"%srole\": \"%.60s\" is not one of the usual roles (system, "
                        "user, assistant, tool): the %s decides what becomes of the message, and "
                        "the loss does not cover it",
                        where, at, role, t ? "chat template" : "prompt template");
    return PLUMB_OK;
}

plumb_status plumb_fields_check_message(const plumb_json *message, const char *at, bool trained,
                                        bool training, const plumb_jinja *t,
                                        struct plumb_fields_named *named, const char *where)
{
    for (int64_t i = 0; i < plumb_json_count(message); i++) {
        const char *key = "";
        const plumb_json *v = NULL;
        int k = 0;
        bool fresh = false;
        PLUMB_TRY(plumb_json_member_at(message, i, &key, &v));
        if (!strcmp(key, "role"))
            PLUMB_TRY(check_role(plumb_json_string(v, ""), at, t, named, where));
        if (!strcmp(key, "role") || !strcmp(key, "content") || plumb_field_is_empty(v))
            continue;
        const enum plumb_json_type type = plumb_json_type_of(v);
        PLUMB_REQUIRE(strcmp(key, "tool_calls") != 0 || !reads(t, key) || type == PLUMB_JSON_ARRAY,
                      PLUMB_ERR_FORMAT, "%s: field \"%stool_calls\": found %s, expected a list",
                      where, at, plumb_json_type_name(type));
        while (k < COUNT(of_message) && strcmp(of_message[k].name, key) != 0)
            k++;
        if (k < COUNT(of_message)) {
            PLUMB_TRY(
                check_one(&of_message[k], v, at, "message ", trained, training, t, named, where));
            continue;
        }
        if (reads(t, key))
            continue;
        PLUMB_TRY(is_new(&fresh, named, "message ", key, where));
        if (fresh && t)
            plumb_log_alike("%s: field \"%s%.80s\" is not read: the chat template does not name it",
                            where, at, key);
        else if (fresh)
            plumb_log_alike("%s: field \"%s%.80s\" is not read: plumb takes \"role\" and "
                            "\"content\" of a message",
                            where, at, key);
    }
    return PLUMB_OK;
}
