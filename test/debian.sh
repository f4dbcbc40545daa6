#!/usr/bin/env bash
# Checks the Debian packages in bin/dist: each has its files, with their modes, and its scripts for completion
# are those of the program and are read by their shells.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v dpkg-deb >/dev/null; then
	echo "test/debian.sh: skipped, because this machine has no dpkg-deb" >&2
	exit 0
fi
fail() {
	echo "test/debian.sh: $*" >&2
	exit 1
}
files=(
	usr/bin/ferry:755
	lib/systemd/system/ferry.service:644
	etc/ferry/ferry.yaml:644
	usr/share/bash-completion/completions/ferry:644
	usr/share/zsh/vendor-completions/_ferry:644
	usr/share/fish/vendor_completions.d/ferry.fish:644
	usr/share/doc/ferry/copyright:644
)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
for arch in amd64 arm64 armhf; do
	packages=(bin/dist/ferry_*_"$arch".deb)
	[[ ${#packages[@]} == 1 && -f ${packages[0]} ]] || fail "want one package for $arch, got: ${packages[*]}"
	rm -rf "$root/$arch"
	dpkg-deb --extract "${packages[0]}" "$root/$arch"
	for file in "${files[@]}"; do
		path=$root/$arch/${file%:*}
		[[ -f $path ]] || fail "${packages[0]} has no ${file%:*}"
		mode=$(stat -c %a "$path")
		[[ $mode == "${file#*:}" ]] || fail "${file%:*} has the mode $mode"
	done
done
share=$root/$(dpkg --print-architecture)/usr/share
program=$root/$(dpkg --print-architecture)/usr/bin/ferry
for pair in bash:bash-completion/completions/ferry zsh:zsh/vendor-completions/_ferry \
	fish:fish/vendor_completions.d/ferry.fish; do
	shell=${pair%%:*}
	script=$share/${pair#*:}
	"$program" completion "$shell" | cmp - "$script" || fail "the script for $shell is not that of the program"
	if command -v "$shell" >/dev/null; then
		"$shell" -n "$script" || fail "$shell does not read its script"
	fi
done
echo "the packages are complete"
