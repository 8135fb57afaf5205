/* deal.h - assigns ("deals") the prompts of an iteration to ranks by their predicted work, as a
 * pure function.
 * Layer 4. Includes base/. */
#ifndef PLUMB_DATA_DEAL_H
#define PLUMB_DATA_DEAL_H

#include <stdint.h>

#include "base/status.h"

/* Sets order (n,) to the indices 0 .. n - 1 of the prompts, sorted by load (n,): the largest load
 * first, among equal loads the lowest index first. Not collective. PLUMB_ERR_NOMEM if memory runs
 * out. */
plumb_status plumb_deal_order(int64_t *order, const double *load, int64_t n);

/* Gives each of n prompts to one of `ranks` ranks, so that the ranks' loads are about equal.
 *
 * The function goes through the prompts in the order of plumb_deal_order. It gives each prompt to
 * the rank with the smallest sum of loads so far among the ranks that have fewer than `cap` prompts
 * (among equal sums to the lowest rank).
 *       Source: Graham 1969, "Bounds on Multiprocessing Timing Anomalies"; the cap is ours
 *
 *   out  rank  (n,)   rank of each prompt; -1 if its load is 0
 *   in   load  (n,)   >= 0, in any unit, for example tokens
 *
 * Not collective; equal arguments give the same result on every rank. PLUMB_ERR_ARG if a load is
 * negative or not finite, or if more than ranks * cap prompts have a load above 0. PLUMB_ERR_NOMEM
 * if memory runs out. */
plumb_status plumb_deal(int32_t *rank, const double *load, int64_t n, int ranks, int64_t cap);

#endif
