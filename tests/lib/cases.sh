# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: MIT
#
# For tests that are shell scripts: a function case_NAME for each, and `run_cases "$@"` as the
# last line. tests/run calls `SCRIPT --list` and `SCRIPT NAME`; a case runs in a process of its
# own, with TEST_DIR, TEST_FS, TEST_LOG, TEST_TOOLS and BUILD as in testlib.h, and
#
#   SHIM_PRELOAD   what LD_PRELOAD has to be for the shim
#   SANITIZE       the sanitizers of this build, or empty

fail() {
	printf '%s\n' "$*"
	exit 1
}

skip() {
	printf 'SKIP: %s\n' "$*"
	exit 77
}

# shimmed COMMAND...: runs it with the shim and the test's log. Settings before: VAR=value.
shimmed() {
	env LD_PRELOAD="$SHIM_PRELOAD" PINSTAGE_LOG="$TEST_LOG" "$@"
}

# status COMMAND...: its exit status in $status; standard output in $out, errors in $err.
status() {
	status=0
	out=$("$@" 2>"$TEST_DIR/.err") || status=$?
	err=$(cat "$TEST_DIR/.err")
}

# expect WHAT ACTUAL EXPECTED
expect() {
	[ "$2" = "$3" ] || fail "$1 is '$2' and not '$3'${err:+; stderr: $err}"
}

# expect_match WHAT ACTUAL PATTERN (of case)
expect_match() {
	# shellcheck disable=SC2254
	case $2 in
	$3) ;;
	*) fail "$1 is '$2', which does not match '$3'" ;;
	esac
}

# log_lines WHAT: how many lines of the test's log contain it.
log_lines() {
	[ -e "$TEST_LOG" ] || { echo 0; return; }
	grep -cF -- "$1" "$TEST_LOG" || :
}

# need_mounts: skips a case that only root, who may mount, can run.
need_mounts() {
	unshare --mount true 2>/dev/null || skip 'may not mount'
}

# own_processes COMMAND...: with namespaces of processes and mounts of its own: no keeper of
# another test is found there, and none is left behind. The shell in between is what init is.
own_processes() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child --mount-proc sh -c \
		'mount -t tmpfs -o mode=755 tmpfs /run && "$@"; exit $?' sh "$@"
}

run_cases() {
	case ${1-} in
	--list) sed -n 's/^case_\([a-zA-Z0-9_]*\)() {.*/\1/p' "$0" ;;
	--part) "part_$2" ;; # what a case lets run in another process of the script
	'') echo "usage: $0 --list | CASE" >&2; exit 2 ;;
	*)
		for needed in TEST_DIR TEST_LOG BUILD; do
			eval "[ -n \"\${$needed-}\" ]" || fail "$needed is not set: start this through tests/run"
		done
		"case_$1"
		;;
	esac
}
