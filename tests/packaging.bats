#!/usr/bin/env bats
# The tarball and the Debian package: complete, reproducible, built and tested from their own content.
# takes long

load lib

# for the filter part of the suite, which is a single test here
BATS_TEST_TIMEOUT=$((${BATS_TEST_TIMEOUT:-150} * 3))

setup_file()
{
	[[ -z ${WRAP:-} && -e $BUILDDIR/preload/statuses.so ]] || return 0
	tools_here || return 0
	git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1 || return 0
	# Keep our preloaded library out of the processes of the packaging tools.
	env -u BINDIR -u LD_PRELOAD make -C "$ROOT" --no-print-directory \
		DISTDIR="$BATS_FILE_TMPDIR" deb >"$BATS_FILE_TMPDIR/make.log" 2>&1 || {
		cat "$BATS_FILE_TMPDIR/make.log" >&2
		return 1
	}
}

tools_here() { command -v dpkg-buildpackage dh lintian fakeroot >/dev/null; }

setup()
{
	[[ -z ${WRAP:-} && -e $BUILDDIR/preload/statuses.so ]] || not_here 'once is enough'
	tools_here || skip 'no packaging tools here'
	git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1 || skip 'no git repository'
	VERSION=$(sed -n 's/^VERSION = //p' "$ROOT/Makefile")
	DEBS=$BATS_FILE_TMPDIR/deb
	DEB=$(echo "$DEBS"/outboard_"$VERSION"-*.deb)
	TREE=$DEBS/outboard-$VERSION
	unset LD_PRELOAD
}

@test "the package has the version of the Makefile and no lintian error" {
	assert_file_exist "$DEB"
	assert_equal "$(dpkg-deb -f "$DEB" Package)" outboard
	run env TMPDIR="$PWD" lintian --allow-root --fail-on error "$DEBS"/*.changes
	assert_success
	refute_line --regexp '^E:'
}

@test "the package's files are those of make install, and its own papers" {
	env -u BINDIR make -C "$ROOT" --no-print-directory BUILD="$BUILDDIR" DESTDIR="$PWD/root" PREFIX=/usr \
		ZSHCOMPDIR=/usr/share/zsh/vendor-completions install >log 2>&1
	(cd root && find . -type f | sed 's/^\.//' | grep -v '^/usr/share/doc/outboard/' | sort) >installed
	dpkg-deb --fsys-tarfile "$DEB" | tar -t | grep -v '/$' |
		sed 's/^\.//; s,\(/man/.*\)\.gz$,\1,' | grep -v '^/usr/share/doc/outboard/' | sort >packed
	diff installed packed
	refute grep -v -e ^/usr/ -e ^/etc/ packed
	# and the units name the programs where they are
	dpkg-deb -x "$DEB" x
	run grep -h '^ExecStart=' x/usr/lib/systemd/system/*.service
	refute_line --regexp '^ExecStart=(/usr/local|@)'
	# hardened as Debian wants it: position independent, all relocations at the start
	readelf -hd x/usr/bin/xmpp-jat-proxy >elf
	grep -q 'DYN (' elf
	grep -q BIND_NOW elf
}

@test "it installs, enables and starts nothing, and purges without a trace" {
	mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates
	: >root/var/lib/dpkg/status
	in_root=(fakeroot dpkg --root="$PWD/root" --force-depends --force-script-chrootless --log=/dev/null)
	"${in_root[@]}" --install "$DEB" >log 2>&1 || { cat log && false; }
	assert_equal "$(dpkg-query --admindir=root/var/lib/dpkg -W -f '${db:Status-Status}' outboard)" installed
	root/usr/bin/xmpp-jat-proxy --version
	run find root/etc -type l
	assert_output ''
	"${in_root[@]}" --purge outboard >log 2>&1 || { cat log && false; }
	run find root ! -type d ! -path 'root/var/lib/*'
	assert_output ''
	assert_not_exist root/etc/outboard
	run find root/var/lib/systemd root/var/lib/dpkg/info -name '*outboard*' -o -name 'xmpp-*'
	assert_output ''
}

@test "the unpacked tarball's suite, its filter part, on the package's programs" {
	dpkg-deb -x "$DEB" x
	# run a bats of its own, which must not think that it is a part of this one
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR="$PWD" \
		make -C "$TREE" --no-print-directory BUILD=build/installed DESTDIR="$PWD/x" BINDIR=/usr/bin \
		JOBS=4 installcheck >log 2>&1 || { cat log && false; }
	run tail -n 1 log
	assert_output --regexp '^tests: [1-9][0-9]* ok, 0 not ok'
	# the tested programs were those of the package, not those built here
	assert_not_exist "$TREE/build/installed/bin"
}

@test "the tarball is the same from the same commit" {
	cd "$ROOT"
	env -u LD_PRELOAD make --no-print-directory DISTDIR="$BATS_TEST_TMPDIR" dist
	cmp "$BATS_TEST_TMPDIR/outboard-$VERSION.tar.gz" "$BATS_FILE_TMPDIR/outboard-$VERSION.tar.gz"
	# with another time, if SOURCE_DATE_EPOCH asks for it
	SOURCE_DATE_EPOCH=1000000000 make --no-print-directory DISTDIR="$BATS_TEST_TMPDIR" dist
	run tar -tvzf "$BATS_TEST_TMPDIR/outboard-$VERSION.tar.gz" --utc
	refute_output --regexp ' 20[1-9][0-9]-'
	assert_output --partial ' 2001-09-09 '
}
