# What needs sm_80.
set(compiled_for "^[^7]")
