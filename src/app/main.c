/* main.c - reads the command line, creates the ranks and runs the sub-command. No other file prints
 * the failure of a command or chooses the exit code. Layer 6. May include everything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/app.h"
#include "app/arguments.h"
#include "app/compare.h"
#include "app/placement.h"
#include "app/plan.h"
#include "app/process.h"
#include "base/log.h"
#include "io/file.h"
#include "stage/commands.h"
#include "train/exchange.h"
#include "train/gemm_cache.h"
#include "train/loops.h"
#include "train/plan.h"
#include "train/same.h"
#include "train/stop.h"

static const struct command {
    const char *name;
    plumb_command_fn *run;
} commands[] = {
    {"align", plumb_cmd_align},     {"sft", plumb_cmd_sft},
    {"reward", plumb_cmd_reward},   {"prefer", plumb_cmd_prefer},
    {"run", plumb_cmd_run},         {"generate", plumb_cmd_generate},
    {"logprob", plumb_cmd_logprob}, {"gradient", plumb_cmd_gradient},
    {"score", plumb_cmd_score},     {"eval", plumb_cmd_eval},
    {"compare", plumb_cmd_compare}, {"tokenize", plumb_cmd_tokenize},
    {"inspect", plumb_cmd_inspect}, {"replay", plumb_cmd_replay},
    {"merge", plumb_cmd_merge},     {"plan", plumb_cmd_plan},
    {"doctor", plumb_cmd_doctor},   {"top", plumb_cmd_top},
};

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int help(const char *command)
{
    struct plumb_buf text = {0};
    plumb_status st = plumb_config_help(&text, command);
    if (st == PLUMB_OK) {
        fputs(plumb_buf_text(&text), stdout);
        st = plumb_process_flush();
    }
    if (st != PLUMB_OK)
        fprintf(stderr, "plumb: %s\n", plumb_trail_message());
    plumb_buf_fini(&text);
    return plumb_status_exit_code(st);
}

/* Number of seconds that a rank that ends waits for the other ranks to end, too. */
#define MEETING_SECONDS 10.0
/* Unit of `turn` in seconds. A rank whose failure is PLUMB_ERR_COMM waits `turn` units before it
 * prints its failure and ends the run; ranks 0 to 8 wait for different times, higher ranks as long
 * as rank 8. A rank with another failure does not wait, so its message is printed first. */
#define TURN_SECONDS 0.25

/* Describes how a run ends on this rank. */
struct ending {
    int code;    /* exit code of the process */
    bool speaks; /* true if this rank prints its failure */
    /* true if this is the lowest rank with a failure of its own; its message is printed last */
    bool last;
    bool shared; /* true if every rank has the same failure; the message then names no rank */
    /* True if the ranks could not agree how to end, because communication failed or a rank did not
     * arrive in time. Other ranks may still wait in a collective, so this rank aborts the run. */
    bool alone;
    int turn; /* if `alone`: number of TURN_SECONDS to wait for another rank to end the run */
    char said[2048]; /* the message, saved before later failures can overwrite it */
};

static void put_words(const struct plumb_app *app, int rank, bool shared, const char *said)
{
    char who[64] = "";
    if (app->comm && plumb_comm_size(app->comm) > 1 && !shared)
        snprintf(who, sizeof(who), "rank %d of %d: ", rank, plumb_comm_size(app->comm));
    fprintf(stderr, "plumb %s: %s%s\n", app->command, who, said);
}

/* Rank `first` prints the failures of all ranks whose `own` is true, in ascending order of the
 * ranks. One rank prints them all, because a launcher forwards the output of different ranks in any
 * order. If there are more than MOST_TOLD, it prints the number of the others. Collective. */
static plumb_status tell_others(const struct ending *e, struct plumb_app *app, bool own, int first)
{
    enum { MOST_TOLD = 16 };
    const int rank = plumb_comm_rank(app->comm), size = plumb_comm_size(app->comm);
    char words[sizeof(e->said)];
    for (int from = 0, told = 0; from < size; told++) {
        double next = own && rank >= from ? rank : size, left = own && rank >= from;
        PLUMB_TRY(plumb_comm_allreduce_f64(app->comm, &next, 1, PLUMB_MIN));
        if ((int)next == size)
            break;
        if (told == MOST_TOLD) {
            PLUMB_TRY(plumb_comm_allreduce_f64(app->comm, &left, 1, PLUMB_SUM));
            if (rank == first)
                fprintf(stderr, "plumb %s: %.0f more ranks have other failures\n", app->command,
                        left);
            break;
        }
        snprintf(words, sizeof(words), "%s", e->said);
        PLUMB_TRY(plumb_comm_broadcast(app->comm, words, sizeof(words), (int)next));
        if (rank == first)
            put_words(app, (int)next, false, words);
        from = (int)next + 1;
    }
    return PLUMB_OK;
}

/* Prints the failures of all ranks that differ from the failure of rank `first`; rank `first`
 * prints them. Its own failure is printed later, by explain(). Collective. */
static plumb_status share_words(struct ending *e, struct plumb_app *app, bool own, int first)
{
    char words[sizeof(e->said)];
    snprintf(words, sizeof(words), "%s", e->said);
    PLUMB_TRY(plumb_comm_broadcast(app->comm, words, sizeof(words), first));
    const bool same = own && strcmp(words, e->said) == 0;
    double count = same;
    PLUMB_TRY(plumb_comm_allreduce_f64(app->comm, &count, 1, PLUMB_SUM));
    e->shared = (int)count == plumb_comm_size(app->comm);
    PLUMB_TRY(tell_others(e, app, own && !same, first));
    e->last = e->speaks = plumb_comm_rank(app->comm) == first;
    return PLUMB_OK;
}

/* Decides how this rank ends. plumb_comm_agree makes every rank fail if one has failed, so all
 * ranks call this function and end with the same code. The lowest rank with a failure of its own
 * prints it last. Collective, unless the failure is PLUMB_ERR_COMM. */
static void meet(struct ending *e, struct plumb_app *app, plumb_status st)
{
    *e = (struct ending){.code = plumb_status_exit_code(st), .last = true};
    /* Without a communicator, a rank does not print PLUMB_ERR_PEER, the failure of another rank.
     * With a communicator, share_words decides what is printed. */
    e->speaks = app->comm || st != PLUMB_ERR_PEER;
    snprintf(e->said, sizeof(e->said), "%s", plumb_trail_message());
    if (!app->comm || plumb_comm_size(app->comm) == 1)
        return;
    e->alone = true;
    if (st == PLUMB_ERR_COMM) {
        /* This rank only lost the connection to the others. The cause may be the failure of another
         * rank, so this rank waits until that rank has printed its message. */
        e->turn = 2 + (plumb_comm_rank(app->comm) < 8 ? plumb_comm_rank(app->comm) : 8);
        return;
    }
    const double rank = plumb_comm_rank(app->comm), none = plumb_comm_size(app->comm);
    const bool own = st != PLUMB_ERR_PEER;
    double first = own ? rank : none;
    plumb_comm_max_wait(app->comm, MEETING_SECONDS);
    if (plumb_comm_allreduce_f64(app->comm, &first, 1, PLUMB_MIN) != PLUMB_OK)
        return;
    double code = rank == first || first == none ? e->code : 0;
    if (plumb_comm_allreduce_f64(app->comm, &code, 1, PLUMB_MAX) != PLUMB_OK)
        return;
    if (share_words(e, app, own, first == none ? 0 : (int)first) != PLUMB_OK)
        return;
    e->code = (int)code;
    e->alone = false;
}

/* Returns true if the launcher is Open MPI or srun, which print long texts about exit codes after
 * plumb's message. */
static bool launcher_talks(const struct plumb_app *app)
{
    return app->comm && plumb_comm_size(app->comm) > 1 &&
           (getenv("OMPI_COMM_WORLD_SIZE") || getenv("SLURM_PROCID"));
}

static void put_own_words(const struct plumb_app *app, const struct ending *e)
{
    put_words(app, app->comm ? plumb_comm_rank(app->comm) : 0, e->shared, e->said);
    if (e->last && launcher_talks(app))
        fprintf(
            stderr,
            "plumb %s: the run ends with exit code %d for this reason; the launcher's own lines "
            "below only report that code\n",
            app->command, e->code);
}

/* Prints the failure of this rank, if it is one of the ranks that must print. Collective if the
 * ranks can still communicate. */
static void explain(const struct plumb_app *app, const struct ending *e)
{
    const bool debug = app->cfg && app->cfg->log_level >= PLUMB_LOG_DEBUG;
    const int64_t ns = (int64_t)(TURN_SECONDS * (e->alone ? e->turn : 0) * 1e9);
    nanosleep(&(struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)}, NULL);
    if ((e->speaks || debug) && !e->last)
        put_own_words(app, e);
    if (app->comm && !e->alone && plumb_comm_barrier(app->comm) != PLUMB_OK)
        plumb_log(PLUMB_LOG_DEBUG, "a rank left before the end: %s", plumb_trail_message());
    if (e->last && e->speaks)
        put_own_words(app, e);
}

/* The values of comm.exchange and of comm.reduce, in the order of the option table. */
enum { EXCHANGE_AUTO, EXCHANGE_NCCL, EXCHANGE_MPI };
enum { REDUCE_TREE, REDUCE_NCCL };

#ifdef PLUMB_HAVE_NCCL
enum { HAVE_NCCL = 1 };
#else
enum { HAVE_NCCL = 0 };
#endif

/* Sets *bytes to the free memory of this machine's GPU, for `plumb plan`. If there is no GPU, it
 * fails, and the message asks the user to set plan.memory. */
static plumb_status free_of_gpu(struct plumb_backend *b, int64_t *bytes)
{
    plumb_status st = PLUMB_ERR_DEVICE;
#ifdef PLUMB_HAVE_CUDA
    st = plumb_backend_cuda_free(b, bytes);
#endif
    (void)b, (void)bytes;
    PLUMB_REQUIRE(st == PLUMB_OK, PLUMB_ERR_CONFIG,
                  "plan.memory: is not set, and plumb finds no GPU here to ask for its memory; "
                  "give what one of the GPUs has, such as plan.memory=80GB");
    return PLUMB_OK;
}

static plumb_status create_cuda(struct plumb_app *app)
{
    if (strcmp(app->command, "plan") == 0)
        return plumb_backend_cuda_plan_create(&app->backend, free_of_gpu);
#ifdef PLUMB_HAVE_CUDA
    return plumb_backend_cuda_create(&app->backend, plumb_comm_local_rank(app->comm));
#else
    (void)app;
    PLUMB_FAIL(
        PLUMB_ERR_UNSUPPORTED,
        "device: cuda, but this plumb was built without CUDA: use device: cpu, or build with "
        "-Dcuda=enabled");
#endif
}

static plumb_status check_exchange(const struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    const bool plan = strcmp(app->command, "plan") == 0; /* plan exchanges no data */
    const bool reduce = cfg->comm.reduce == REDUCE_NCCL;
    const bool nccl = reduce || cfg->comm.exchange == EXCHANGE_NCCL;
    PLUMB_REQUIRE(!reduce || cfg->comm.exchange != EXCHANGE_MPI, PLUMB_ERR_CONFIG,
                  "comm.reduce: nccl with comm.exchange: mpi, which does not use NCCL; leave one "
                  "of them out");
    PLUMB_REQUIRE(!nccl || strcmp(cfg->device, "cuda") == 0, PLUMB_ERR_CONFIG,
                  "comm.%s: nccl needs device: cuda; device is %s", reduce ? "reduce" : "exchange",
                  cfg->device);
    PLUMB_REQUIRE(!nccl || HAVE_NCCL || plan, PLUMB_ERR_UNSUPPORTED,
                  "comm.%s: nccl, but this plumb was built without NCCL: leave it out, or build "
                  "with -Dnccl=enabled",
                  reduce ? "reduce" : "exchange");
    return PLUMB_OK;
}

/* Sets up how the ranks exchange device memory. Collective. */
static plumb_status attach_device(struct plumb_app *app)
{
    const struct plumb_config *cfg = app->cfg;
    if (app->backend->place == PLUMB_HOST || app->backend->dry)
        return PLUMB_OK;
    if (cfg->comm.exchange != EXCHANGE_MPI)
        PLUMB_TRY(plumb_exchange_check_gpus(app->comm, app->backend));
    struct plumb_comm_device device = plumb_exchange_device(app->backend);
    device.bucket = cfg->comm.bucket * 1000000 / (int64_t)sizeof(float);
#ifdef PLUMB_HAVE_NCCL
    if (cfg->comm.exchange != EXCHANGE_MPI)
        return plumb_comm_attach_nccl(app->comm, &device, cfg->comm.reduce == REDUCE_NCCL);
#endif
    return plumb_comm_agree(app->comm, plumb_comm_attach_device(app->comm, &device));
}

/* Creates the backend that the option device names. sharing: number of ranks that may run on this
 * rank's cores. */
static plumb_status create_backend(struct plumb_app *app, int sharing)
{
    const struct plumb_config *cfg = app->cfg;
    PLUMB_TRY(check_exchange(app));
    if (strcmp(cfg->device, "ref") == 0)
        return plumb_backend_ref_create(&app->backend);
    if (strcmp(cfg->device, "cuda") == 0)
        return create_cuda(app);
    return plumb_backend_cpu_create(&app->backend, (int)cfg->threads, sharing);
}

enum { DTYPE_FLOAT32, DTYPE_BFLOAT16 }; /* the values of dtype, in the order of the option table */

static plumb_status set_dtype(struct plumb_app *app)
{
    const bool narrow = app->cfg->dtype == DTYPE_BFLOAT16;
    return plumb_backend_set_dtype(app->backend, narrow ? PLUMB_BF16 : PLUMB_F32);
}

/* Reads the name of the planned command from argv[2]. */
static plumb_status find_planned(struct plumb_app *app)
{
    const char *found = app->argc > 2 ? app->argv[2] : NULL;
    PLUMB_REQUIRE(
        found, PLUMB_ERR_CONFIG,
        "expected a command to plan for: plumb plan align|sft|reward|prefer|run [CONFIG.yaml] "
        "[key=value ...]");
    PLUMB_REQUIRE(
        plumb_job_find(found) || strcmp(found, "run") == 0, PLUMB_ERR_CONFIG,
        "command line argument 2: expected the command to plan for (align, sft, reward or "
        "prefer; run for a file of stages), found '%s': plumb plan align %s",
        found, find(found) ? "[CONFIG.yaml] [key=value ...]" : found);
    app->planned = found;
    return PLUMB_OK;
}

static plumb_status load_sorted(struct plumb_app *app, struct plumb_config **cfg, const char *words,
                                const struct plumb_arguments *a)
{
    const bool plan = app->planned != NULL;
    if (strcmp(plan ? app->planned : app->command, "run") != 0) {
        PLUMB_TRY(plumb_config_load(cfg, words, a->file, a->option, a->n));
        return plumb_train_settle(*cfg, words);
    }
    plumb_status st = plan ? plumb_plan_load_stages(&app->stages, cfg, a)
                           : plumb_stages_load(&app->stages, a->file, a->option, a->n);
    if (!plan)
        *cfg = app->stages ? app->stages->top : NULL;
    for (int64_t i = 0; app->stages && i < app->stages->n && st == PLUMB_OK; i++) {
        const struct plumb_stage *one = &app->stages->item[i];
        st = plumb_train_settle(one->cfg, one->command);
        if (st != PLUMB_OK)
            PLUMB_FAIL(st, "stage %s: %s", one->name, plumb_trail_message());
    }
    return st == PLUMB_OK ? plumb_stages_check(app->stages) : st;
}

/* Reads `plumb COMMAND [CONFIG.yaml] key=value ...`; `plan` is followed by the planned command. */
static plumb_status load_config(struct plumb_app *app, struct plumb_config **cfg)
{
    char words[64];
    struct plumb_arguments a = {0};
    int first = 2;
    if (strcmp(app->command, "compare") == 0)
        return plumb_compare_load(cfg, app->argv + 2, app->argc - 2);
    snprintf(words, sizeof(words), "%s", app->command);
    if (strcmp(app->command, "plan") == 0) {
        PLUMB_TRY(find_planned(app));
        first++;
        snprintf(words, sizeof(words), "plan %s", app->planned);
    }
    plumb_status st = plumb_arguments_read(&a, app->planned ? app->planned : app->command,
                                           app->argv + first, app->argc - first, first);
    if (st == PLUMB_OK)
        st = load_sorted(app, cfg, words, &a);
    plumb_arguments_fini(&a);
    return st;
}

static void note_values(const struct plumb_app *app)
{
    plumb_config_notes(app->cfg, app->planned ? app->planned : app->command);
    for (int64_t i = 0; app->stages && i < app->stages->n; i++)
        plumb_config_notes(app->stages->item[i].cfg, app->stages->item[i].command);
}

/* Fails if this rank was started with another command or other options than rank 0. Collective. */
static plumb_status check_options(const struct plumb_app *app)
{
    const char *command = app->planned ? app->planned : app->command;
    struct plumb_buf text = {0};
    plumb_status st = plumb_buf_addf(&text, "plumb %s\n", app->command);
    if (st == PLUMB_OK && !app->stages)
        st = plumb_config_to_yaml(&text, app->cfg, command);
    for (int64_t i = 0; app->stages && i < app->stages->n && st == PLUMB_OK; i++) {
        const struct plumb_stage *one = &app->stages->item[i];
        st = plumb_buf_addf(&text, "stage %s, %s\n", one->name, one->command);
        if (st == PLUMB_OK)
            st = plumb_config_to_yaml(&text, one->cfg, one->command);
    }
    st = plumb_comm_agree(app->comm, st);
    if (st == PLUMB_OK)
        st = plumb_same_options(app->comm, plumb_buf_text(&text));
    plumb_buf_fini(&text);
    return st;
}

static plumb_status run(struct plumb_app *app, const struct command *command)
{
    struct plumb_config *cfg = NULL;
    plumb_status st = load_config(app, &cfg);
    app->cfg = cfg;
    PLUMB_TRY(plumb_comm_create(&app->comm, cfg ? cfg->comm.timeout : 60.0));
    if (cfg)
        plumb_comm_max_wait(app->comm, cfg->comm.max_wait);
    PLUMB_TRY(plumb_comm_agree(app->comm, st));
    PLUMB_TRY(check_options(app));
    plumb_log_setup((enum plumb_log_level)cfg->log_level, plumb_comm_rank(app->comm),
                    plumb_comm_size(app->comm));
    if (plumb_comm_rank(app->comm) == 0)
        note_values(app);
    plumb_say_warnings(app, cfg);
    int sharing = 1;
    PLUMB_TRY(plumb_placement_sharing(&sharing, app->comm));
    PLUMB_TRY(plumb_comm_agree(app->comm, create_backend(app, sharing)));
    PLUMB_TRY(plumb_comm_agree(app->comm, set_dtype(app)));
    PLUMB_TRY(attach_device(app));
    if (plumb_job_find(app->command) || !strcmp(app->command, "run") ||
        !strcmp(app->command, "doctor"))
        PLUMB_TRY(plumb_placement_say(app));
    PLUMB_TRY(plumb_gemm_cache_read(app->comm, app->backend, cfg));
    PLUMB_TRY(command->run(app));
    return plumb_comm_agree(app->comm, plumb_process_flush());
}

static bool is_one_of(const char *text, const char *a, const char *b, const char *c)
{
    return !strcmp(text, a) || !strcmp(text, b) || !strcmp(text, c);
}

/* Fails because `word` is no command. If it is a path, the message says that the command comes
 * first; otherwise help suggests the nearest command. Returns the exit code. */
static int refuse_word(const char *word)
{
    if (!plumb_file_exists(word) && !plumb_dir_exists(word))
        return help(word);
    fprintf(stderr,
            "plumb: '%s' is no command; the command comes first: plumb COMMAND %s, and plumb "
            "inspect %s says what it is\n",
            word, word, word);
    return plumb_status_exit_code(PLUMB_ERR_CONFIG);
}

int main(int argc, char **argv)
{
    plumb_process_standard_files();
    if (argc < 2 || is_one_of(argv[1], "help", "--help", "-h")) {
        int code = help(argc > 2 ? argv[2] : NULL);
        for (int i = 3; i < argc && code == 0; i++)
            code = help(argv[i]);
        return code;
    }
    if (is_one_of(argv[1], "version", "--version", "-V")) {
        puts("plumb " PLUMB_VERSION);
        return plumb_status_exit_code(plumb_process_flush());
    }
    const struct command *command = find(argv[1]);
    if (!command)
        return refuse_word(argv[1]);
    for (int i = 2; i < argc; i++)
        if (is_one_of(argv[i], "--help", "-h", "-?"))
            return help(command->name);

    plumb_process_ignore_signals();
    /* Only the commands that never read standard input: one that waits for its input must end at
     * the first TERM. */
    if (plumb_job_find(command->name) || strcmp(command->name, "run") == 0)
        plumb_stop_catch();
    struct plumb_app app = {.command = command->name, .argc = argc, .argv = argv};
    const plumb_status st = run(&app, command);
    struct ending end = {0};
    if (st != PLUMB_OK) {
        if (app.cfg && app.cfg->log_level >= PLUMB_LOG_DEBUG)
            fprintf(stderr, "%s", plumb_trail());
        meet(&end, &app, st);
        if (st == PLUMB_STOPPED)
            plumb_process_ignore_term();
        explain(&app, &end);
    }
    plumb_comm_detach_device(app.comm);
    plumb_backend_destroy(&app.backend);
    if (end.alone)
        plumb_comm_abort(app.comm, end.code);
    plumb_comm_destroy(&app.comm);
    if (!app.stages || app.planned) /* the configuration of `run` belongs to its stages */
        plumb_config_free((struct plumb_config **)&app.cfg);
    plumb_stages_free(&app.stages);
    return end.code;
}
