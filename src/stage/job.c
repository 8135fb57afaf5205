/* job.c - finds a training command by its name.
 * Layer 5. Includes stage/commands.h. */
#include <string.h>

#include "stage/commands.h"

const struct plumb_job *plumb_job_find(const char *command)
{
    static const struct plumb_job *const job[] = {&plumb_job_align, &plumb_job_sft,
                                                  &plumb_job_reward, &plumb_job_prefer};
    for (size_t i = 0; i < sizeof(job) / sizeof(job[0]); i++)
        if (strcmp(job[i]->name, command) == 0)
            return job[i];
    return NULL;
}
