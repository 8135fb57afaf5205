/* inspect.h - plumb inspect: describes a path as text. There is one describer per kind of file.
 * Layer 6. Includes base/, config/, io/, text/.
 *
 * A describer is a function that prints a line "PATH: kind" and rows below it to standard output.
 * Only rank 0 calls describers. If the file cannot be read, a describer returns the error of the
 * function that reads it. */
#ifndef PLUMB_APP_INSPECT_H
#define PLUMB_APP_INSPECT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "io/json.h"
#include "text/tokenizer.h"

struct plumb_inspect {
    const char *path;
    /* folder that the option tokenizer names, for texts and token counts; "" if it is not set */
    const char *words;
};

typedef plumb_status plumb_inspect_fn(const struct plumb_inspect *w);

void plumb_inspect_head(const struct plumb_inspect *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void plumb_inspect_row(const char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Sets out (4096 bytes) to the path of a file or folder in the folder w->path. Returns true if it
 * exists. */
bool plumb_inspect_has(const struct plumb_inspect *w, char *out, const char *file);
/* Sets out to path if it is a folder, else to the folder of the file. Returns PLUMB_ERR_ARG if the
 * path is too long. */
plumb_status plumb_inspect_folder_of(char out[4096], const char *path);
/* Appends at most 8 names to out: "a, b, c and 12 more". */
plumb_status plumb_inspect_names(struct plumb_buf *out, char *const *name, int64_t n);

/* Number, minimum, maximum and sum of several counts. */
struct plumb_inspect_span {
    int64_t n, least, most, sum;
};
void plumb_inspect_span_add(struct plumb_inspect_span *s, int64_t x);
/* Appends minimum, maximum and mean to out, such as "3 to 91, mean 40.2". */
plumb_status plumb_inspect_span_put(struct plumb_buf *out, const struct plumb_inspect_span *s);

/* Defined in inspect_model.c. */
plumb_inspect_fn plumb_inspect_model_folder; /* describes a folder with config.json */
plumb_inspect_fn plumb_inspect_adapter;      /* describes a folder with adapter_config.json */
plumb_inspect_fn plumb_inspect_config_json, plumb_inspect_safetensors, plumb_inspect_index;
plumb_inspect_fn plumb_inspect_generation_config;

/* Defined in inspect_tokenizer.c: describes a folder, or its tokenizer.json or
 * tokenizer_config.json. */
plumb_inspect_fn plumb_inspect_tokenizer;
/* Prints the rows that describe the tokenizer in a folder; prints nothing if it has none. */
plumb_status plumb_inspect_tokenizer_rows(const char *dir);
/* Opens the tokenizer of w->words, or else of the folder of w->path. *out is NULL if there is none.
 * dir (4096 bytes) becomes its folder. */
plumb_status plumb_inspect_open_words(plumb_tokenizer **out, char *dir,
                                      const struct plumb_inspect *w);

/* Defined in inspect_hdf5.c: rollouts, trainer state, replay files, paused answers. */
plumb_inspect_fn plumb_inspect_hdf5, plumb_inspect_state, plumb_inspect_rollout_folder;

/* Defined in inspect_lines.c: files of JSON lines, metrics, plain text. */
plumb_inspect_fn plumb_inspect_lines, plumb_inspect_metrics, plumb_inspect_text;

/* Defined in inspect_run.c: run folders, run.json, evaluations, configurations. */
plumb_inspect_fn plumb_inspect_run, plumb_inspect_run_json, plumb_inspect_eval;
plumb_inspect_fn plumb_inspect_config, plumb_inspect_hashes;

#endif
