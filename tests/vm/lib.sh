# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# shellcheck disable=SC2034 # used where this is sourced
# What the scripts here share.

# All that is downloaded or built stays here, outside the repository.
vm_cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/pinstage-vm

# The kernel to boot: the beginning of its version, for example 6.12 or 7.2.9.
vm_kernel=${PINSTAGE_VM_KERNEL:-6.12}

say()
{
	printf 'vm: %s\n' "$*" >&2
}

die()
{
	say "$@"
	exit 125
}

# The machine cannot have what the lane needs. On standard output, where a test runner looks for the reason.
skip()
{
	printf 'skip: %s\n' "$*"
	exit 77
}

# Root, or sudo, which asks for a password only where somebody can give one.
may_be_root()
{
	[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }
}

as_root()
{
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
