/* choices.h - what a device chose by measuring (cuBLASLt's algorithms), the same on every rank and
 * kept in a file.
 * Layer 5. Includes base/, backend/, comm/, config/, train/trainer.h.
 *
 * A choice decides bits, so it must not depend on the rank: rank 0 reads the file, measures what is
 * missing and writes it; every rank takes what rank 0 has. Without the file another run may choose
 * otherwise and differ in rounding. */
#ifndef PLUMB_TRAIN_CHOICES_H
#define PLUMB_TRAIN_CHOICES_H

#include "train/trainer.h"

/* Every rank takes the choices of rank 0's file. One that is missing, damaged or of another device
 * is as good as empty; the latter two are warned of. Collective. Nothing on a CPU. */
plumb_status plumb_choices_read(plumb_comm *comm, struct plumb_backend *b,
                                const struct plumb_config *cfg);
/* Measures, on rank 0, what the layers of s's models need and have not, writes the file, and shares
 * it. A file that cannot be written is warned of. Collective. */
plumb_status plumb_choices_tune(const struct plumb_trainer_source *s);

#endif
