/* A disk that fails on purpose: an LD_PRELOAD library, see faulty_disk.py.

   Armed by `faults_arm`, it counts the operations by which this process changes what is under one folder, writes each
   down with its data, and at the n-th one kills the process, tears a write in two, or lets the operation fail. SQLite,
   safetensors and Python all come through here. `Disk.tree` in faulty_disk.py tells if something has not. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, RMDIR }; /* as in faulty_disk.py */
enum { NOTHING, KILL, TEAR, FAIL };

typedef struct {
  int32_t kind, length_a, length_b, unused;
  uint64_t inode;
  int64_t offset, size;
} Record;

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char root[PATH_MAX];
static size_t root_length; /* 0: not armed */
static long count, when;
static int action, failure, kinds, lasting, trace = -1;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t raw_write(int fd, const void *data, size_t n) {
  REAL(write);
  return real(fd, data, n);
}

/* From now on. `at` counts from 1; `kinds_` is a set of bits, the operations that can fail in this way; a lasting
   failure goes on from there, as a full disk does. Returns 0, or -1 where the recording cannot be opened. */
int faults_arm(const char *folder, const char *recording, long at, int action_, int error, int kinds_, int lasting_) {
  REAL(open);
  trace = real(recording, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (trace < 0) return -1;
  snprintf(root, sizeof root, "%s", folder);
  count = 0, when = at, action = action_, failure = error, kinds = kinds_, lasting = lasting_;
  root_length = strlen(root);
  return 0;
}

long faults_count(void) { return count; }

static int inside(const char *path) {
  return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, PATH_MAX - 1);
  path[n < 0 ? 0 : n] = 0;
  return root_length && n > 0 && inside(path);
}

static int full(int folder, const char *name, char *path) {
  char base[PATH_MAX] = "";
  if (!root_length || !name) return 0;
  if (name[0] != '/') {
    if (folder == AT_FDCWD) {
      if (!getcwd(base, sizeof base)) return 0;
    } else if (!path_of(folder, base) && !base[0])
      return 0;
  }
  int n = name[0] == '/' ? snprintf(path, PATH_MAX, "%s", name) : snprintf(path, PATH_MAX, "%s/%s", base, name);
  while (n > 1 && path[n - 1] == '/') path[--n] = 0;
  return n < PATH_MAX && inside(path);
}

static uint64_t inode_at(const char *path) {
  struct stat about;
  return lstat(path, &about) ? 0 : about.st_ino;
}

static void record(int kind, const char *a, const char *b, uint64_t inode, int64_t offset, const void *data, int64_t size) {
  Record r = {kind, a ? (int)strlen(a) : 0, b ? (int)strlen(b) : 0, 0, inode, offset, size};
  int before = errno;
  raw_write(trace, &r, sizeof r);
  if (r.length_a) raw_write(trace, a, r.length_a);
  if (r.length_b) raw_write(trace, b, r.length_b);
  if (data && size > 0) raw_write(trace, data, size);
  errno = before;
}

/* safetensors moves its temporary file into place by a system call of its own, which no library sees: whatever has
   happened to such a file since the last operation is written down before the next one. */
static struct {
  char path[PATH_MAX];
  uint64_t inode;
} moving[16];
static int movings;

static void forget(const char *path) {
  for (int i = 0; i < movings; i++)
    if (!strcmp(moving[i].path, path)) moving[i--] = moving[--movings];
}

static void watch(const char *path, uint64_t inode) {
  const char *name = strrchr(path, '/');
  if (!name || strncmp(name, "/.tmp", 5) || movings == 16) return;
  snprintf(moving[movings].path, PATH_MAX, "%s", path);
  moving[movings++].inode = inode;
}

static void catch_up(void) {
  for (int i = 0; i < movings; i++) {
    if (inode_at(moving[i].path) == moving[i].inode) continue;
    char folder[PATH_MAX], path[PATH_MAX * 2];
    snprintf(folder, sizeof folder, "%s", moving[i].path);
    *strrchr(folder, '/') = 0;
    DIR *names = opendir(folder);
    struct dirent *one;
    int found = 0;
    while (names && !found && (one = readdir(names))) {
      snprintf(path, sizeof path, "%s/%s", folder, one->d_name);
      found = inode_at(path) == moving[i].inode;
    }
    if (names) closedir(names);
    record(found ? RENAME : UNLINK, moving[i].path, found ? path : NULL, moving[i].inode, 0, NULL, 0);
    moving[i--] = moving[--movings];
  }
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Whether this operation is to fail; kills where that is asked for. Called with the lock held. */
static int fails(int kind) {
  int before = errno;
  catch_up();
  errno = before;
  count++;
  if (when <= 0 || count < when) return 0;
  if (action == KILL || (action == TEAR && kind != WRITE)) die();
  if (action != FAIL || !(kinds >> kind & 1)) return 0;
  if (!lasting && count > when) return 0;
  errno = failure;
  return 1;
}

#define LOCKED(inside_, plain) \
  if (!root_length || !(inside_)) return plain; \
  pthread_mutex_lock(&lock)
#define DONE(value) \
  do { \
    __typeof__(value) done_ = (value); \
    int errno_ = errno; \
    pthread_mutex_unlock(&lock); \
    errno = errno_; \
    return done_; \
  } while (0)

/* ── opening ── */

#ifndef O_TMPFILE
#define O_TMPFILE 020200000
#endif
#define CREATES(flags) ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE)

static int opened(int (*call)(int, const char *, int, mode_t), int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
  LOCKED(writes && full(folder, name, path), call(folder, name, flags, mode));
  int unnamed = (flags & O_TMPFILE) == O_TMPFILE;
  int made = unnamed || (flags & O_CREAT && !inode_at(path));
  if (fails(made ? CREATE : OPEN)) DONE(-1);
  int fd = call(folder, name, flags, mode);
  struct stat about;
  if (fd >= 0 && !fstat(fd, &about)) {
    if (made) record(CREATE, unnamed ? "" : path, NULL, about.st_ino, 0, NULL, 0), watch(path, about.st_ino);
    else record(OPEN, path, NULL, about.st_ino, 0, NULL, 0);
    if (!made && flags & O_TRUNC) record(TRUNCATE, path, NULL, about.st_ino, 0, NULL, 0);
  }
  DONE(fd);
}

#define MODE \
  mode_t mode = 0; \
  if (CREATES(flags)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, int); \
    va_end(rest); \
  }

static int call_openat(int folder, const char *name, int flags, mode_t mode) {
  REAL(openat);
  return real(folder, name, flags, mode);
}
static int call_openat64(int folder, const char *name, int flags, mode_t mode) {
  REAL(openat64);
  return real(folder, name, flags, mode);
}
int open(const char *name, int flags, ...) { MODE return opened(call_openat, AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(call_openat64, AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) { MODE return opened(call_openat, folder, name, flags, mode); }
int openat64(int folder, const char *name, int flags, ...) { MODE return opened(call_openat64, folder, name, flags, mode); }
int creat(const char *name, mode_t mode) { return open(name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return open64(name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* ── writing ── */

static ssize_t put(int fd, const void *data, size_t n, int64_t offset, int positioned) {
  REAL(pwrite64);
  return positioned ? real(fd, data, n, offset) : raw_write(fd, data, n);
}

static ssize_t written(int fd, const void *data, size_t n, int64_t offset, int positioned) {
  char path[PATH_MAX];
  struct stat about;
  LOCKED(fd != trace && path_of(fd, path), put(fd, data, n, offset, positioned));
  if (fstat(fd, &about) || !S_ISREG(about.st_mode)) DONE(put(fd, data, n, offset, positioned));
  if (!positioned) offset = fcntl(fd, F_GETFL) & O_APPEND ? about.st_size : lseek64(fd, 0, SEEK_CUR);
  int last = when > 0 && count + 1 == when;
  int half = n > 1 && last && (action == TEAR || (action == FAIL && lasting && kinds >> WRITE & 1));
  if (!half && fails(WRITE)) DONE((ssize_t)-1);
  if (half) catch_up(), count++;
  ssize_t done = put(fd, data, half ? n / 2 : n, offset, positioned);
  if (done > 0) record(WRITE, path, NULL, about.st_ino, offset, data, done);
  if (half && action == TEAR) die();
  DONE(done);
}

ssize_t write(int fd, const void *data, size_t n) { return written(fd, data, n, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t offset) { return written(fd, data, n, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset) { return written(fd, data, n, offset, 1); }

static ssize_t gathered(int fd, const struct iovec *parts, int number, int64_t offset, int positioned) {
  size_t n = 0, filled = 0;
  for (int i = 0; i < number; i++) n += parts[i].iov_len;
  char *data = malloc(n ? n : 1);
  for (int i = 0; i < number; filled += parts[i++].iov_len) memcpy(data + filled, parts[i].iov_base, parts[i].iov_len);
  ssize_t done = written(fd, data, n, offset, positioned);
  int before = errno;
  free(data);
  errno = before;
  return done;
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
  char path[PATH_MAX];
  REAL(writev);
  if (!root_length || !path_of(fd, path)) return real(fd, parts, number);
  return gathered(fd, parts, number, 0, 0);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int number, off64_t offset) {
  char path[PATH_MAX];
  REAL(pwritev64);
  if (!root_length || !path_of(fd, path)) return real(fd, parts, number, offset);
  return gathered(fd, parts, number, offset, 1);
}

/* What copies within the kernel shows no data here; the callers copy by hand where it cannot be. */
ssize_t sendfile64(int to, int from, off64_t *offset, size_t n) {
  char path[PATH_MAX];
  REAL(sendfile64);
  if (!root_length || !path_of(to, path)) return real(to, from, offset, n);
  errno = EINVAL;
  return -1;
}

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
  char path[PATH_MAX];
  REAL(copy_file_range);
  if (!root_length || !path_of(to, path)) return real(from, a, to, b, n, flags);
  errno = ENOSYS;
  return -1;
}

int ftruncate64(int fd, off64_t size) {
  char path[PATH_MAX];
  struct stat about;
  REAL(ftruncate64);
  LOCKED(path_of(fd, path), real(fd, size));
  if (fails(TRUNCATE)) DONE(-1);
  int done = real(fd, size);
  if (!done && !fstat(fd, &about)) record(TRUNCATE, path, NULL, about.st_ino, size, NULL, 0);
  DONE(done);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* ── syncing ── */

static int synced(int (*call)(int), int fd) {
  char path[PATH_MAX];
  struct stat about;
  LOCKED(path_of(fd, path), call(fd));
  if (fails(SYNC)) DONE(-1);
  /* Not asked of the real disk: what is lost is decided from the recording, and there are many runs. */
  if (!fstat(fd, &about)) record(SYNC, path, NULL, about.st_ino, S_ISDIR(about.st_mode), NULL, 0);
  DONE(0);
}

static int call_fsync(int fd) {
  REAL(fsync);
  return real(fd);
}
int fsync(int fd) { return synced(call_fsync, fd); }
int fdatasync(int fd) { return synced(call_fsync, fd); }

/* ── names ── */

int renameat(int from, const char *a, int to, const char *b) {
  char old[PATH_MAX], new[PATH_MAX];
  REAL(renameat);
  int mine = full(from, a, old) + full(to, b, new);
  LOCKED(mine == 2, real(from, a, to, b));
  if (fails(RENAME)) DONE(-1);
  int done = real(from, a, to, b);
  if (!done) forget(old), record(RENAME, old, new, inode_at(new), 0, NULL, 0);
  DONE(done);
}
int rename(const char *a, const char *b) { return renameat(AT_FDCWD, a, AT_FDCWD, b); }
int renameat2(int from, const char *a, int to, const char *b, unsigned flags) {
  REAL(renameat2);
  char new[PATH_MAX];
  if (flags & ~1u || !full(to, b, new)) return real(from, a, to, b, flags);
  if (flags & 1 && inode_at(new)) { /* RENAME_NOREPLACE */
    errno = EEXIST;
    return -1;
  }
  return renameat(from, a, to, b);
}

int linkat(int from, const char *a, int to, const char *b, int flags) {
  char new[PATH_MAX];
  REAL(linkat);
  LOCKED(full(to, b, new), real(from, a, to, b, flags));
  if (fails(LINK)) DONE(-1);
  int done = real(from, a, to, b, flags);
  if (!done) record(LINK, new, NULL, inode_at(new), 0, NULL, 0);
  DONE(done);
}
int link(const char *a, const char *b) { return linkat(AT_FDCWD, a, AT_FDCWD, b, 0); }

int unlinkat(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  REAL(unlinkat);
  LOCKED(full(folder, name, path) && inode_at(path), real(folder, name, flags));
  int kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
  if (fails(kind)) DONE(-1);
  int done = real(folder, name, flags);
  if (!done) forget(path), record(kind, path, NULL, 0, 0, NULL, 0);
  DONE(done);
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
  char path[PATH_MAX];
  REAL(mkdirat);
  LOCKED(full(folder, name, path) && !inode_at(path), real(folder, name, mode));
  if (fails(MKDIR)) DONE(-1);
  int done = real(folder, name, mode);
  if (!done) record(MKDIR, path, NULL, inode_at(path), 0, NULL, 0);
  DONE(done);
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
