# Part of ./dev: steps. One line when a step starts, one when it ends. Its output goes to a log that is shown only if it
# fails.

logs=build/logs  # main() adds the command's name
log_lines=40     # shown of a failed step's log
step_count=0
failures=()  # titles of failed steps, names of failed tests
watcher=     # process that shows progress
summarise=no

die() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}

on_exit() {
  local exit_status=$?
  [[ -z $watcher ]] || kill "$watcher" 2>/dev/null || true
  [[ $summarise == no ]] || conclude "$exit_status"
}
trap on_exit EXIT

duration() {
  if (($1 < 60)); then printf '%d s' "$1"; else printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); fi
}

# Shows the last line of a growing log: in place on a terminal, else now and then, so that CI logs show life.
watch_log() {
  local log=$1 begin=$SECONDS line
  while sleep 1 >/dev/null 2>&1; do
    line=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c 1-90) || true
    if [[ -t 1 ]]; then
      printf '\r\033[K      %s  %s' "$(duration $((SECONDS - begin)))" "$line"
    elif (((SECONDS - begin) % 30 == 0)); then
      printf '      %s  %s\n' "$(duration $((SECONDS - begin)))" "$line"
    fi
  done
}

# try TITLE COMMAND...: runs COMMAND as a step; leaves its exit status in $status, its output in $log.
try() {
  local title=$1 begin=$SECONDS
  shift
  step_count=$((step_count + 1))
  mkdir -p "$logs"
  log=$logs/$(printf '%02d' "$step_count")-$(tr -cs 'a-zA-Z0-9\n' - <<<"$title" | cut -c 1-40).log
  : >"$log"
  printf '[%d] %s\n' "$step_count" "$title"
  watch_log "$log" &
  watcher=$!
  # A condition would switch off `set -e` inside COMMAND.
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1 </dev/null
  status=$?
  set -e
  kill "$watcher" 2>/dev/null || true
  wait "$watcher" 2>/dev/null || true
  watcher=
  [[ ! -t 1 ]] || printf '\r\033[K'
  if ((status == 0)); then
    printf '      done, %s\n' "$(duration $((SECONDS - begin)))"
    return
  fi
  tail -n "$log_lines" "$log" | sed 's/^/      | /'
  printf '      FAILED after %s, see %s\n' "$(duration $((SECONDS - begin)))" "$log"
}

# What follows needs this step.
step() {
  try "$@"
  ((status == 0)) || {
    failures+=("$1")
    exit 1
  }
}

# What follows does not: a failure is reported at the end.
check() {
  try "$@"
  ((status == 0)) || failures+=("$1")
}
