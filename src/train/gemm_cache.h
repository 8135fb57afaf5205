/* gemm_cache.h - the GEMM algorithm cache: for each product the fastest cuBLASLt algorithms of one
 * class (algorithms that give equal bits), the same on every rank and kept in a file.
 * Layer 5. Includes base/, backend/, comm/, config/, train/trainer.h.
 *
 * The class decides the rounding of a product, so it must be the same on every rank. Rank 0 reads
 * the file, measures the products that are missing, writes the file, and sends its choices to all
 * ranks. Without the file, another run may choose other classes, and its results may differ in
 * rounding. run.json and the checkpoint name the classes. A resumed run selects the classes of its
 * checkpoint. */
#ifndef PLUMB_TRAIN_GEMM_CACHE_H
#define PLUMB_TRAIN_GEMM_CACHE_H

#include "train/trainer.h"

/* Reads the cache file on rank 0 and sends its algorithms to every rank. If the file is missing,
 * damaged or of another device, the cache is empty; the last two cases log a warning. Does nothing
 * on a CPU. Collective. */
plumb_status plumb_gemm_cache_read(plumb_comm *comm, struct plumb_backend *b,
                                   const struct plumb_config *cfg);
/* Measures, on rank 0, the products of s's models that are not in the cache, writes the file, and
 * sends the choices to every rank. A run that resumes selects the classes of its checkpoint; if
 * this GPU has no algorithm of such a class, a warning names the product. With pins=none nothing is
 * measured: every rank uses the first row-invariant algorithms that cuBLASLt's heuristic returns.
 * If the file cannot be written, a warning is logged. Collective. */
plumb_status plumb_gemm_cache_tune(const struct plumb_trainer_source *s);

#endif
