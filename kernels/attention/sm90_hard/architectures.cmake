# What needs sm_90a.
set(compiled_for "^90a")
