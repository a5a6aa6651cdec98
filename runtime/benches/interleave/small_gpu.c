/* A GPU as small as a Jetson's: every stream that ONNX Runtime makes is one of a green context of SMS multiprocessors
 * (CUDA driver API 13, cuGreenCtxCreate; the CUDA toolkit has the header):
 *
 *     gcc -O1 -shared -fPIC -I /usr/local/cuda/include small_gpu.c -o small_gpu.so
 *     LD_PRELOAD=./small_gpu.so SMS=16 interleave --provider cuda ...
 *
 * docs/native-sharing.md has what it measured. */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static CUgreenCtx green;
static void *driver;

#define CALL(function, ...)                                                             \
    do {                                                                                \
        __typeof__(&function) call = (__typeof__(&function))dlsym(driver, #function);   \
        int result = call ? (int)call(__VA_ARGS__) : -1;                                \
        if (result) {                                                                   \
            fprintf(stderr, "small_gpu: " #function ": %d\n", result);                  \
            exit(99);                                                                   \
        }                                                                               \
    } while (0)

static void make(void) {
    void *runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_GLOBAL);
    int (*get_device)(int *) = (int (*)(int *))dlsym(runtime, "cudaGetDevice");
    int (*free_memory)(void *) = (int (*)(void *))dlsym(runtime, "cudaFree");
    int index = 0;
    get_device(&index);
    /* Makes the primary context, whose resources the green one is to share. */
    free_memory(NULL);
    driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    CUdevice device;
    CUdevResource all, part, rest;
    CUdevResourceDesc description;
    unsigned groups = 1;
    CALL(cuDeviceGet, &device, index);
    CALL(cuDeviceGetDevResource, device, &all, CU_DEV_RESOURCE_TYPE_SM);
    CALL(cuDevSmResourceSplitByCount, &part, &groups, &all, &rest, 0, (unsigned)atoi(getenv("SMS")));
    CALL(cuDevResourceGenerateDesc, &description, &part, 1);
    CALL(cuGreenCtxCreate, &green, description, device, CU_GREEN_CTX_DEFAULT_STREAM);
    fprintf(stderr, "small_gpu: %u of %u multiprocessors\n", part.sm.smCount, all.sm.smCount);
}

int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)flags;
    if (!green) make();
    CUstream made;
    CALL(cuGreenCtxStreamCreate, &made, green, CU_STREAM_NON_BLOCKING, priority);
    *stream = made;
    return 0;
}

int cudaStreamCreateWithFlags(void **stream, unsigned flags) {
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

int cudaStreamCreate(void **stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
