/* win_rate.h - the win rate of one model against another, controlled for length.
 * Layer 5. Includes base/. */
#ifndef PLUMB_EVAL_WIN_RATE_H
#define PLUMB_EVAL_WIN_RATE_H

#include <stdint.h>

#include "base/status.h"

/* Sets *out to LC, the length-controlled win rate: an estimate of the win rate between answers of
 * equal length.
 *     P(win_i) = sigma( theta + phi tanh(delta_i / std(delta)) ),     LC = sigma(theta)
 *     (theta, phi) = argmin sum_i CE(won_i, P_i) + 1e-3 / 2 (theta^2 + phi^2)
 * delta_i = the answer's length minus the other's, std over the population. The tanh term is 0 if
 * std(delta) is 0. won_i is 1, 1/2 or 0.
 * This is the regression of AlpacaEval 2 without its term for the difficulty of an instruction,
 * which needs many models. The ridge term keeps theta finite if one side always wins. LC is 1/2 for
 * n = 0. Source: Dubois et al. 2024, arXiv:2404.04475, eq. 2 and section 3, simplified
 *
 *   in   won    (n,)   1 won, 1/2 tie, 0 lost
 *        delta  (n,)   lengths in any one unit
 * PLUMB_ERR_NUMERIC if Newton's method does not converge. */
plumb_status plumb_lc_win_rate(double *out, const double *won, const double *delta, int64_t n);

#endif
