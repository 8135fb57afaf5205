/* misspelt.h - members of records whose names are almost those that plumb reads.
 * Layer 4. Includes base/, io/, data/dataset.h. Inside data/ only.
 *
 * A member that plumb does not know is data of the user's, which reward commands get; "compeltion"
 * is most likely a mistake. A member counts as misspelt when its name is one edit away from a name
 * that is read from this kind of file (two for names of eight characters or more; upper case is the
 * same as lower case), and its value is what that name would have. */
#ifndef PLUMB_DATA_MISSPELT_H
#define PLUMB_DATA_MISSPELT_H

#include "data/dataset.h"
#include "io/json.h"

enum { PLUMB_MISSPELT_MOST = 8 };

/* The misspelt names of a file so far; zero-initialise. More than PLUMB_MISSPELT_MOST of them are
 * not counted. */
struct plumb_misspelt {
    struct plumb_misspelt_name {
        char name[32];     /* as it is in the file */
        const char *meant; /* static */
        char first[512];   /* "file:line" of the first record with it */
        int64_t records;
    } item[PLUMB_MISSPELT_MOST];
    int n;
    int last; /* item of the record that was looked at last; -1: it has no misspelt name */
};

/* Looks at the members of one record. where is "file:line". */
plumb_status plumb_misspelt_look(struct plumb_misspelt *m, const plumb_json *line,
                                 const struct plumb_data_options *o, const char *where);
/* Warns of every name once, with the number of records that have it. */
void plumb_misspelt_say(const struct plumb_misspelt *m);

#endif
