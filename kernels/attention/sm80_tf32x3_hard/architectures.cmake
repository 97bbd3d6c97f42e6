# What gains on sm_80 and sm_90 alone.
set(compiled_for "^[89]")
