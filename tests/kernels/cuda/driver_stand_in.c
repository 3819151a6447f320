/* A stand-in for the CUDA driver, for Numba without a GPU. Memory is the host's, modules are not
 * checked, launches are recorded and run nothing. The functions for the tests are at the end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long address;
#define OK { return 0; }
#define UNKNOWN_SYMBOL 500

static char launches[1 << 16];
static long allocations, handles = 0x1000;
static void *context;
static struct { void *handle; char name[400]; } functions[64];
static int num_functions;

static void *new_handle(void) { return (void *)handles++; }

int cuInit(unsigned flags) OK
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR"; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "stand-in", size); return 0; }
int cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 1, 16); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 1024; /* compute capability 8.7: an Orin */
    return 0;
}

int cuDevicePrimaryCtxRetain(void **made, int device) { *made = (void *)0x77; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) OK
int cuCtxGetCurrent(void **current) { *current = context; return 0; }
int cuCtxPushCurrent_v2(void *pushed) { context = pushed; return 0; }
int cuCtxPopCurrent_v2(void **popped) { *popped = context; context = NULL; return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
int cuCtxSynchronize(void) OK

int cuMemAlloc_v2(address *made, size_t size) {
    allocations++;
    *made = (address)calloc(1, size);
    return 0;
}
int cuMemFree_v2(address memory) { free((void *)memory); return 0; }
int cuMemHostAlloc(void **made, size_t size, unsigned flags) {
    allocations++;
    *made = calloc(1, size);
    return 0;
}
int cuMemFreeHost(void *memory) { free(memory); return 0; }
int cuMemHostGetDevicePointer_v2(address *at, void *memory, unsigned flags) {
    *at = (address)memory;
    return 0;
}
int cuPointerGetAttribute(address *value, int attribute, address at) { *value = at; return 0; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = *total = 1 << 30; return 0; }
int cuMemcpyHtoD_v2(address to, const void *from, size_t size) {
    memcpy((void *)to, from, size);
    return 0;
}
int cuMemcpyDtoH_v2(void *to, address from, size_t size) {
    memcpy(to, (void *)from, size);
    return 0;
}
int cuIpcOpenMemHandle_v2(void) OK /* Numba only looks for it */

int cuStreamCreate(void **made, unsigned flags) { *made = (void *)0x5EA; return 0; }
int cuStreamDestroy_v2(void *stream) OK
int cuStreamSynchronize(void *stream) OK
int cuEventCreate(void **made, unsigned flags) { *made = new_handle(); return 0; }
int cuEventDestroy_v2(void *event) OK
int cuEventRecord(void *event, void *stream) OK
int cuEventSynchronize(void *event) OK

int cuLinkCreate_v2(unsigned n, int *options, void **values, void **made) {
    *made = new_handle();
    return 0;
}
int cuLinkAddData_v2(void) OK
int cuLinkComplete(void *linker, void **cubin, size_t *size) {
    static char made[64];
    *cubin = made;
    *size = sizeof made;
    return 0;
}
int cuLinkDestroy(void *linker) OK
int cuModuleLoadDataEx(void **made, const void *image, unsigned n, int *options, void **values) {
    *made = new_handle();
    return 0;
}
int cuModuleUnload(void *module) OK
int cuModuleGetGlobal_v2(void) { return UNKNOWN_SYMBOL; }
int cuModuleGetFunction(void **made, void *module, const char *name) {
    functions[num_functions % 64].handle = *made = new_handle();
    snprintf(functions[num_functions++ % 64].name, 400, "%s", name);
    return 0;
}
int cuFuncGetAttribute(int *value, int attribute, void *function) { *value = 0; return 0; }

/* A line per launch: kernel, grid, block, bytes of shared memory, stream; of the face pass also the
 * address of its pixels and its eleven whole numbers. Numba passes an array as seven arguments. */
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads_x,
                   unsigned threads_y, unsigned threads_z, unsigned shared, void *stream,
                   void **arguments, void **extra) {
    size_t used = strlen(launches);
    char *end = launches + used;
    const char *name = "?", *known[] = {"face_kernel", "mel_kernel", "window_kernel"};
    if (used > sizeof launches - 1000) return 0;
    for (int i = 0; i < 64; i++)
        for (int k = 0; k < 3 && functions[i].handle == function; k++)
            if (strstr(functions[i].name, known[k])) name = known[k];
    end += sprintf(end, "%s %u %u %u %u %u %ld", name, x, y, threads_x, threads_y, shared,
                   (long)stream);
    if (name == known[0])
        for (int i = 4; i < 18; i = i == 4 ? 7 : i + 1)
            end += sprintf(end, " %ld", *(long *)arguments[i]);
    sprintf(end, "\n");
    return 0;
}

long count_allocations(void) { return allocations; }
const char *list_launches(void) { return launches; }
