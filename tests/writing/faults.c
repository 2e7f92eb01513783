/* Between a process and libc, by LD_PRELOAD: the n-th call that concerns files of one folder fails, or is the last.

   What C, C++ and Rust write goes through it too. Calls by which files are read count where they open one. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { NONE, FAILS, STAYS_FULL, KILLED, LOSES_DATA, LOSES_NAMES };
enum { KILLED_STATUS = 77, MOST = 64, MOST_DESCRIPTORS = 4096 };

struct unflushed { dev_t device; ino_t inode; int descriptor; off_t size; };
struct renamed { char path[PATH_MAX], before[PATH_MAX]; };

static char folder[PATH_MAX];
static enum action action;
static int error;
static long chosen, calls;
static struct unflushed data[MOST];
static struct renamed names[MOST];
static int data_count, names_count;
static char has_pending[MOST_DESCRIPTORS];

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int is_in_folder(const char *path) {
    size_t length = strlen(folder);
    return action != NONE && length && path && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static int is_open_in_folder(int descriptor) {
    char path[PATH_MAX];
    int before = errno, found = action != NONE && path_of(descriptor, path) && is_in_folder(path);
    errno = before;
    return found;
}

/* What a power cut takes: data that no fsync wrote, back to the size before, or names that no fsync of a directory did. */
void power_cut(int status) {
    if (action == LOSES_DATA)
        while (data_count--) {
            REAL(ftruncate);
            real(data[data_count].descriptor, data[data_count].size);
        }
    if (action == LOSES_NAMES)
        while (names_count--) {
            REAL(rename);
            if (names[names_count].before[0]) real(names[names_count].before, names[names_count].path);
            else unlink(names[names_count].path);
        }
    _exit(status);
}

static void note_data(int descriptor) {
    struct stat found;
    if (descriptor < MOST_DESCRIPTORS) has_pending[descriptor] = 1;
    if (action != LOSES_DATA || fstat(descriptor, &found) || !S_ISREG(found.st_mode) || data_count == MOST) return;
    for (int i = 0; i < data_count; i++)
        if (data[i].inode == found.st_ino && data[i].device == found.st_dev) return;
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    data[data_count++] = (struct unflushed){found.st_dev, found.st_ino, copy, found.st_size};
}

static void note_name(const char *path, const char *before) {
    if (action != LOSES_NAMES || names_count == MOST) return;
    struct renamed *name = &names[names_count++];
    snprintf(name->path, PATH_MAX, "%s", path);
    snprintf(name->before, PATH_MAX, "%s", before);
}

/* A name that is taken by a renaming: what it stood for is linked beside the folder. */
static void note_renaming(const char *from, const char *to) {
    if (action != LOSES_NAMES) return;
    char before[PATH_MAX] = "";
    for (int i = 0; i < names_count; i++)
        if (!strcmp(names[i].path, from)) {
            memmove(&names[i], &names[i + 1], (--names_count - i) * sizeof names[0]);
            break;
        }
    if (!access(to, F_OK)) {
        snprintf(before, PATH_MAX, "%.4000s.before.%d.%d", folder, (int)getpid(), names_count);
        if (link(to, before)) before[0] = 0;
    }
    note_name(to, before);
}

static void note_flush(int descriptor) {
    struct stat found;
    char path[PATH_MAX];
    if (descriptor < MOST_DESCRIPTORS) has_pending[descriptor] = 0;
    if (fstat(descriptor, &found)) return;
    for (int i = 0; i < data_count; i++)
        if (data[i].inode == found.st_ino && data[i].device == found.st_dev) data[i--] = data[--data_count];
    if (!S_ISDIR(found.st_mode) || !path_of(descriptor, path)) return;
    int kept = 0;
    for (int i = 0; i < names_count; i++) {
        const char *end = strrchr(names[i].path, '/');
        int is_flushed = (size_t)(end - names[i].path) == strlen(path) && !strncmp(path, names[i].path, strlen(path));
        if (!is_flushed) names[kept++] = names[i];
        else if (names[i].before[0]) unlink(names[i].before);
    }
    names_count = kept;
}

/* Count a call; true where it must fail. `needs_room` where a full disk is felt. */
static int must_fail(int needs_room) {
    calls++;
    if (action == STAYS_FULL ? calls < chosen || !needs_room : calls != chosen) return 0;
    if (action >= LOSES_DATA) power_cut(KILLED_STATUS);
    if (action == KILLED) _exit(KILLED_STATUS);
    errno = error;
    return 1;
}

/* What is written of `size` bytes before the fault: half, where the call is the one. */
static size_t half(size_t size) {
    return action != FAILS && calls + 1 == chosen ? size / 2 : 0;
}

/* From now on the call number `at` on a file within `where` meets the fault. */
void arm(const char *where, int what, int number, long at) {
    snprintf(folder, sizeof folder, "%s", where);
    error = number;
    chosen = at;
    calls = 0;
    data_count = names_count = 0;
    action = what;
}

/* No more faults; how many calls there were. */
long disarm(void) {
    action = NONE;
    return calls;
}

#define OPENS(name)                                                                                                    \
    int name(const char *path, int flags, ...) {                                                                       \
        REAL(name);                                                                                                    \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                      \
        va_end(rest);                                                                                                  \
        if (!is_in_folder(path)) return real(path, flags, mode);                                                       \
        int is_new = flags & O_CREAT && access(path, F_OK);                                                            \
        if (must_fail(is_new)) return -1;                                                                              \
        int descriptor = real(path, flags, mode);                                                                      \
        if (is_new && descriptor >= 0) note_name(path, "");                                                            \
        return descriptor;                                                                                             \
    }
OPENS(open)
OPENS(open64)

#define OPENS_STREAM(name)                                                                                             \
    FILE *name(const char *path, const char *mode) {                                                                   \
        REAL(name);                                                                                                    \
        if (!is_in_folder(path)) return real(path, mode);                                                              \
        int is_new = mode[0] != 'r' && access(path, F_OK);                                                             \
        if (must_fail(is_new)) return NULL;                                                                            \
        FILE *stream = real(path, mode);                                                                               \
        if (is_new && stream) note_name(path, "");                                                                     \
        return stream;                                                                                                 \
    }
OPENS_STREAM(fopen)
OPENS_STREAM(fopen64)

ssize_t write(int descriptor, const void *bytes, size_t size) {
    REAL(write);
    if (!is_open_in_folder(descriptor)) return real(descriptor, bytes, size);
    note_data(descriptor);
    ssize_t written = half(size) ? real(descriptor, bytes, half(size)) : 0;
    if (!must_fail(1)) return real(descriptor, bytes, size);
    return written > 0 ? written : -1;
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    if (!is_open_in_folder(descriptor)) return real(descriptor, parts, count);
    note_data(descriptor);
    ssize_t written = half(count) ? real(descriptor, parts, half(count)) : 0;
    if (!must_fail(1)) return real(descriptor, parts, count);
    return written > 0 ? written : -1;
}

#define WRITES_AT(name, offset_type)                                                                                   \
    ssize_t name(int descriptor, const void *bytes, size_t size, offset_type offset) {                                 \
        REAL(name);                                                                                                    \
        if (!is_open_in_folder(descriptor)) return real(descriptor, bytes, size, offset);                              \
        note_data(descriptor);                                                                                         \
        return must_fail(1) ? -1 : real(descriptor, bytes, size, offset);                                              \
    }
WRITES_AT(pwrite, off_t)
WRITES_AT(pwrite64, off64_t)

#define FLUSHES(name)                                                                                                  \
    int name(int descriptor) {                                                                                         \
        REAL(name);                                                                                                    \
        if (!is_open_in_folder(descriptor)) return real(descriptor);                                                   \
        if (must_fail(0)) return -1;                                                                                   \
        note_flush(descriptor);                                                                                        \
        return real(descriptor);                                                                                       \
    }
FLUSHES(fsync)
FLUSHES(fdatasync)

/* A close fails only where something was written and not flushed, and has closed nevertheless, as on Linux. */
int close(int descriptor) {
    REAL(close);
    if (!is_open_in_folder(descriptor)) return real(descriptor);
    int is_pending = descriptor < MOST_DESCRIPTORS && has_pending[descriptor];
    if (is_pending) has_pending[descriptor] = 0;
    int fails = is_pending && must_fail(0), number = errno, result = real(descriptor);
    if (!fails) return result;
    errno = number;
    return -1;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (!is_in_folder(to)) return real(from, to);
    if (must_fail(0)) return -1;
    note_renaming(from, to);
    return real(from, to);
}

int chmod(const char *path, mode_t mode) {
    REAL(chmod);
    return is_in_folder(path) && must_fail(0) ? -1 : real(path, mode);
}

int fchmod(int descriptor, mode_t mode) {
    REAL(fchmod);
    return is_open_in_folder(descriptor) && must_fail(0) ? -1 : real(descriptor, mode);
}

#define TRUNCATES(name, offset_type)                                                                                   \
    int name(const char *path, offset_type size) {                                                                     \
        REAL(name);                                                                                                    \
        return is_in_folder(path) && must_fail(0) ? -1 : real(path, size);                                             \
    }
TRUNCATES(truncate, off_t)
TRUNCATES(truncate64, off64_t)

#define TRUNCATES_OPEN(name, offset_type)                                                                              \
    int name(int descriptor, offset_type size) {                                                                       \
        REAL(name);                                                                                                    \
        return is_open_in_folder(descriptor) && must_fail(0) ? -1 : real(descriptor, size);                            \
    }
TRUNCATES_OPEN(ftruncate, off_t)
TRUNCATES_OPEN(ftruncate64, off64_t)
