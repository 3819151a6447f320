/* A fake CUDA driver: the calls of the engines and of pycuda, with the prototypes of the real
   cuda.h, so it is written in C. Device memory is host memory; work runs when it is enqueued. The
   fake refuses what the driver refuses: no current context, a copy that is not from page-locked
   memory to the device, a device address of unmapped memory. The test adds pycuda's other symbols,
   which return "not supported". */
#include <cuda.h>
#include <stdlib.h>
#include <string.h>

#define MAPPED ((CUdeviceptr)1 << 56) /* difference of the GPU's and the host's address */
#define MAX 256
#define NEED_CONTEXT if (!depth) return CUDA_ERROR_INVALID_CONTEXT

typedef void (*Callback)(void);
typedef struct { CUdeviceptr to; const void *from; size_t size; Callback call; } Node;
struct CUgraph_st { int num; Node nodes[MAX]; };
struct CUgraphExec_st { int num; Node nodes[MAX]; };
struct CUstream_st { CUgraph captured; };
struct CUevent_st { int queries; };
typedef struct { char *start; size_t size; unsigned flags; } Block;

static __thread int depth;
static Block host[MAX], device[MAX];
static int live;

static Block *find(Block *blocks, const void *address) {
    for (int i = 0; i < MAX; i++)
        if (blocks[i].start && (char *)address >= blocks[i].start &&
            (char *)address < blocks[i].start + blocks[i].size)
            return &blocks[i];
    return NULL;
}

static void *take(Block *blocks, size_t size, unsigned flags) {
    for (int i = 0; i < MAX; i++)
        if (!blocks[i].start) {
            blocks[i] = (Block){calloc(1, size), size, flags};
            live++;
            return blocks[i].start;
        }
    return NULL;
}

static CUresult give_back(Block *blocks, void *address) {
    Block *block = find(blocks, address);
    if (!block || block->start != address) return CUDA_ERROR_INVALID_VALUE;
    free(block->start);
    block->start = NULL;
    live--;
    return CUDA_SUCCESS;
}

static void *take_handle(size_t size) { live++; return calloc(1, size); }
static CUresult drop_handle(void *handle) { live--; free(handle); return CUDA_SUCCESS; }

static void run(const Node *node) {
    if (node->call) node->call();
    else memcpy((void *)node->to, node->from, node->size);
}

static CUresult enqueue(CUstream stream, Node node) {
    if (!stream) return CUDA_ERROR_INVALID_HANDLE; /* the default stream waits for all */
    if (!stream->captured) run(&node);
    else stream->captured->nodes[stream->captured->num++] = node;
    return CUDA_SUCCESS;
}

/* For the test: TensorRT's work, and the number of unfreed objects. */
void fake_enqueue(CUstream stream, Callback call) { enqueue(stream, (Node){.call = call}); }
int fake_live(void) { return live; }

CUresult cuInit(unsigned flags) { (void)flags; return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = CUDA_VERSION; return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult code, const char **text) {
    *text = code == CUDA_ERROR_INVALID_CONTEXT ? "CUDA_ERROR_INVALID_CONTEXT" : "CUDA_ERROR";
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult code, const char **text) { return cuGetErrorName(code, text); }

CUresult cuDeviceGetCount(int *count) { *count = 1; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *dev, int index) { *dev = index; return CUDA_SUCCESS; }
CUresult cuDeviceGetName(char *name, int size, CUdevice dev) {
    (void)dev;
    strncpy(name, "Fake", size);
    return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice dev) {
    (void)dev;
    *major = 8, *minor = 7;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice dev) {
    (void)dev;
    *value = attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT ? 8
             : attribute == CU_DEVICE_ATTRIBUTE_INTEGRATED;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice dev) {
    (void)dev;
    *context = (CUcontext)1;
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice dev) { (void)dev; return CUDA_SUCCESS; }
CUresult cuCtxPushCurrent(CUcontext context) { (void)context; depth++; return CUDA_SUCCESS; }
CUresult cuCtxPopCurrent(CUcontext *context) {
    NEED_CONTEXT;
    *context = (CUcontext)1;
    depth--;
    return CUDA_SUCCESS;
}
CUresult cuCtxDetach(CUcontext context) { (void)context; depth--; return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *dev) { NEED_CONTEXT; *dev = 0; return CUDA_SUCCESS; }

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    NEED_CONTEXT;
    if (flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
    *stream = take_handle(sizeof **stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) { return drop_handle(stream); }
CUresult cuStreamSynchronize(CUstream stream) { (void)stream; return CUDA_SUCCESS; }

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    NEED_CONTEXT;
    if (flags != CU_EVENT_DISABLE_TIMING) return CUDA_ERROR_INVALID_VALUE;
    *event = take_handle(sizeof **event);
    return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    if (!stream || stream->captured) return CUDA_ERROR_INVALID_HANDLE;
    event->queries = 0;
    return CUDA_SUCCESS;
}
CUresult cuEventQuery(CUevent event) {
    return event->queries++ ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY; /* never at the first query */
}
CUresult cuEventDestroy(CUevent event) { return drop_handle(event); }

CUresult cuMemGetInfo(size_t *available, size_t *total) {
    NEED_CONTEXT;
    *available = (size_t)2 << 30, *total = (size_t)8 << 30;
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void **start, size_t size, unsigned flags) {
    NEED_CONTEXT;
    *start = take(host, size, flags);
    return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void *start) { return give_back(host, start); }
CUresult cuMemHostGetDevicePointer(CUdeviceptr *address, void *start, unsigned flags) {
    Block *block = find(host, start);
    if (flags || !block || !(block->flags & CU_MEMHOSTALLOC_DEVICEMAP))
        return CUDA_ERROR_INVALID_VALUE;
    *address = (CUdeviceptr)start + MAPPED;
    return CUDA_SUCCESS;
}
CUresult cuMemAlloc(CUdeviceptr *start, size_t size) {
    NEED_CONTEXT;
    *start = (CUdeviceptr)take(device, size, 0);
    return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr start) { return give_back(device, (void *)start); }
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream stream) {
    Block *target = find(device, (void *)to), *source = find(host, from);
    if (!target || !source || size > target->size || size > source->size)
        return CUDA_ERROR_INVALID_VALUE;
    return enqueue(stream, (Node){.to = to, .from = from, .size = size});
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    if (!stream || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) return CUDA_ERROR_INVALID_VALUE;
    stream->captured = take_handle(sizeof *stream->captured);
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    *graph = stream->captured;
    stream->captured = NULL;
    return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    if (flags) return CUDA_ERROR_INVALID_VALUE;
    *exec = take_handle(sizeof **exec);
    memcpy(*exec, graph, sizeof *graph);
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
    for (int i = 0; i < exec->num; i++) enqueue(stream, exec->nodes[i]);
    return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) { return drop_handle(graph); }
CUresult cuGraphExecDestroy(CUgraphExec exec) { return drop_handle(exec); }
