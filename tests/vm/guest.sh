# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# For test scripts each of whose cases boots a machine, after cases.sh.

vm=$(cd "$(dirname "$0")" && pwd)

# guest FS PROGRAM ARGUMENTS…: one of guest/, with options of tests/vm/run in $options. Its lines
# and its status are the case's.
options=
guest() {
	fs=$1 program=$2 status=0
	shift 2
	# An emulated machine now and then panics while it boots: before anything of ours has begun, once more.
	for _ in 1 2; do
		status=0
		# From the build's directory, which is then visible in the guest wherever it is.
		# shellcheck disable=SC2086
		(cd "$BUILD" && TMPDIR=$TEST_DIR "$vm/run" --fs "$fs" --timeout 600 $options -- \
			"$vm/guest/$program" "$BUILD" "$@") >"$TEST_DIR/out" 2>"$TEST_DIR/err" || status=$?
		if [ "$status" -ne 125 ] || [ -s "$TEST_DIR/out" ]; then
			break
		fi
	done
	cat "$TEST_DIR/out"
	if [ "$status" -eq 77 ]; then
		skip "$(sed -n 's/^skip: //p' "$TEST_DIR/out")"
	elif [ "$status" -ne 0 ]; then
		cat "$TEST_DIR/err"
		fail "$program on $fs: status $status"
	fi
	# Where a test was skipped, all of it would have to be looked at: none may be.
	! grep '^skipped' "$TEST_DIR/out" || fail 'skipped in the guest'
}
