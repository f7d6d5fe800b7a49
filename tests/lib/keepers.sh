# shellcheck shell=sh disable=SC2034,SC2154
# SPDX-License-Identifier: MIT
#
# For test scripts about the keeper, after cases.sh: keepers of one's own, and programs that use
# them. Needs $data and $SIZE.

need_mounts() {
	unshare --mount true 2>/dev/null || skip 'may not mount'
}

# In mount namespaces of their own: no keeper of an earlier test is found there.
own_run() {
	unshare --mount sh -c 'mount -t tmpfs -o mode=755 tmpfs /run && exec "$@"' sh "$@"
}

# of_ours NAME: processes of that name in our mount namespace that are no zombies.
of_ours() {
	for comm in /proc/[0-9]*/comm; do
		pid=${comm#/proc/} pid=${pid%/comm}
		if [ "$(cat "$comm" 2>/dev/null)" = "$1" ] && readlink "/proc/$pid/exe" >/dev/null 2>&1 &&
			[ "$(readlink "/proc/$pid/ns/mnt")" = "$(readlink /proc/self/ns/mnt)" ]; then
			echo "$pid"
		fi
	done
}

keepers() { of_ours pinstage-keeper; }
guardians() { of_ours pinstage-guard; }

# until_true SECONDS COMMAND...: asks again until it succeeds.
until_true() {
	tries=$(($1 * 10))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.1
	done
}

data_there() {
	"$TEST_TOOLS/filecheck" "$data" 0 "$SIZE" 0 4
}

another_than() {
	now=$($1)
	[ -n "$now" ] && [ "$now" != "$2" ]
}

# start_pinner: with $within before it if that is set; in the background, until `exec 9>&-`. It has stored everything when this returns.
# Commands go to 9, answers come from 8.
start_pinner() {
	mkfifo "$TEST_DIR/hold" "$TEST_DIR/says"
	${within-} env LD_PRELOAD="$SHIM_PRELOAD" PINSTAGE_LOG="$TEST_LOG" "$TEST_TOOLS/pinner" "$data" "$SIZE" \
		wait <"$TEST_DIR/hold" >"$TEST_DIR/says" 8<&- 9>&- &
	pinner=$!
	exec 9>"$TEST_DIR/hold"
	exec 8<"$TEST_DIR/says"
	read -r line <&8
	expect 'output' "$line" registered
}

# tell COMMAND ANSWER: to the program that start_pinner started.
tell() {
	echo "$1" >&9
	read -r line <&8
	expect "what '$1' comes to" "$line" "$2"
}

# own_ext4: a small file system of one's own, where $data then is.
own_ext4() {
	truncate -s 64M "$TEST_DIR/image"
	mkfs.ext4 -q -F "$TEST_DIR/image"
	mkdir "$TEST_DIR/own"
	mount -o loop "$TEST_DIR/image" "$TEST_DIR/own"
	data=$TEST_DIR/own/data
}

# fill_ext4: not one block is left of it. make_room: there is again.
fill_ext4() {
	dd if=/dev/zero of="$TEST_DIR/own/filler" bs=64k 2>/dev/null || :
	dd if=/dev/zero of="$TEST_DIR/own/filler2" bs=4k 2>/dev/null || :
}
make_room() {
	rm "$TEST_DIR/own/filler" "$TEST_DIR/own/filler2"
}
