/* header.c - includes one of plumb's headers twice, without other headers; this must compile. Built
 * once per header with -DHEADER. */
#include HEADER
#include HEADER
int main(void)
{
    return 0;
}
