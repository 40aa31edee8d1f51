/* Stands between a process and the disk (LD_PRELOAD): what it does to files at a place, as a database does, fails as the first byte of the file that FAULTS
 * names says: 'f' the disk is full, 'w' nothing can be written, 's' nothing can be synced; whatever else: all goes well. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile const char *fault = "-";

__attribute__((constructor)) static void find_fault(void) {
    const char *path = getenv("FAULTS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) abort();
    fault = mapped;
    close(file);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fails(int error) {
    errno = error;
    return -1;
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    if (*fault == 'f') return fails(ENOSPC);
    if (*fault == 'w') return fails(EIO);
    return REAL(pwrite64)(file, bytes, size, at);
}

int ftruncate64(int file, off64_t size) {
    if (*fault == 'w') return fails(EIO);
    return REAL(ftruncate64)(file, size);
}

int fsync(int file) {
    if (*fault == 's' || *fault == 'w') return fails(EIO);
    return REAL(fsync)(file);
}

int fdatasync(int file) {
    if (*fault == 's' || *fault == 'w') return fails(EIO);
    return REAL(fdatasync)(file);
}
