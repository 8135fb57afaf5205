#!/usr/bin/env python3
"""mutations.py - puts each of a list of faults (mutations) into a copy of the source; the tests
named with the fault must then fail. --check only checks that the texts to replace exist."""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# without optimisation, which compiles faster; the tests in this build are not slow
SANITIZED = ["-Db_sanitize=address,undefined", "-Db_lundef=false", "-Dmpi=disabled",
             "-Doptimization=0"]


class Mutation:
    """Replaces the text old by new in file. Every test of `tests` must then fail. asan: in a build with
    sanitizers."""

    def __init__(self, name, file, old, new, *tests, asan=False):
        self.name, self.file, self.old, self.new = name, file, old, new
        self.tests, self.asan = tests, asan


MUTATIONS = [
    # basic faults: gradients, means, masks, memory
    Mutation("flipped gradient sign", "src/align/pair_term.c",
             "beta * dh, -beta * dh};", "-beta * dh, beta * dh};", "align objective"),
    Mutation("flipped gradient sign, weighted loss", "src/align/pair_term.c",
             "out->dlogp[i] -= in->scale * share;", "out->dlogp[i] += in->scale * share;",
             "align objective"),
    Mutation("mean over the rank, align", "src/stage/update.c",
             "m->scale = 1.0 / g->u->denominator;",
             "m->scale = plumb_comm_size(t->comm) / g->u->denominator;", "app ranks"),
    Mutation("imitation divided by each answer's own length", "src/align/pair_term.h",
             "    return in->mean_len;", "    return (double)in->len[i];", "align length"),
    Mutation("the mean length of one prompt, not of the global batch", "src/stage/update.c",
             "imitated_length(in, d, u->prompt_list, count);",
             "imitated_length(in, d, u->prompt_list, 1);", "app losses"),
    Mutation("mean over the rank, sft", "src/train/sft.c",
             "1.0 / (double)plumb_max_i64(targets, 1);",
             "plumb_comm_size(s->t->comm) / (double)plumb_max_i64(targets, 1);", "app ranks"),
    Mutation("scale left out of an adapter's gradient", "src/model/lora.c",
             "    PLUMB_TRY(plumb_op_scale_fwd(b, dlow, dlow, a->scale));\n", "", "app lora"),
    Mutation("a completion of another rank loses the log-probs it was sampled with",
             "src/stage/balance.c", "memcpy(out + HEAD_WORDS + 2 * o->n, o->logp_sampled, row);",
             "memcpy(out + HEAD_WORDS + 2 * o->n, o->logp, row);", "app balance"),
    Mutation("a completion goes to the owner of another prompt", "src/stage/balance.c",
             "plumb_rollouts_put(to->r, src, to->local[prompt], &one)",
             "plumb_rollouts_put(to->r, src, from->rank[prompt] % to->r->prompts, &one)", "app balance"),
    Mutation("a number for two ranks", "src/comm/mpi_count.c",
             "return round == k->round.round ? plumb_count_next(&k->round) : n;",
             "return round == k->round.round && k->told == 0 ? k->round.next : plumb_count_next(&k->round);", "comm mpi 3"),
    Mutation("a rank takes more prompts than planned", "src/data/deal.c",
             "if (count[r] < cap && (", "if (count[r] < 2 * cap && (", "data deal"),
    Mutation("the set-up counts as waiting", "src/train/trainer.c",
             "t->last_traffic[k] = plumb_comm_traffic(t->comm, (enum plumb_traffic_class)k);",
             "t->last_traffic[k] = (struct plumb_traffic){0};", "app top"),
    Mutation("times of mlperf.log step back", "src/report/mlperf.c",
             "m->last_ms = plumb_max_i64(m->last_ms, ms);", "m->last_ms = ms;", "report monitor"),
    Mutation("adapter of another base accepted", "src/model/adapter_file.c",
             "PLUMB_REQUIRE(!text || !strcmp(text, mine), PLUMB_ERR_FORMAT,",
             "PLUMB_REQUIRE(!text || *text, PLUMB_ERR_FORMAT,", "app lora"),
    Mutation("doubled eps, AdamW", "src/train/optim.c",
             ".eps = (float)p->eps,", ".eps = 2 * (float)p->eps,", "train optim"),
    Mutation("doubled eps, RMSNorm", "kernels/cpu/rmsnorm.c",
             "/ (float)f->c + f->eps);", "/ (float)f->c + 2 * f->eps);", "kernels all"),
    Mutation("no slope of the soft cap, attention", "kernels/cpu/attention_bwd.c",
             "v16_mul(v16_fma(v16_sub(v16_set1(0.0f), t), t, v16_set1(1.0f)), scale);",
             "v16_mul(v16_set1(1.0f), scale);", "kernels torch"),
    Mutation("bias of LayerNorm lost", "kernels/cpu/layernorm.c",
             "v16_fma(xhat, v16_load_n(f->w + j, n), v16_load_n(f->bias + j, n))",
             "v16_mul(xhat, v16_load_n(f->w + j, n))", "kernels torch"),
    Mutation("parallel branches one after the other", "src/model/forward.c",
             "s->block.parallel ? a->x : a->xm;", "a->xm;", "model parity"),
    Mutation("gradient of parallel branches mixed", "src/model/backward.c",
             "dmid = parallel ? w->db : dx;", "dmid = dx;", "model parity"),
    Mutation("heads of a fused tensor not interleaved", "src/model/params.c",
             "p->file_step = 3 * s->d;", "p->file_step = s->d;", "model parity"),
    Mutation("dropped barrier", "src/comm/collective.c",
             "    const double token = 0;\n    double heard;\n",
             "    const double token = 0;\n    double heard;\n    if (c->size > 1)\n"
             "        return PLUMB_OK;\n", "comm thread 4"),
    Mutation("completion mask off by one", "src/model/pass.c",
             "for (int64_t j = b->prompt_tokens[i]; j < len; j++) {",
             "for (int64_t j = b->prompt_tokens[i] + 1; j < len; j++) {", "model gap"),
    Mutation("completion begins one token early", "src/train/pack.c",
             "p->prompt_tokens[p->n_seq++] = n_prompt;",
             "p->prompt_tokens[p->n_seq++] = n_prompt > 1 ? n_prompt - 1 : n_prompt;",
             "train pack"),
    Mutation("RoPE pair swapped, cpu", "kernels/cpu/rope.c",
             "v16_sub(v16_mul(u, cj), v16_mul(v, sj))", "v16_sub(v16_mul(v, cj), v16_mul(u, sj))",
             "kernels all"),
    Mutation("RoPE sine and cosine swapped, ref", "kernels/ref/rope.c",
             "*c = cos_sin + pos[i] * r, *s = c + half;",
             "*s = cos_sin + pos[i] * r, *c = s + half;", "kernels all"),
    Mutation("leaked allocation", "src/train/gradient.c",
             "    free(g->slot);\n", "", "train gradient", asan=True),
    Mutation("arena overrun", "src/train/gradient.c",
             '&g->sum[i], count, "grad")', '&g->sum[i], count - 1, "grad")', "train gradient",
             asan=True),
    Mutation("lost micro-batch", "src/train/gradient.c",
             "return run_micro_batches(g, mine, mine.end - mine.begin, fn, arg);",
             "const int64_t n = mine.end - mine.begin;\n"
             "    return run_micro_batches(g, mine, n - (n > 1), fn, arg);",
             "train gradient"),
    Mutation("cuts by tokens depend on the ranks", "src/train/sft.c",
             "    PLUMB_TRY(plumb_epochs_measure(&s->epochs, s->data, 1, NULL, false));\n",
             "    s->epochs.split.tokens -= 8 * (plumb_comm_size(t->comm) - 1);\n"
             "    PLUMB_TRY(plumb_epochs_measure(&s->epochs, s->data, 1, NULL, false));\n",
             "app micro_tokens"),
    Mutation("a micro-batch ends after the record that is too much", "src/train/split.c",
             "tokens + length[i] > c->tokens", "tokens > c->tokens", "train split"),
    Mutation("a pair counts its prompt once", "src/train/record_split.c",
             "completions * r->prompt.n;", "r->prompt.n;", "train epochs"),
    Mutation("reference log-prob of the first iteration only", "src/stage/reference_stage.c",
             "        if (st == PLUMB_OK)\n            st = score_packs(",
             "        if (st == PLUMB_OK && in->t->state.iteration == 0)\n            st = score_packs(",
             "app ranks"),
    Mutation("a frozen layer is read from the other buffer", "src/model/provider.c",
             "p->buffer[l % 2], layer_at", "p->buffer[(l + 1) % 2], layer_at", "model frozen"),
    Mutation("a pass does not wait for the gather of its layer", "src/model/provider.c",
             "b->fetched(b) : p->how.gathered(p->how.arg));", "b->fetched(b) : PLUMB_OK);",
             "model frozen"),
    Mutation("a rank without passes does not follow", "src/train/frozen.c",
             "local = plumb_model_follow(m)", "local = PLUMB_OK", "train frozen"),
    Mutation("a rank loses its unfinished completions when another rank pauses", "src/model/generate.c",
             "            return pause_here(&r);\n        }\n        PLUMB_TRY(st);",
             "            return st;\n        }\n        PLUMB_TRY(st);", "train frozen"),
    Mutation("reference log-prob of the current weights", "src/train/references.c",
             "plumb_pass_logprob(pass, weights, &batch, pack->logp)",
             "plumb_pass_logprob(pass, r->policy, &batch, pack->logp)", "app ranks"),
    # faults that break equal bits on any number of ranks, the resume of a run, or the detection of
    # errors
    Mutation("sum in leaf order, not along the tree", "src/comm/tree.c",
             "return (struct plumb_tree_step){height, t == count - 1 ? height : full};",
             "(void)height, (void)full;\n    return (struct plumb_tree_step){t > 0, t > 0};",
             "app ranks"),
    Mutation("sharded gradients added in the order of the rounds", "src/train/gradient_rounds.c",
             "const struct plumb_tree_step at = plumb_tree_at(r->rounds, r->at);",
             "const struct plumb_tree_step at = {r->at > 0, r->at > 0};",
             "train gradient_rounds", "app shard"),
    Mutation("a rank without a micro-batch brings +0.0", "src/comm/tree.c",
             "        dst[i] = -0.0f;", "        dst[i] = 0.0f;", "train gradient_rounds",
             "comm tree"),
    Mutation("a round's micro-batch on a wrong rank", "src/train/gradient_rounds.c",
             "const int64_t micro_batch = r->at * size + rank;",
             "const int64_t micro_batch = r->at * size + (size - 1 - rank + r->at) % size;",
             "train gradient_rounds", "app shard"),
    Mutation("prompts of a sharded step on other ranks than its micro-batches",
             "src/comm/tree.c", "return (struct plumb_leaves){rank, leaves, world_size};",
             "return (struct plumb_leaves){(rank + 1) % world_size, leaves, world_size};",
             "app shard"),
    Mutation("no agreement before a sharded round's exchange", "src/train/gradient_rounds.c",
             "const plumb_status st = plumb_comm_agree(g->comm, local);",
             "const plumb_status st = local;", "train gradient_rounds"),
    Mutation("a pause hides a failure of the round before", "src/train/gradient_rounds.c",
             "            return plumb_comm_agree(g->comm, st);\n        const int64_t micro_batch",
             "            return PLUMB_OK;\n        const int64_t micro_batch", "train gradient_rounds"),
    Mutation("elements before a bucket's first block lost", "src/train/gradient_rounds.c",
             "    if (carry > 0)\n", "    if (carry > PLUMB_SHARD_BLOCK)\n",
             "train gradient_rounds", "app shard"),
    Mutation("hashes of shares in the order of the ranks", "src/train/masters.c",
             "memcpy(s->hash + (begin + own.begin) / PLUMB_HASH_BLOCK, from,",
             "memcpy(s->hash + (from - s->gathered), from,", "train masters"),
    Mutation("a tensor of a share at the begin of its bucket", "src/train/masters.c",
             "scratch_of(s, k) + (begin - s->shards.border[k]),", "scratch_of(s, k),",
             "train masters"),
    Mutation("changed masters go unnoticed", "src/train/weights.c",
             "        PLUMB_TRY(plumb_masters_hash(masters, &now));", "        now = m->fingerprint;",
             "train masters"),
    Mutation("a full disk hides which file could not be written", "src/train/trainer.c",
             "if (outcome != PLUMB_OK && strcmp(result, plumb_trail_message()) != 0)",
             "if (outcome == PLUMB_OK && strcmp(result, plumb_trail_message()) != 0)", "exact saves"),
    Mutation("masters that changed in memory are saved", "src/train/masters.c",
             "    PLUMB_REQUIRE(hash == s->model->fingerprint, PLUMB_ERR_NUMERIC,",
             "    PLUMB_REQUIRE(hash || s->model->fingerprint, PLUMB_ERR_NUMERIC,", "train masters"),
    Mutation("masters that changed on their way are saved", "src/train/masters.c",
             "if (s->gathered[first + i] != s->hash[first + i])",
             "if (s->gathered[first + i] == 0 && s->hash[first + i] != 0)", "train masters"),
    Mutation("a failed save leaves the other ranks in the gather", "src/train/masters.c",
             "    else if (!s->failed)\n        done = tell(s, &over);",
             "    else if (!s->failed && st == PLUMB_OK)\n        done = tell(s, &over);",
             "train masters"),
    Mutation("gradient of a tied head in the last part", "src/model/head.c",
             "plumb_model_tied(m) ? 0 : s->l + 1, &grad", "s->l + 1, &grad", "model parts"),
    Mutation("attention block order from the batch", "kernels/cpu/attention.c",
             "    if (from < to)\n"
             "        mm(o, dp, (struct mat){s + from, PAGE, 1}, v + from * ldv, ldv, n, dp, to - from, "
             "MM_CHAIN);\n"
             "    for (int64_t i = 0; i < n; i++)\n"
             "        add_values(t, p + i, v, ldv, plumb_max_i64(to, begin[i]), end[i]);\n",
             "    for (int64_t i = 0; i < n; i++)\n"
             "        add_values(t, p + i, v, ldv, plumb_max_i64(to, begin[i]), end[i]);\n"
             "    if (from < to)\n"
             "        mm(o, dp, (struct mat){s + from, PAGE, 1}, v + from * ldv, ldv, n, dp, to - from, "
             "MM_CHAIN);\n", "kernels all"),
    Mutation("a long gradient is one chain of sums", "kernels/cpu/linear_bwd.c",
             "? GEMM_SET : GEMM_ADD,", "? GEMM_SET : GEMM_CHAIN,", "kernels accuracy"),
    Mutation("random numbers keyed by slot", "src/model/generate.c",
             ".sample = (uint32_t)s->sample,", ".sample = (uint32_t)i,", "model generate"),
    Mutation("random numbers keyed by rank", "src/stage/rollout_stage.c",
             "plumb_generate_options_of(c->t->cfg, c->t->state.iteration + 1)",
             "plumb_generate_options_of(c->t->cfg, c->t->state.iteration + 1 + "
             "100 * plumb_comm_rank(c->t->comm))", "app ranks"),
    Mutation("shard border off by one", "src/comm/reduce.c",
             "plumb_min_i64(piece.begin + lower, piece.end);",
             "plumb_min_i64(piece.begin + lower + 1, piece.end);", "train optim"),
    Mutation("an element at the shard border lost", "src/comm/reduce.c",
             "return upper ? (struct plumb_range){mid, piece.end}",
             "return upper ? (struct plumb_range){mid + (mid < piece.end), piece.end}",
             "comm thread 4"),
    Mutation("ranks' parts lost", "src/comm/tree.c",
             "plumb_stream_add(dst, src, n);", "(void)dst, (void)src, (void)n;", "comm thread 4"),
    Mutation("second moments not restored", "src/train/checkpoint.c",
             "        PLUMB_TRY_GOTO(st, read_part(h5, dir, o, 1, &t->param[i], o->v), done);\n",
             "", "train checkpoint", "app resume"),
    Mutation("optimizer step not restored", "src/train/checkpoint.c",
             "    o->step = state->step;\n", "", "train checkpoint"),
    Mutation("threshold state not restored", "src/stage/decision.c",
             'plumb_state_get(s, "threshold.tau", d->threshold.tau)',
             "d->threshold.tau", "app resume"),
    Mutation("prompt cursor not restored", "src/train/state.c",
             "FIELD(prompt_cursor, false), ", "", "app resume"),
    Mutation("hash check skipped", "src/train/manifest.c",
             "PLUMB_REQUIRE(!strcmp(text, want_hash), PLUMB_ERR_FORMAT,",
             "PLUMB_REQUIRE(want_hash[0], PLUMB_ERR_FORMAT,", "train checkpoint"),
    Mutation("metrics ahead of the checkpoint stay", "src/report/metrics.c",
             "if (step > k->steps || iteration > k->iterations)",
             "if (step > k->steps + 1000)", "report metrics"),
    Mutation("latest stays behind after a kill", "src/train/checkpoint.c",
             'plumb_checkpoint_link(output_dir, "latest", mine)', "PLUMB_OK",
             "train checkpoint_dir"),
    # faults in the losses of some methods
    Mutation("VCB over the sample's deviation", "src/align/group_term.c",
             "(in->reward[i] - mean) / m;\n    return sqrt(square);",
             "(in->reward[i] - mean) / (m - 1);\n    return sqrt(square);",
             "align objective", "app losses"),
    Mutation("VCB calibrates towards the worse answers", "src/align/obj_vcb.c",
             "- ref - unit * in->reward[i];", "- ref + unit * in->reward[i];",
             "align objective", "app losses"),
    Mutation("RDO's difference not in its gradient", "src/align/obj_rdo.c",
             "t.loss *= gap, t.dwin *= gap, t.dlose *= gap;", "t.loss *= gap;", "align objective"),
    Mutation("APS's price with the other sign", "src/align/obj_aps.c",
             "t * term.loss + p->rho * t;", "t * term.loss - p->rho * t;",
             "align objective", "app losses"),
    Mutation("SELM is drawn to the reference's answers", "src/align/obj_selm.c",
             "out->dlogp[i] += in->scale * share;", "out->dlogp[i] -= in->scale * share;",
             "align objective", "app neighbours"),
    Mutation("DLMA's margin cut on one side only", "src/align/obj_dlma.c",
             "fmax(fmin(gap, p->margin_limit), -p->margin_limit)", "fmax(gap, -p->margin_limit)",
             "align objective", "app losses"),
    Mutation("LIRE's gradient without its temperature", "src/align/obj_lire.c",
             "(value - expected) / t;", "(value - expected);", "align objective"),
    Mutation("RRHF ranks the worse above the better", "src/align/obj_rrhf.c",
             "in->reward[i] >= in->reward[j]", "in->reward[i] <= in->reward[j]",
             "align objective", "app losses"),
    Mutation("OPTune's weight falls with the margin", "src/align/threshold.c",
             "exp(-p->weight_beta * margin)", "exp(p->weight_beta * margin)",
             "align method", "app losses"),
    Mutation("terms counted, not weighed", "src/align/scoreboard.c",
             "c->branch != PLUMB_BRANCH_SKIP ? c->denominator : 0.0;",
             "c->branch != PLUMB_BRANCH_SKIP ? 1.0 : 0.0;", "align method", "app losses"),
    Mutation("mean over the rank, prefer", "src/stage/pairs.c",
             "s->micro.scale = 1.0 / s->pairs;",
             "s->micro.scale = plumb_comm_size(s->t->comm) / s->pairs;", "app prefer"),
    Mutation("aps trains with dpo's loss", "src/stage/methods.c",
             ".objective = &plumb_obj_aps,", ".objective = &plumb_obj_dpo,",
             "align method", "app losses"),
    # faults of the reference policies
    Mutation("previous is the start", "src/stage/reference_stage.c",
             "&r->role[PLUMB_ROLE_LOSS], cfg->method.reference,",
             '&r->role[PLUMB_ROLE_LOSS], "init",', "app losses"),
    Mutation("the log-probs of other weights", "src/train/references.c",
             "plumb_references_model(r, which)->fingerprint;",
             "(uint64_t)(plumb_references_model(r, which) != NULL);", "train references"),
    Mutation("log-probs of the rollouts before", "src/train/references.c",
             "    memset(r->kept, 0, (size_t)r->slots * sizeof(*r->kept));\n    r->used = 0;\n",
             "    r->used = 0;\n", "train references"),
    Mutation("SPA judges against the loss's reference", "src/stage/spa.c",
             'c->t->cfg->method.judge,', 'c->t->cfg->method.reference,',
             "app spa"),
    Mutation("SPA prefers what the judge would have said", "src/stage/spa.c",
             "(logp - judge)", "(judge - logp)",
             "app spa"),
    Mutation("scores of the policy's own normalised", "src/stage/methods.c",
             "p->reward_norm = PLUMB_NORM_NONE;", "p->reward_norm = PLUMB_NORM_ZSCORE;",
             "align method", "app losses"),
    Mutation("DLMA scores under the contrary first", "src/stage/dlma.c",
             "= logp[0] - logp[1];", "= logp[1] - logp[0];",
             "app neighbours"),
    Mutation("SELM's greedy answers sampled", "src/stage/selm.c",
             "    src.options.sample = (struct plumb_sample_param){.top_p = 1};\n", "",
             "app losses"),
    Mutation("SELM's greedy answers of the policy", "src/stage/selm.c",
             "plumb_references_model(s->reference.set, s->reference.which);\n    src.",
             "in->t->model;\n    src.", "app losses"),
    Mutation("SELM's bonus of the wrong prompt", "src/stage/selm.c",
             "*o = &s->greedy.at[local_prompt];", "*o = &s->greedy.at[local_prompt / 2];", "app losses"),
    # faults of SPA's label smoothing
    Mutation("SPA smooths the clear labels", "src/align/thr_noise.c",
             "margin < tau ?", "margin > tau ?", "align noise", "app losses"),
    Mutation("SPA smooths a step too late", "src/align/thr_noise.c",
             "done >= p->noise_start", "done > p->noise_start", "align noise"),
    Mutation("the oldest margins of the window", "src/align/thr_noise.c",
             "for (int64_t i = n; i-- > 0 && k < p->noise_window;)",
             "for (int64_t i = 0; i < n && k < p->noise_window; i++)", "align noise", "app spa"),
    Mutation("margins in each rank's own order", "src/stage/spa.c",
             "                           step->prompts.begin, margin);",
             "                           plumb_split_micro_batch(split, step->step, mine.begin).begin, margin);",
             "app losses"),
    Mutation("margins of each rank alone", "src/stage/spa.c",
             "    PLUMB_TRY(plumb_comm_allreduce_f64(in->t->comm, margin, n, PLUMB_SUM)); "
             "/* one owner each */\n", "", "app losses"),
    Mutation("margins lost in a pause", "src/stage/spa.c",
             "return plumb_h5_read(f, \"margins\", PLUMB_H5_F64, 0, s->n, s->margin);",
             "return s->n = 0, PLUMB_OK;", "app spa"),
    Mutation("Gemma 3's layers share one rotation", "src/model/spec_window.c",
             "s->rotation[l] = s->windowed[l];", "s->rotation[l] = 0;", "model parity"),
    Mutation("EXAONE 4 rotates its layers without a window", "src/model/spec_window.c",
             "s->rotation[l] = s->windowed[l] ? 0 : -1;", "s->rotation[l] = 0;", "model parity"),
    Mutation("rows of a rotation's pairs stay in the order of the files", "src/model/params.c",
             "r += i < half ? i : 2 * (i - half) + 1 - i;", "r += 0 * half;", "model parity"),
    Mutation("residual scale lost in the backward of attention", "src/model/backward.c",
             "if (scale != 1.0f) {", "if (scale != 1.0f && place == PLUMB_NORM_MLP_OUT) {",
             "model parity"),
    Mutation("long factors for every length", "src/model/rope.c",
             "(double)longest > o->original_max_pos;", "longest > 0;", "model parity",
             "model model"),
    Mutation("fused tensors joined in the wrong order", "src/model/params.c",
             "return p->file_row + r /", "return 0 * p->file_row + r /",
             "model model"),
    Mutation("logits drawn to the reference", "src/model/mix.c",
             "theirs = (float)-far;", "theirs = (float)far;",
             "model mix"),
    Mutation("margins by the policy's own logits", "src/stage/spa.c",
             "if (in->param->decoupling == 0)\n        return plumb_micro_forward",
             "if (in->param->decoupling >= 0)\n        return plumb_micro_forward", "app spa"),
    # faults of REAL's selection of pairs
    Mutation("easy and hard exchanged", "src/align/pair_selection.c",
             "rule == PLUMB_SELECT_EASY ? 1 : -1", "rule == PLUMB_SELECT_EASY ? -1 : 1",
             "align pair_selection", "app real"),
    Mutation("products instead of cosines", "src/align/pair_selection.c",
             "norm > 0 ? gram[i * n + j] / norm : 0;", "norm > 0 ? gram[i * n + j] : 0;",
             "align pair_selection", "app real"),
    Mutation("a partition left out", "src/align/pair_selection.c",
             "bits < 1u << (n - 1)", "bits + 1 < 1u << (n - 1)", "align pair_selection"),
    Mutation("Lloyd's iteration ends after a round", "src/align/pair_selection.c",
             "round < MOST_ROUNDS", "round < MOST_ROUNDS / 100", "align pair_selection"),
    Mutation("given pairs: the most alike are easy", "src/align/pair_selection.c",
             "rule == PLUMB_SELECT_HARD ? -cosine[i]", "rule == PLUMB_SELECT_EASY ? -cosine[i]",
             "align pair_selection", "app real"),
    Mutation("embeddings with the end token", "src/train/embed.c",
             "ids[n - 1] == e->end ? n - 1 : n;", "ids[n - 1] == e->end ? n : n;", "app real"),
    Mutation("embeddings of the policy", "src/stage/real.c",
             "plumb_embed_run(&r->embed, in->t->pass, p)",
             "(r->embed.model = in->t->model, plumb_embed_run(&r->embed, in->t->pass, p))",
             "app real"),
    Mutation("given pairs: cosines of each rank alone", "src/stage/real_given.c",
             "        st = plumb_comm_allreduce_f64(in->t->comm, cosine, n, PLUMB_SUM);",
             "        st = plumb_comm_agree(in->t->comm, st);", "app real"),
    # faults of OPTune's reuse of answers
    Mutation("OPTune renews the best", "src/stage/optune.c",
             "x->reward > y->reward ? 1 : -1", "x->reward > y->reward ? -1 : 1",
             "app neighbours"),
    Mutation("kept answers compared with today's weights", "src/stage/update.c",
             "if (o && !o->principled && !o->old)", "if (o && !o->principled)",
             "app neighbours"),
    Mutation("kept answers counted as generated", "src/stage/decision.c",
             "o->old ? 0 : (double)o->n;", "(double)o->n;", "app neighbours"),
    # faults of runs of several stages
    Mutation("a stage takes up an earlier checkpoint", "src/config/stages.c",
             '"%.*s%s/%s/latest"', '"%.*s%s/%s/checkpoint-1"', "app stages"),
    Mutation("a reference of the stage before", "src/config/stages.c",
             "(int)head, *text, dir, name);",
             '(int)head, *text, dir,\n             strcmp(option, "method.reference") ? name : '
             "s->item[i - 1].name);", "app stages"),
    Mutation("a finished stage of other settings stays", "src/app/cmd_run.c",
             "    PLUMB_TRY(check_config(one, &past));\n    return", "    return", "app stages"),
    Mutation("a finished stage of other inputs stays", "src/app/cmd_run.c",
             "    return check_inputs(one);\n", "    return PLUMB_OK;\n", "app stages"),
    Mutation("a stage on weights that are gone goes on", "src/app/cmd_run.c",
             "PLUMB_REQUIRE(plumb_state_stored(&state) == past->start_fingerprint,",
             "PLUMB_REQUIRE(state.weight_fingerprint || past->start_fingerprint,", "app stages"),
    Mutation("an evaluation of other models stays", "src/app/cmd_run.c",
             "*out = *changed ? NOTHING : FINISHED;", "*out = FINISHED;", "app stages"),
    # faults of `plumb eval`
    Mutation("every replicate the same", "src/eval/interval.c",
             ".prompt = (uint64_t)b}", ".prompt = (uint64_t)b / replicates}", "eval interval"),
    Mutation("the last prompt is never drawn", "src/eval/interval.c",
             "(plumb_rng_uniform(&key) * (double)n);", "(plumb_rng_uniform(&key) * (double)(n - 1));",
             "eval interval"),
    Mutation("an interval of 92.5 %", "src/eval/interval.c",
             "quantile(mean, kept, 0.975)", "quantile(mean, kept, 0.95)", "eval interval"),
    Mutation("the same draws for any seed", "src/app/eval_figures.c",
             "    return plumb_bootstrap(f->reward_interval, w->sum, w->count, e->prompts, "
             "cfg->eval.bootstrap,\n                           cfg->seed);",
             "    return plumb_bootstrap(f->reward_interval, w->sum, w->count, e->prompts, "
             "cfg->eval.bootstrap,\n                           0);", "app eval"),
    Mutation("the judge's exchanged verdict not turned", "src/app/eval_judge.c",
             "const int swapped = -verdict;", "const int swapped = verdict;", "app eval"),
    Mutation("the judge asked twice in the same order", "src/app/eval_judge.c",
             "a = i % 2 ? &theirs->text : &ours->text;\n"
             "    const struct plumb_buf *b = i % 2 ? &ours->text : &theirs->text;",
             "a = &ours->text;\n    const struct plumb_buf *b = &theirs->text;", "app eval"),
    Mutation("win_margin on one side only", "src/app/eval_figures.c",
             "(gap < -cfg->eval.win_margin)", "(gap < 0)", "app eval"),
    Mutation("a tie counts as a loss", "src/app/eval_figures.c",
             "w->won[n] = 0.5 * (1 + better);", "w->won[n] = better > 0;", "app eval"),
    Mutation("the divergence the other way", "src/app/eval_figures.c",
             "v[EVAL_LOGP] - v[EVAL_LOGP_START]", "v[EVAL_LOGP_START] - v[EVAL_LOGP]", "app eval"),
    Mutation("length's gradient with the other sign", "src/eval/win_rate.c",
             "g[1] += (p - won[i]) * x;", "g[1] -= (p - won[i]) * x;", "eval win_rate"),
    Mutation("the win rate not controlled for length", "src/eval/win_rate.c",
             "scale > 0 ? tanh(delta[i] / scale) : 0;", "scale < 0 ? tanh(delta[i] / scale) : 0;",
             "eval win_rate"),
    Mutation("BLEU punishes long answers", "src/eval/bleu.c",
             "fmin(1, exp(1 - ratio))", "fmin(1, exp(ratio - 1))", "eval bleu"),
    Mutation("distinct-n without the last run", "src/eval/ngram.c",
             "i + order <= offset[a + 1]", "i + order < offset[a + 1]",
             "eval ngram", "app eval"),
    Mutation("distinct-n over the borders of answers", "src/eval/ngram.c",
             "i + order <= offset[a + 1]; i++",
             "i < offset[a + 1] && i + order <= offset[answers]; i++", "eval ngram", "app eval"),
    # faults on GPUs, which the tests find on the emulator
    Mutation("NCCL group left open on an error", "src/comm/nccl_move.c",
             "    const ncclResult_t e = ncclGroupEnd();\n    if (st != PLUMB_OK)\n        return st;\n",
             "    if (st != PLUMB_OK)\n        return st;\n    const ncclResult_t e = ncclGroupEnd();\n",
             "cuda nccl fault refuse"),
    Mutation("class of GEMM algorithms without a comparison", "kernels/cuda/gemm_data.cuh",
             "        if (a[i] != b[i])\n", "        if (a[i] != b[i] && n < 0)\n", "cuda gemm_cache"),
    Mutation("resume takes another class of GEMM algorithms", "src/train/gemm_cache.c",
             "    b->gemm_want(b, wanted);\n", "    b->gemm_want(b, NULL);\n", "cuda app"),
    Mutation("NCCL not warmed up before the plan", "src/train/plan.c",
             "    return plumb_exchange_warm(s->comm, s->backend);\n", "    return PLUMB_OK;\n",
             "cuda ranks"),
    Mutation("cuBLASLt not warmed up before the plan", "src/train/plan.c",
             "s->backend->warm ? s->backend->warm(s->backend)", "!s->backend ? PLUMB_OK",
             "cuda app"),
    Mutation("GPUs of the ranks not compared", "src/app/main.c",
             "    if (cfg->comm.exchange != EXCHANGE_MPI)\n        PLUMB_TRY(plumb_exchange_check",
             "    if (cfg->comm.exchange > EXCHANGE_MPI)\n        PLUMB_TRY(plumb_exchange_check",
             "cuda ranks"),
    # faults of `plumb compare`
    Mutation("Student's t of a degree too many", "src/eval/interval.c",
             "degrees = n - 1,", "degrees = n,", "eval interval", "app compare"),
    Mutation("compare: the deviation of these seeds alone", "src/eval/compare.c",
             "m->m2 / (double)(m->count - 1) : NAN;", "m->m2 / (double)m->count : NAN;",
             "app compare"),
    Mutation("compare: differences across seeds", "src/eval/compare.c",
             "a->run[i]->cfg->seed == b->run[k]->cfg->seed && isfinite(gap)", "isfinite(gap)",
             "app compare"),
]


def check():
    """Checks that every text to replace occurs exactly once. Returns the exit code."""
    bad = 0
    for m in MUTATIONS:
        found = (ROOT / m.file).read_text().count(m.old)
        if found != 1 or m.old == m.new:
            print(f"{m.name}: the text stands {found} times in {m.file}, expected once")
            bad += 1
    print(f"{len(MUTATIONS)} mutations, {bad} without their place")
    return bad


class Copy:
    """A copy of the source files as they are in the working tree, and builds of this copy."""

    def __init__(self, folder, fresh):
        self.folder = Path(folder).resolve()
        if not fresh:
            return
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
                                capture_output=True, text=True, check=True).stdout.split("\n")
        for name in filter(None, listed):
            to = self.folder / name
            raw = (ROOT / name).read_bytes() if (ROOT / name).is_file() else None
            if raw is not None and (not to.exists() or to.read_bytes() != raw):
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(raw)
                shutil.copymode(ROOT / name, to)

    def build(self, asan):
        where = self.folder / ("build-asan" if asan else "build")
        if not (where / "build.ninja").exists():
            subprocess.run(["meson", "setup", where, *(SANITIZED if asan else [])], check=True,
                           cwd=self.folder, stdout=subprocess.DEVNULL)
        return where

    def test(self, tests, asan):
        """Returns {test: result of meson, such as "OK" or "FAIL"}, or {} if the build fails."""
        where = self.build(asan)
        log = where / "meson-logs" / "testlog.json"
        log.unlink(missing_ok=True)
        subprocess.run(["meson", "test", "-C", where, "--num-processes", "1",
                        "--timeout-multiplier", "5", *tests], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not log.exists():
            return {}
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        return {r["name"].split(":")[-1].strip().split(" / ")[-1]: r["result"] for r in rows}


def unsound(copy, mutations, asan):
    """Returns the tests that already fail without a mutation. They prove nothing."""
    tests = sorted({t for m in mutations for t in m.tests})
    result = copy.test(tests, asan)
    wrong = {t: result.get(t, "does not run") for t in tests if result.get(t) != "OK"}
    if wrong:
        print(f"without any mutation: {wrong}", flush=True)
    return set(wrong)


def try_one(copy, m):
    path = copy.folder / m.file
    before = path.read_text()
    path.write_text(before.replace(m.old, m.new))
    try:
        result = copy.test(m.tests, m.asan)
    finally:
        path.write_text(before)
    if not result:
        return "does not build"
    missed = [t for t in m.tests if result.get(t) in ("OK", "SKIP", None)]
    return f"survives {', '.join(missed)}" if missed else "caught"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--check", action="store_true", help="only look whether the places are there")
    p.add_argument("--only", action="append", help="the mutations with this in their name")
    p.add_argument("--work", help="keep the copy and its builds in this folder")
    p.add_argument("--as-is", action="store_true", help="take what is in that folder already")
    p.add_argument("--out", help="write the table to this file, too")
    options = p.parse_args()
    if options.check:
        return 1 if check() else 0
    mutations = [m for m in MUTATIONS
                 if not options.only or any(o in m.name for o in options.only)]
    lines, caught, began = [], 0, time.monotonic()

    def say(line):
        print(line, flush=True)
        lines.append(line)
    folder = options.work or tempfile.mkdtemp(prefix="plumb-mutations-")
    try:
        copy = Copy(folder, not options.as_is)
        if check():
            return 1
        say("| mutation | in | tests that must fail | outcome |")
        say("|---|---|---|---|")
        for asan in (False, True):
            mine = [m for m in mutations if m.asan == asan]
            wrong = unsound(copy, mine, asan) if mine else set()
            for m in mine:
                bad = wrong.intersection(m.tests)
                outcome = f"{', '.join(bad)} fails without it" if bad else try_one(copy, m)
                caught += outcome == "caught"
                build = " (sanitized)" if m.asan else ""
                say(f"| {m.name} | {m.file} | {', '.join(m.tests)}{build} | {outcome} |")
    finally:
        if not options.work:
            shutil.rmtree(folder, ignore_errors=True)
    say("")
    say(f"{caught} of {len(mutations)} caught, {time.monotonic() - began:.0f} s.")
    if options.out:
        Path(options.out).write_text("\n".join(lines) + "\n")
    return 0 if caught == len(mutations) else 1


if __name__ == "__main__":
    sys.exit(main())
