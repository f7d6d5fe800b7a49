# shellcheck shell=sh disable=SC2034
# SPDX-License-Identifier: MIT
#
# Makes file systems on loop images and mounts them. To be sourced, as root, in a mount namespace
# of one's own (unshare --mount): the kernel then unmounts everything and lets go of the loop
# devices, however the run ends.

# The file systems that the tests know, in the order in which they run.
all_filesystems='ext4 xfs btrfs overlay tmpfs'

# make_image FILE: sparse, and large enough for what the newest mkfs demand.
make_image() {
	truncate -s "${IMAGE_SIZE:-1536M}" "$1"
}

# try COMMAND...: leaves the reason in $reason when it fails.
try() {
	if ! try_out=$("$@" 2>&1); then
		reason="$1: $(printf '%s' "$try_out" | tr '\n' ' ')"
		return 1
	fi
}

# mount_filesystem NAME DIR IMAGES: mounts a fresh file system NAME on DIR, its image in the
# directory IMAGES. Returns 1 with the reason in $reason where the machine cannot.
mount_filesystem() {
	fs_image=$3/$1.img
	mkdir -p "$2" "$3"
	case $1 in
	ext4)
		make_image "$fs_image"
		try mkfs.ext4 -q -F "$fs_image" && try mount -o loop "$fs_image" "$2"
		;;
	xfs)
		make_image "$fs_image"
		try mkfs.xfs -q -f "$fs_image" && try mount -o loop "$fs_image" "$2"
		;;
	btrfs)
		make_image "$fs_image"
		try mkfs.btrfs -q -f "$fs_image" && try mount -o loop "$fs_image" "$2"
		;;
	overlay)
		# On an ext4 of its own: the upper layer decides what mappings are.
		make_image "$fs_image"
		mkdir -p "$3/overlay"
		try mkfs.ext4 -q -F "$fs_image" && try mount -o loop "$fs_image" "$3/overlay" &&
			mkdir -p "$3/overlay/lower" "$3/overlay/upper" "$3/overlay/work" &&
			try mount -t overlay overlay -o \
				"lowerdir=$3/overlay/lower,upperdir=$3/overlay/upper,workdir=$3/overlay/work" \
				"$2"
		;;
	tmpfs)
		try mount -t tmpfs tmpfs "$2"
		;;
	*)
		reason="unknown file system $1"
		return 1
		;;
	esac
}

# unmount_filesystem NAME DIR IMAGES: fails while anything still uses it.
unmount_filesystem() {
	umount "$2" || return 1
	[ "$1" != overlay ] || umount "$3/overlay"
}

# kernel_knows NAME: whether this kernel has the file system, or a module of it.
kernel_knows() {
	grep -qw "$1" /proc/filesystems || modprobe -n -q "$1" 2>/dev/null
}
