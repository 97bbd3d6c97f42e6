#!/usr/bin/env bash
# share.sh OFFSET COMMAND...: runs a GoogleTest program, or the share of its tests that QKV_TEST_SHARE=NUMBER/PARTS names:
# one in PARTS, from number (NUMBER + OFFSET) modulo PARTS on. PARTS numbers in a row run each test once.
set -euo pipefail
offset=$1
shift
if [[ -n ${QKV_TEST_SHARE:-} ]]; then
  [[ $QKV_TEST_SHARE =~ ^([0-9]{1,17})/([1-9][0-9]{0,3})$ ]] || {
    echo "share.sh: QKV_TEST_SHARE is '$QKV_TEST_SHARE'; a number and how many parts, as in 17/5" >&2
    exit 64
  }
  export GTEST_TOTAL_SHARDS=${BASH_REMATCH[2]}
  export GTEST_SHARD_INDEX=$(((10#${BASH_REMATCH[1]} + offset) % GTEST_TOTAL_SHARDS))
  printf 'QKV_TEST_SHARE=%s: one test in %d, from number %d on\n' "$QKV_TEST_SHARE" "$GTEST_TOTAL_SHARDS" "$GTEST_SHARD_INDEX"
fi
exec "$@"
