# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: MIT
#
# For test scripts that tell tests/crash/holder what to do, after cases.sh. Needs $data and $SIZE.

# start_holder: $holder is the program itself, to be killed, and no shell that waits for it. With $native set to
# nothing it runs without the shim, where the kernel refuses the registration; $holder_as are words
# that run it as somebody else.
start_holder() {
	rm -f "$TEST_DIR/orders" "$TEST_DIR/answers"
	mkfifo "$TEST_DIR/orders" "$TEST_DIR/answers"
	# shellcheck disable=SC2086
	${holder_as-} env LD_PRELOAD="${native-$SHIM_PRELOAD}" PINSTAGE_LOG="$TEST_LOG" \
		"$BUILD/tests/crash/holder" "$data" <"$TEST_DIR/orders" >"$TEST_DIR/answers" &
	holder=$!
	exec 8>"$TEST_DIR/orders" 9<"$TEST_DIR/answers"
	wanted=ok
	[ -z "${native+set}" ] || wanted=EFAULT
	read -r answer <&9
	expect 'registration' "$answer" "$wanted"
}

# order ORDER ANSWER
order() {
	echo "$1" >&8
	read -r answer <&9 || fail "no answer to '$1'"
	expect "$1" "$answer" "$2"
}

end_holder() {
	echo exit >&8
	wait "$holder" || fail "exit status $?"
}

kill_holder() {
	kill -9 "$holder"
	wait "$holder" || :
}

in_file() {
	"$TEST_TOOLS/filecheck" "$data" 0 "$SIZE" 0 "$1"
}

# comes_to PLACE SEED: in_file, for example, within a minute.
comes_to() {
	i=0
	until "$1" "$2"; do
		i=$((i + 1))
		[ "$i" -lt 600 ] || fail "pattern $2 did not come to the file ($1)"
		sleep 0.1
	done
}

status_shows() {
	# shellcheck disable=SC2086
	${holder_as-} "$BUILD/pinstage" status >"$TEST_DIR/status" 2>&1 || fail "status: $(cat "$TEST_DIR/status")"
	grep -q "$1" "$TEST_DIR/status" || fail "status does not show '$1': $(cat "$TEST_DIR/status")"
}
