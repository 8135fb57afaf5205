/* header.c - a program that includes one of plumb's headers twice: it must compile without other
 * headers. Built once per header with -DHEADER. */
#include HEADER
#include HEADER
int main(void)
{
    return 0;
}
