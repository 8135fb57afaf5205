/* trainer.c - opens and closes a training run.
 * Layer 5. Includes base/, io/, comm/, config/, model/, train/. */
#include "train/trainer.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/num.h"
#include "io/file.h"
#include "train/best_metric.h"
#include "train/inputs.h"
#include "train/same.h"
#include "train/start.h"
#include "train/weights.h"

/* seconds; interval of checkpoint.interval=auto before the first save */
#define FIRST_INTERVAL 600.0
#define SHARED_SECONDS 5.0 /* seconds to wait until a file that another rank wrote is visible */

/* Fails if output_dir is not empty. Files of a run that failed at its start are allowed. Called if
 * the run does not resume. */
static plumb_status check_empty(const struct plumb_config *cfg)
{
    struct plumb_names names;
    struct plumb_run_past past;
    int64_t others = 0;
    PLUMB_TRY(plumb_dir_list(&names, cfg->output_dir));
    for (int64_t i = 0; i < names.n; i++)
        others += !plumb_lock_owns(names.name[i]);
    plumb_names_fini(&names);
    PLUMB_TRY(plumb_run_past(&past, cfg->output_dir));
    PLUMB_REQUIRE(!past.finished, PLUMB_ERR_EXISTS,
                  "output_dir: %s holds a run that is finished, so nothing is left to do there; "
                  "choose another folder for a new run, or go on with resume=auto where its last "
                  "checkpoints were removed",
                  cfg->output_dir);
    PLUMB_REQUIRE(others == 0 || plumb_run_failed_start(cfg->output_dir), PLUMB_ERR_EXISTS,
                  "output_dir: %s exists and is not empty; choose another folder, or continue that "
                  "run with resume=auto",
                  cfg->output_dir);
    return PLUMB_OK;
}

/* Takes the lock of output_dir, so that no other process of plumb writes to this folder. Called on
 * rank 0. */
static plumb_status take_output_dir(struct plumb_trainer *t)
{
    const struct plumb_config *cfg = t->cfg;
    PLUMB_REQUIRE(cfg->output_dir && *cfg->output_dir, PLUMB_ERR_CONFIG,
                  "output_dir: is not set; name the folder for checkpoints and metrics");
    PLUMB_REQUIRE(!plumb_file_same(cfg->output_dir, cfg->model), PLUMB_ERR_EXISTS,
                  "output_dir: %s is the model's folder, too; the run would write into it: name "
                  "another one",
                  cfg->output_dir);
    PLUMB_TRY(plumb_monitor_check(cfg));
    PLUMB_TRY(plumb_path_check_link(cfg->output_dir, "output_dir"));
    PLUMB_REQUIRE(!plumb_file_exists(cfg->output_dir), PLUMB_ERR_EXISTS, "output_dir: %s is a file",
                  cfg->output_dir);
    PLUMB_TRY(plumb_dir_check_output(cfg->output_dir, "output_dir"));
    PLUMB_TRY(plumb_lock_take(&t->lock, cfg->output_dir, t->command, cfg->comm.timeout));
    return strcmp(cfg->resume, "never") == 0 ? check_empty(cfg) : PLUMB_OK;
}

/* Opens the weights that the run starts from or resumes with. */
static plumb_status open_weights(struct plumb_trainer *t, const struct plumb_trainer_source *s,
                                 struct plumb_start *start)
{
    const struct plumb_config *cfg = t->cfg;
    const bool fresh = cfg->train.init == PLUMB_INIT_RANDOM && !t->resumed_from[0];
    const bool adapter = t->resumed_from[0] && plumb_adapter_in(t->resumed_from);
    PLUMB_REQUIRE(cfg->train.init == PLUMB_INIT_CHECKPOINT ||
                      (cfg->lora.r == 0 && !*start->adapter),
                  PLUMB_ERR_CONFIG,
                  "train.init: random with an adapter: the random base weights would not be saved; "
                  "leave train.init or lora out");
    if (t->resumed_from[0])
        snprintf(start->adapter, sizeof(start->adapter), "%s", adapter ? t->resumed_from : "");
    const bool whole = t->resumed_from[0] && !adapter;
    const char *dir = whole ? t->resumed_from : start->base;
    /* With an adapter the base model is not trained. In bfloat16 the backward reads only the packed
     * matrices, so the base is opened as a frozen model, which has no float32 copies of the
     * matrices. */
    static const struct plumb_frozen resident = {.mode = PLUMB_FROZEN_RESIDENT};
    const bool adapted = !whole && (cfg->lora.r > 0 || *start->adapter);
    const bool frozen = adapted && t->backend->dtype == PLUMB_BF16;
    if (plumb_masters_wanted(cfg, t->backend, adapted))
        PLUMB_TRY(plumb_model_open_divided(&t->model, t->backend, dir, s->classifier, fresh,
                                           cfg->seed, &t->masters.hook));
    else if (s->classifier)
        PLUMB_TRY(plumb_model_open_classifier(&t->model, t->backend, dir, 1, cfg->seed));
    else if (frozen)
        PLUMB_TRY(plumb_model_open_frozen(&t->model, t->backend, dir, 0, &resident));
    else if (fresh)
        PLUMB_TRY(plumb_model_create(&t->model, t->backend, dir, cfg->seed));
    else
        PLUMB_TRY(plumb_model_open(&t->model, t->backend, dir));
    PLUMB_TRY(plumb_model_set_longest(t->model, cfg->data.max_tokens,
                                      t->resumed_from[0] ? t->resumed_from : start->run));
    PLUMB_TRY(plumb_model_set_source(t->model, start->base, start->words));
    return whole ? PLUMB_OK : plumb_start_adapter(t->model, start, cfg);
}

static plumb_status open_model(struct plumb_trainer *t, const struct plumb_trainer_source *s)
{
    const struct plumb_config *cfg = t->cfg;
    struct plumb_start start;
    PLUMB_REQUIRE(cfg->model && *cfg->model, PLUMB_ERR_CONFIG,
                  "model: is not set; name a Hugging Face checkpoint folder");
    PLUMB_TRY(plumb_dir_check_input(cfg->model, "model"));
    PLUMB_TRY(plumb_start_of(&start, cfg));
    const bool silent = t->backend->dry && !cfg->data.prompts[0] && !cfg->data.train[0];
    if (!silent) { /* a memory plan without data needs no tokenizer */
        PLUMB_TRY(plumb_dir_check_input(start.words, "tokenizer"));
        PLUMB_TRY(plumb_tokenizer_open(&t->tokenizer, start.words));
        PLUMB_TRY(plumb_chat_open(&t->chat, cfg, start.run, start.words));
    }
    PLUMB_TRY(open_weights(t, s, &start));
    return plumb_model_fit_tokenizer(t->model, t->tokenizer, start.words);
}

/* Decides in which dtype checkpoints hold the weights (checkpoint.dtype). */
static plumb_status set_saved_dtype(struct plumb_trainer *t)
{
    const struct plumb_config *cfg = t->cfg;
    enum plumb_dtype dtype = PLUMB_F32;
    PLUMB_REQUIRE(cfg->checkpoint.dtype == PLUMB_SAVED_FLOAT32 || !plumb_adapter_lora(t->model),
                  PLUMB_ERR_CONFIG,
                  "checkpoint.dtype: the run trains an adapter, whose files are always float32; "
                  "leave it out");
    if (cfg->checkpoint.dtype == PLUMB_SAVED_BFLOAT16)
        dtype = PLUMB_BF16;
    if (cfg->checkpoint.dtype == PLUMB_SAVED_SOURCE && !t->backend->dry &&
        cfg->train.init == PLUMB_INIT_CHECKPOINT)
        PLUMB_TRY(plumb_model_dtype_in(&dtype, cfg->model));
    PLUMB_REQUIRE(dtype != PLUMB_F16, PLUMB_ERR_UNSUPPORTED,
                  "checkpoint.dtype: source, but the weights in %s are float16, which plumb does "
                  "not write: set float32 or bfloat16",
                  cfg->model);
    t->model->saved_as = dtype == PLUMB_BF16 ? PLUMB_BF16 : PLUMB_F32;
    return PLUMB_OK;
}

/* Fails if this rank does not see the file that rank 0 wrote, because path may be another folder on
 * another host. Waits up to SHARED_SECONDS for the file, because network file systems cache. */
static plumb_status check_shared(const struct plumb_trainer *t, const char *path)
{
    const double began = plumb_now();
    while (!plumb_file_exists(path) && !plumb_dir_exists(path)) {
        PLUMB_REQUIRE(
            plumb_now() - began < SHARED_SECONDS, PLUMB_ERR_IO,
            "this rank, on %s, does not see %s, which rank 0 sees: output_dir must be on a file "
            "system that all ranks share",
            plumb_comm_host(t->comm), path);
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    }
    return PLUMB_OK;
}

/* Returns the number of iterations of the whole run; 0 for a command without iterations. */
static int64_t iterations_of(const struct plumb_trainer *t)
{
    return strcmp(t->command, "align") == 0 ? t->cfg->train.iterations : 0;
}

/* Opens the outputs of report.to. Called on rank 0. */
static plumb_status open_monitor(struct plumb_trainer *t)
{
    const struct plumb_monitor_start start = {
        .cfg = t->cfg,
        .command = t->command,
        .world_size = plumb_comm_size(t->comm),
        .steps_done = t->state.step,
        .iterations_done = t->state.iteration,
        .planned_steps = t->state.total_steps,
        .planned_iterations = iterations_of(t),
        .most_micro_batches = t->gradient.most_micro_batches,
        .max_tokens = plumb_at_most(t->cfg->data.max_tokens, t->model->spec.max_pos),
        .began = t->began,
    };
    return plumb_monitor_open(&t->monitor, &start);
}

/* Writes the first files of the run to output_dir. All input was checked before, so a run that
 * cannot start leaves no folder behind. */
static plumb_status open_files(struct plumb_trainer *t)
{
    struct plumb_buf yaml = {0};
    plumb_status st = plumb_config_to_yaml(&yaml, t->cfg, t->command);
    struct plumb_buf chat = {0};
    if (st == PLUMB_OK && t->chat.template)
        st = plumb_chat_put(&chat, &t->chat);
    if (st == PLUMB_OK) {
        const struct plumb_run_info info = {
            .command = t->command,
            .argc = t->argc,
            .argv = t->argv,
            .seed = t->cfg->seed,
            .config_hash = t->state.config_hash,
            .start_fingerprint = t->state.start_fingerprint,
            .total_steps = t->state.total_steps,
            .total_iterations = iterations_of(t),
            .resumed_step = t->state.step,
            .gemm_classes = plumb_buf_text(&t->gemm_classes),
            .config_yaml = plumb_buf_text(&yaml),
            .inputs = plumb_buf_text(&t->inputs),
            .chat = chat.len ? plumb_buf_text(&chat) : NULL,
        };
        st = plumb_run_begin(&t->run, t->cfg->output_dir, t->comm, &info);
    }
    plumb_buf_fini(&yaml);
    plumb_buf_fini(&chat);
    PLUMB_TRY(st);
    const int rank = plumb_comm_rank(t->comm);
    if (rank == 0 && t->resumed_from[0])
        st = plumb_checkpoint_tidy(t->cfg->output_dir, t->resumed_from);
    /* in align every rank writes rollout files */
    if (rank > 0 && strcmp(t->command, "align") == 0) {
        char path[4096];
        st = plumb_path_join(path, sizeof(path), t->cfg->output_dir, "run.json");
        if (st == PLUMB_OK)
            st = check_shared(t, path);
    }
    if (st == PLUMB_OK)
        st = plumb_metrics_open(&t->metrics, t->cfg->output_dir, rank, t->state.step,
                                t->state.iteration);
    if (st == PLUMB_OK && rank == 0)
        st = open_monitor(t);
    if (st == PLUMB_OK && rank == 0) {
        char path[4096];
        st = plumb_path_join(path, sizeof(path), t->cfg->output_dir, "train.log");
        if (st == PLUMB_OK && !(t->log = fopen(path, "a")))
            st = plumb_fail_at(PLUMB_ERR_IO, __FILE__, __LINE__, "%s: cannot write: %s", path,
                               strerror(errno));
        if (st == PLUMB_OK) /* these warnings were printed before train.log existed */
            fputs(plumb_config_warnings(t->cfg), t->log);
        plumb_log_mirror(t->log);
    }
    return plumb_comm_agree(t->comm, st);
}

/* Fails if the configuration differs from that of the resumed run. */
static plumb_status check_resumed(const struct plumb_trainer *t, uint64_t config_hash)
{
    struct plumb_buf then = {0}, diff = {0};
    plumb_status st = PLUMB_OK;
    if (t->state.config_hash == config_hash)
        return PLUMB_OK;
    PLUMB_TRY_GOTO(st, plumb_checkpoint_read_config(&then, t->resumed_from), done);
    if (then.len > 0)
        PLUMB_TRY_GOTO(st,
                       plumb_config_diff(&diff, t->cfg, plumb_buf_text(&then), then.len,
                                         "the checkpoint", t->command),
                       done);
    if (diff.len == 0)
        PLUMB_TRY_GOTO(st,
                       plumb_buf_addf(&diff,
                                      "configuration %016" PRIx64 " in the checkpoint, "
                                      "%016" PRIx64 " now (see config.effective.yaml beside it)\n",
                                      t->state.config_hash, config_hash),
                       done);
    st = plumb_fail_at(PLUMB_ERR_CONFIG, __FILE__, __LINE__,
                       "%s was made with another configuration; give the same values, or start in "
                       "a new output_dir:\n%s",
                       t->resumed_from, plumb_buf_text(&diff));
done:
    plumb_buf_fini(&then);
    plumb_buf_fini(&diff);
    return st;
}

/* Fails if the weights that were read differ from those for which the run saved the state.
 * (hashes.json only proves that the files are unchanged.) */
static plumb_status check_weights(const struct plumb_trainer *t)
{
    PLUMB_REQUIRE(t->state.weight_fingerprint == t->model->fingerprint, PLUMB_ERR_FORMAT,
                  "%s: trainer_state.h5 belongs to weights %016" PRIx64
                  ", the weights files hold %016" PRIx64,
                  t->resumed_from, t->state.weight_fingerprint, t->model->fingerprint);
    return PLUMB_OK;
}

/* Called if the run does not resume from a checkpoint. If resume=auto and an earlier run has begun
 * in output_dir, this run repeats it from the start, so this function fails if the inputs of the
 * two runs differ. */
static plumb_status check_begun(const struct plumb_trainer *t)
{
    char path[PATH_MAX];
    PLUMB_TRY(plumb_path_join(path, sizeof(path), t->cfg->output_dir, "run.json"));
    if (strcmp(t->cfg->resume, "auto") != 0 || !plumb_file_exists(path) ||
        plumb_run_failed_start(t->cfg->output_dir))
        return PLUMB_OK;
    plumb_log(PLUMB_LOG_WARN,
              "%s: a run had begun here and there is no checkpoint of it: resume=auto starts it "
              "again from its first step",
              t->cfg->output_dir);
    return plumb_inputs_check(&t->inputs, path);
}

/* Sets t->inputs to the hashes of the files that the run reads. If the run continues from a
 * checkpoint, or resume=auto starts an earlier run again, fails if the files have changed since
 * that run began. Called on rank 0. */
static plumb_status check_inputs(struct plumb_trainer *t)
{
    char dir[PATH_MAX], path[PATH_MAX];
    PLUMB_TRY(plumb_inputs_put(&t->inputs, t->cfg, t->command));
    if (!t->resumed_from[0])
        return check_begun(t);
    /* resumed_from may be a link or end in a slash, so it is resolved before its parent folder is
     * used. */
    PLUMB_REQUIRE(realpath(t->resumed_from, dir), PLUMB_ERR_IO, "%s: %s", t->resumed_from,
                  strerror(errno));
    *strrchr(dir, '/') = '\0';
    PLUMB_TRY(plumb_path_join(path, sizeof(path), *dir ? dir : "/", "run.json"));
    return plumb_inputs_check(&t->inputs, path);
}

static plumb_status begin_watch(struct plumb_trainer *t)
{
    const struct plumb_config *cfg = t->cfg;
    const bool automatic = cfg->checkpoint.interval == PLUMB_AUTO;
    PLUMB_TRY(plumb_stop_begin(&t->stop, t->comm, cfg->output_dir, cfg->train.max_time,
                               automatic ? FIRST_INTERVAL : cfg->checkpoint.interval,
                               cfg->checkpoint.max_share));
    t->stop.mtbf = automatic ? cfg->checkpoint.mtbf : 0;
    return PLUMB_OK;
}

plumb_status plumb_trainer_open(struct plumb_trainer **out, const struct plumb_trainer_source *s)
{
    *out = NULL;
    struct plumb_trainer *t = calloc(1, sizeof(*t));
    PLUMB_REQUIRE(t, PLUMB_ERR_NOMEM, "trainer");
    *t = (struct plumb_trainer){.cfg = s->cfg,
                                .comm = s->comm,
                                .backend = s->backend,
                                .command = s->command,
                                .ahead = s->ahead,
                                .argc = s->argc,
                                .argv = s->argv,
                                .began = plumb_now(),
                                .saved_step = -1};
    plumb_frozen_of(&t->frozen, s->cfg, s->comm, s->backend);
    plumb_masters_init(&t->masters, s->cfg, s->comm, s->backend);
    const bool dry = s->backend->dry; /* a memory plan only reads and counts */
    const struct plumb_memory_scope outer =
        plumb_memory_enter(s->backend, "policy", PLUMB_PHASE_ALWAYS);
    plumb_status st = plumb_best_metric_check(s->cfg, s->command);
    if (st == PLUMB_OK && !dry && plumb_comm_rank(t->comm) == 0)
        st = take_output_dir(t);
    if (st == PLUMB_OK && !dry)
        st = begin_watch(t);
    if (st == PLUMB_OK)
        st = plumb_micro_parse(&t->replay_step, &t->replay_micro_batch, s->cfg->train.replay);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(t->comm, st), fail);
    if (!dry)
        PLUMB_TRY_GOTO(st,
                       plumb_checkpoint_find(t->resumed_from, sizeof(t->resumed_from),
                                             s->cfg->output_dir, s->cfg->resume, t->comm),
                       fail);
    if (t->resumed_from[0])
        st = check_shared(t, t->resumed_from);
    if (st == PLUMB_OK)
        st = open_model(t, s);
    if (st == PLUMB_OK)
        st = set_saved_dtype(t);
    const uint64_t hash = plumb_config_hash(s->cfg, s->command);
    if (st == PLUMB_OK && t->resumed_from[0]) {
        st = plumb_checkpoint_read_state(&t->state, t->resumed_from);
        t->resumed_step = t->state.step;
        t->resumed_iteration = t->state.iteration;
        if (!strcmp(s->cfg->resume, "auto")) { /* do not save the resumed checkpoint again */
            const char *name = strrchr(t->resumed_from, '/');
            t->saved_step = t->state.step;
            snprintf(t->saved_name, sizeof(t->saved_name), "%.63s", name ? name + 1 : "");
        }
        if (st == PLUMB_OK)
            st = check_resumed(t, hash);
        if (st == PLUMB_OK && !dry)
            st = plumb_checkpoint_load_masters(t->resumed_from, t->model);
        if (st == PLUMB_OK)
            st = check_weights(t);
    } else if (st == PLUMB_OK) {
        t->state.seed = s->cfg->seed;
        t->state.config_hash = hash;
        t->state.start_fingerprint = t->model->fingerprint;
    }
    if (st == PLUMB_OK && !dry && plumb_comm_rank(t->comm) == 0)
        st = check_inputs(t);
    if (st == PLUMB_OK)
        st = plumb_config_results(&t->results, s->cfg, s->command);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(t->comm, st), fail);
    if (!dry)
        PLUMB_TRY_GOTO(st, plumb_same_model(t->comm, "model", t->model), fail);
    plumb_memory_leave(s->backend, outer);
    *out = t;
    return PLUMB_OK;
fail:
    plumb_memory_leave(s->backend, outer);
    plumb_trainer_close(&t, st);
    return st;
}

/* Called before each micro-batch of a step; returns true if the run shall pause. Requests to end
 * the run are noticed before any micro-batch. A save by time is noticed only before the first
 * micro-batch of a step, so that no work is lost: w->busy is false only then, and in the step after
 * a save not even then. */
static bool noticed_in_step(void *arg)
{
    struct plumb_stop_watch *w = arg;
    const bool noticed = plumb_stop_noticed(w);
    w->busy = true;
    return noticed;
}

static plumb_status create_buffers(struct plumb_trainer *t, const struct plumb_pass_limit *limit,
                                   int64_t total_steps, int64_t most_micro_batches)
{
    const struct plumb_config *cfg = t->cfg;
    struct plumb_backend *b = t->backend;
    struct plumb_optim_options options = {
        .learning_rate = cfg->train.learning_rate,
        .beta1 = cfg->train.beta1,
        .beta2 = cfg->train.beta2,
        .eps = cfg->train.epsilon,
        .weight_decay = cfg->train.weight_decay,
        .max_grad_norm = cfg->train.max_grad_norm,
        .offload = cfg->train.offload_moments,
        .schedule = {.kind = (enum plumb_schedule_kind)cfg->train.lr_schedule,
                     .total = total_steps,
                     .warmup_ratio = cfg->train.warmup_ratio,
                     .min_lr_ratio = cfg->train.min_lr_ratio},
    };
    plumb_memory_enter(b, "gradients", PLUMB_PHASE_TRAIN);
    PLUMB_TRY(plumb_gradient_open(&t->gradient, t->model, t->comm, cfg, most_micro_batches));
    t->gradient.pause = noticed_in_step;
    t->gradient.pause_arg = &t->stop;
    t->gradient.overlap = plumb_comm_overlaps(t->comm);
    options.shards = plumb_gradient_shards(&t->gradient);
    t->masters.scratch = plumb_gradient_scratch(&t->gradient);
    plumb_memory_enter(b, "optimizer", PLUMB_PHASE_ALWAYS);
    /* host memory for the largest tensor that a checkpoint rounds */
    if (t->model->saved_as != PLUMB_F32)
        PLUMB_TRY(plumb_memory_beside(b, "rounded weights", 6 * plumb_model_largest(t->model)));
    PLUMB_TRY(plumb_optim_create(&t->optim, t->model, t->comm, &options));
    plumb_memory_enter(b, "training pass", PLUMB_PHASE_TRAIN);
    PLUMB_TRY(plumb_pass_create(&t->pass, t->model, limit));
    plumb_gradient_attach(&t->gradient, t->pass);
    return PLUMB_OK;
}

static void say_start(const struct plumb_trainer *t)
{
    const struct plumb_lora *lora = plumb_adapter_lora(t->model);
    const int ranks = plumb_comm_size(t->comm), threads = t->backend->threads;
    char adapter[128] = "";
    if (lora)
        snprintf(adapter, sizeof(adapter), ", adapter of rank %lld, alpha %g: %.2f M trained",
                 (long long)lora->r, lora->alpha,
                 1e-6 * (double)plumb_model_trained(t->model).count);
    plumb_log(PLUMB_LOG_INFO,
              "%s: %s, %.2f M parameters%s, %d rank%s x %d thread%s, weights %016" PRIx64,
              t->command, t->model->dir, 1e-6 * (double)t->model->count, adapter, ranks,
              ranks == 1 ? "" : "s", threads, threads == 1 ? "" : "s", t->model->fingerprint);
}

/* Warns if the run has only one step and a warm-up: the learning rate of this step is then 0. */
static void note_rate(const struct plumb_trainer *t)
{
    if (t->state.total_steps == 1 && t->cfg->train.warmup_ratio > 0)
        plumb_log_alike(
            "train.warmup_ratio: the run has one step, and the warm-up begins at 0: the "
            "learning rate of this step is 0, so the weights do not change; set "
            "train.warmup_ratio=0, or train for more steps");
}

plumb_status plumb_trainer_prepare(struct plumb_trainer *t, const struct plumb_pass_limit *limit,
                                   int64_t total_steps, int64_t most_micro_batches)
{
    const struct plumb_memory_scope outer =
        plumb_memory_enter(t->backend, "other", PLUMB_PHASE_ALWAYS);
    const plumb_status st = create_buffers(t, limit, total_steps, most_micro_batches);
    plumb_memory_leave(t->backend, outer);
    PLUMB_TRY(plumb_comm_agree(t->comm, st));
    t->state.total_steps = total_steps;
    if (t->backend->dry)
        return PLUMB_OK;
    if (t->resumed_from[0])
        PLUMB_TRY(plumb_checkpoint_load(t->resumed_from, &t->state, t->model, t->optim, t->comm));
    t->state.config = plumb_buf_text(&t->results);
    if (t->backend->gemm_classes)
        PLUMB_TRY(
            plumb_comm_agree(t->comm, t->backend->gemm_classes(t->backend, &t->gemm_classes)));
    t->state.gemm_classes = plumb_buf_text(&t->gemm_classes);
    PLUMB_TRY(open_files(t));
    if (t->resumed_from[0])
        plumb_log(PLUMB_LOG_INFO, "resuming from %s", t->resumed_from);
    say_start(t);
    note_rate(t);
    plumb_trainer_note_space(t);
    if (!plumb_is_pow2(plumb_comm_size(t->comm)))
        plumb_log(PLUMB_LOG_INFO,
                  "%d ranks is no power of two: results agree with other rank counts to rounding, "
                  "not to the bit",
                  plumb_comm_size(t->comm));
    else if (plumb_comm_own_order(t->comm))
        plumb_log(PLUMB_LOG_INFO,
                  "comm.reduce: nccl adds gradients in an order of its own: results agree with "
                  "other rank counts to rounding, not to the bit");
    t->last_log = plumb_now();
    t->last_log_tokens = t->state.num_tokens;
    /* the first line of metrics shall not count the traffic of the set-up */
    for (int k = 0; k < PLUMB_TRAFFIC_CLASSES; k++)
        t->last_traffic[k] = plumb_comm_traffic(t->comm, (enum plumb_traffic_class)k);
    double late_s;
    plumb_comm_waited_for(t->comm, &late_s);
    return PLUMB_OK;
}

/* Logs that the run did nothing, if it was already finished before this start. */
static void say_nothing_left(const struct plumb_trainer *t)
{
    if (t->resumed_from[0] && t->state.step == t->resumed_step &&
        t->state.iteration == t->resumed_iteration)
        plumb_log(PLUMB_LOG_INFO,
                  "nothing was left to do: the run in %s is finished, and %s is its last "
                  "checkpoint (step %lld); for another run name another output_dir",
                  t->cfg->output_dir, t->resumed_from, (long long)t->state.step);
}

void plumb_trainer_close(struct plumb_trainer **tp, plumb_status outcome)
{
    struct plumb_trainer *t = *tp;
    if (!t)
        return;
    char result[1600] = "ok";
    if (outcome != PLUMB_OK)
        snprintf(result, sizeof(result), "%s", plumb_trail_message());
    const double seconds = plumb_now() - t->began;
    if (t->run && outcome == PLUMB_OK)
        say_nothing_left(t);
    if (t->run && outcome == PLUMB_OK)
        plumb_log(PLUMB_LOG_INFO, "saving took %.1f s, %.1f %% of %.1f s", t->save_seconds,
                  100 * t->save_seconds / fmax(seconds, 1e-9), seconds);
    if (plumb_run_end(&t->run, result) != PLUMB_OK)
        plumb_log(PLUMB_LOG_WARN, "run.json: %s", plumb_trail_message());
    plumb_monitor_close(&t->monitor, outcome == PLUMB_OK);
    plumb_metrics_close(&t->metrics);
    plumb_log_mirror(NULL);
    if (t->log)
        fclose(t->log);
    plumb_optim_destroy(&t->optim);
    plumb_pass_destroy(&t->pass);
    plumb_gradient_fini(&t->gradient);
    plumb_model_destroy(&t->model);
    plumb_masters_fini(&t->masters);
    plumb_chat_close(&t->chat);
    plumb_tokenizer_close(&t->tokenizer);
    plumb_buf_fini(&t->results);
    plumb_buf_fini(&t->gemm_classes);
    plumb_buf_fini(&t->inputs);
    plumb_lock_release(&t->lock);
    free(t);
    *tp = NULL;
    /* Writing run.json may have failed, too, for example on a full disk. The final message must be
     * that of the failure that ended the run. */
    if (outcome != PLUMB_OK && strcmp(result, plumb_trail_message()) != 0)
        (void)plumb_fail_at(outcome, __FILE__, __LINE__, "%s", result);
}
