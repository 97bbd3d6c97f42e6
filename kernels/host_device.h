// QKV_HOST_DEVICE marks functions that kernels and host programs (plans, unit tests) share.
#pragma once

#ifdef __CUDACC__
#define QKV_HOST_DEVICE __host__ __device__
#else
#define QKV_HOST_DEVICE
#endif
