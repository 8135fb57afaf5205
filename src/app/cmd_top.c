/* cmd_top.c - prints the progress and the state of a run; on a terminal it repeats this until the
 * run ends.
 * Layer 6. May include everything. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/app.h"
#include "app/process.h"
#include "app/top.h"

#define CLEAR "\033[H\033[2J"

static plumb_status show(const struct plumb_app *app)
{
    const double refresh = app->cfg->refresh;
    const bool live = isatty(STDOUT_FILENO) && refresh > 0;
    struct plumb_buf page = {0};
    bool running = true;
    plumb_status st = PLUMB_OK;
    PLUMB_REQUIRE(strcmp(app->cfg->input, "-") != 0, PLUMB_ERR_CONFIG,
                  "input: is not set; name the folder of a run: plumb top DIR");
    while (running && st == PLUMB_OK) {
        plumb_buf_clear(&page);
        st = plumb_top_put(&page, &running, app->cfg->input);
        if (st != PLUMB_OK)
            break;
        printf("%s%s", live ? CLEAR : "", plumb_buf_text(&page));
        if (!live || !running)
            break;
        printf("\nagain every %g s; ends with the run, or with Ctrl-C\n", refresh);
        fflush(stdout);
        const struct timespec pause = {(time_t)refresh,
                                       (long)(1e9 * (refresh - (double)(time_t)refresh))};
        nanosleep(&pause, NULL);
    }
    plumb_buf_fini(&page);
    return st == PLUMB_OK ? plumb_process_flush() : st;
}

plumb_status plumb_cmd_top(struct plumb_app *app)
{
    plumb_status st = PLUMB_OK;
    if (plumb_comm_rank(app->comm) == 0)
        st = show(app);
    return plumb_comm_agree(app->comm, st);
}
