#!/usr/bin/env bats
# make install, uninstall and dist.

load lib

# What belongs into an installation, from the sources alone
belongs()
{
	local p
	for p in "$ROOT"/cmd/*.c; do
		p=$(basename "$p" .c)
		echo "$1/bin/$p"
		echo "$1/share/bash-completion/completions/$p"
		echo "$1/share/zsh/site-functions/_$p"
		echo "$1/share/fish/vendor_completions.d/$p.fish"
	done
	for p in "$ROOT"/man/*.[1-8]; do echo "$1/share/man/man${p##*.}/${p##*/}"; done
	for p in README.md CHANGELOG.md man/outboard.svg; do echo "$1/share/doc/outboard/$p"; done
	for p in "$ROOT"/cmd/*.service "$ROOT"/cmd/*.socket; do
		[[ ! -e $p ]] || echo "$1/lib/systemd/system/${p##*/}"
	done
}

# Unset BINDIR: for the tests it is where the programs are, for make where they are installed.
make_here() { env -u BINDIR make -C "$ROOT" --no-print-directory BUILD="$BUILDDIR" DESTDIR="$PWD/root" "$@"; }

@test "make install puts every program, page, unit and completion in its place, and nothing else" {
	make_here install >log 2>&1
	(cd root && find . -type f | sed 's/^\.//' | sort) >installed
	belongs /usr/local | sort >expected
	diff expected installed
	for program in root/usr/local/bin/*; do
		run "$program" --version
		assert_success
		assert_output --partial "$(sed -n 's/^VERSION = //p' "$ROOT/Makefile")"
	done
	run grep -rE '@[A-Z]+@' root/usr/local/lib root/usr/local/share
	assert_failure
}

@test "make uninstall leaves no file, and another program's alone" {
	make_here PREFIX=/opt/x install >log 2>&1
	touch root/opt/x/bin/other
	make_here PREFIX=/opt/x uninstall >>log 2>&1
	run find root ! -type d
	assert_output root/opt/x/bin/other
}

@test "every folder of an installation can be chosen" {
	make_here BINDIR=/b MANDIR=/m DOCDIR=/d SYSTEMDUNITDIR=/u BASHCOMPDIR=/c/bash ZSHCOMPDIR=/c/zsh \
		FISHCOMPDIR=/c/fish install >log 2>&1
	assert_equal "$(cd root && echo *)" "b c d m u"
	for unit in root/u/*.service; do
		[[ ! -e $unit ]] || assert_file_contains "$unit" '^ExecStart=/b/'
	done
}

@test "make dist gives the same bytes twice, and all that git tracks" {
	git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1 || skip "no git repository"
	version=$(sed -n 's/^VERSION = //p' "$ROOT/Makefile")
	make_here dist >log 2>&1
	cp "$ROOT/build/outboard-$version.tar.gz" first.tar.gz
	make_here dist >>log 2>&1
	cmp first.tar.gz "$ROOT/build/outboard-$version.tar.gz"
	tar -tzf first.tar.gz | sed "s,^outboard-$version/,," | sort >packed
	git -C "$ROOT" ls-files | sort >tracked
	diff tracked packed
}
