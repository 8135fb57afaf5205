/* header.c - a program that includes one header of ours, twice: it must stand on its own.
 * Built once per header with -DHEADER. */
#include HEADER
#include HEADER
int main(void)
{
    return 0;
}
