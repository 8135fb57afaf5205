/* mpi_error.c - turns an MPI error code into a status with the library's own text.
 * Layer 1. Includes mpi_impl.h. */
#include "comm/mpi_impl.h"

plumb_status plumb_mpi_fail(const char *file, int line, const char *call, int e)
{
    char text[MPI_MAX_ERROR_STRING];
    int len = 0;
    if (MPI_Error_string(e, text, &len) != MPI_SUCCESS)
        len = 0;
    return plumb_fail_at(PLUMB_ERR_COMM, file, line, "%s: %.*s", call, len, text);
}
