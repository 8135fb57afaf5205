/* run_report.c - writes report.html of a training run.
 * Layer 4. Includes report/report.h, base/, io/. */
#include "base/buf.h"
#include "base/log.h"
#include "io/file.h"
#include "report/report.h"

plumb_status plumb_report_run(struct plumb_report *report, const struct plumb_config *cfg,
                              const char *command)
{
    char metrics[4096], path[4096];
    struct plumb_buf yaml = {0};
    plumb_status st;
    PLUMB_TRY(plumb_path_join(metrics, sizeof(metrics), cfg->output_dir, "metrics.jsonl"));
    PLUMB_TRY(plumb_path_join(path, sizeof(path), cfg->output_dir, "report.html"));
    PLUMB_TRY_GOTO(st, plumb_config_to_yaml(&yaml, cfg, command), done);
    report->metrics_path = metrics;
    report->configuration = plumb_buf_text(&yaml);
    PLUMB_TRY_GOTO(st, plumb_report_write(path, report), done);
    plumb_log(PLUMB_LOG_INFO, "report: %s", path);
done:
    report->metrics_path = report->configuration = NULL;
    plumb_buf_fini(&yaml);
    return st;
}
