/* misspelt.h - finds members of records whose names are almost a name that plumb reads.
 * Layer 4. Includes base/, io/, data/dataset.h. Used only inside data/.
 *
 * A member with an unknown name is data of the user and is passed to reward commands. But a name
 * such as "compeltion" is most likely a mistake. A member counts as misspelt if both are true:
 *   - Its name is one edit away from a name that plumb reads in this kind of file (two edits for
 *     names of eight or more characters; upper and lower case are equal).
 *   - Its value has the JSON type that the correct name requires. */
#ifndef PLUMB_DATA_MISSPELT_H
#define PLUMB_DATA_MISSPELT_H

#include "data/dataset.h"
#include "io/json.h"

enum { PLUMB_MISSPELT_MOST = 8 };

/* The misspelt names found so far in one file. Initialise with zeros. After PLUMB_MISSPELT_MOST
 * different names, further names are not counted. */
struct plumb_misspelt {
    struct plumb_misspelt_name {
        char name[32];     /* name as written in the file */
        const char *meant; /* the correct name; static memory */
        char first[512];   /* "file:line" of the first record with this name */
        int64_t records;
    } item[PLUMB_MISSPELT_MOST];
    int n;
    /* Index in `item` of a misspelt name of the record that was checked last; -1 if that record has
     * no misspelt name. */
    int last;
};

/* Checks the members of one record and counts misspelt names. where is "file:line". */
plumb_status plumb_misspelt_look(struct plumb_misspelt *m, const plumb_json *line,
                                 const struct plumb_data_options *o, const char *where);
/* Logs one warning per misspelt name, with the number of records that have it. */
void plumb_misspelt_say(const struct plumb_misspelt *m);

#endif
