# Behind kernels that need sm_80.
set(compiled_for "^[^7]")
