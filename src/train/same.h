/* same.h - checks that all ranks run with the same options, weights and records.
 * Layer 5. Includes comm/, config/, data/, model/.
 *
 * Each rank reads its own command line and its own files. On another host a file of the same name
 * may be an old copy, and a launcher may start ranks with different options. Without these checks
 * the ranks would mix their results silently. */
#ifndef PLUMB_TRAIN_SAME_H
#define PLUMB_TRAIN_SAME_H

#include "base/buf.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/dataset.h"
#include "model/model.h"

/* Fails unless this rank's text is that of rank 0, except for lines that begin (after blanks) with
 * the name of an option that may differ between ranks: threads, log_level, pins and memory. text:
 * the command and its options, one per line, as plumb_config_to_yaml writes them. Collective.
 * PLUMB_ERR_CONFIG on a rank that differs names the first such option with both values;
 * PLUMB_ERR_PEER on the others. */
plumb_status plumb_same_options(plumb_comm *comm, const char *text);

/* Fails unless this rank's model is that of rank 0: its weights, compared by their fingerprint, and
 * the files in m->dir and m->tokenizer_dir with its configuration, tokenizer and chat template. key
 * is the option that names the model. Collective. PLUMB_ERR_CONFIG on a rank that differs,
 * PLUMB_ERR_PEER on the others; PLUMB_ERR_IO. */
plumb_status plumb_same_model(plumb_comm *comm, const char *key, const plumb_model *m);

/* Fails unless this rank has read the same records as rank 0: tokens, trained tokens, scores, and
 * the texts that rewards get. key is the option that names the file `path`. Does nothing if data is
 * NULL on this rank; it must then be NULL on every rank. Collective. PLUMB_ERR_CONFIG on a rank
 * that differs, PLUMB_ERR_PEER on the others. */
plumb_status plumb_same_records(plumb_comm *comm, const char *key, const char *path,
                                const struct plumb_dataset *data);

#endif
