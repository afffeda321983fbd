#!/usr/bin/env bats
# How the sources are arranged: the order of the rooms in lib/ (lib/README.md)

load lib

# Counter-check: add a forbidden include to a copy of lib/ and see that .ci/rooms refuses it.
forbid()
{
	local file=$1 include=$2
	cp -R "$ROOT/lib" copy
	printf '#include "%s"\n' "$include" >>"copy/$file"
	run "$ROOT/.ci/rooms" copy
	rm -rf copy
	assert_failure
	assert_output --partial "lib/$file"
}

@test "rooms: the sources keep to their order" {
	run "$ROOT/.ci/rooms" "$ROOT/lib"
	assert_success
	assert_output ''
}

@test "rooms: a lower room does not include a higher one" {
	forbid base/buf.c xmpp/xml.h
	forbid xmpp/reader.c loop/loop.h
	forbid loop/link.c server/service.h
	forbid server/service.c jat/jat.h
}

@test "rooms: no job includes another" {
	forbid jat/proxy.c roster/roster.h
	forbid roster/apply.c delegation/manage.h
}

@test "rooms: includes are written from lib/" {
	forbid jat/proxy.c alias.h
}

@test "rooms: every source stands in a room of the list" {
	cp -R "$ROOT/lib" copy
	mkdir copy/attic
	touch copy/loose.c
	run "$ROOT/.ci/rooms" copy
	assert_failure
	assert_output --partial 'attic is no room'
	assert_output --partial 'loose.c stands in no room'
}

@test "lib/README.md: every file and every room that it names is there, and no room is left out" {
	wrong=0
	grep -oE '`(base|xmpp|loop|server|jat|delegation|roster|plumbing|share|cmd|tests|man|\.ci)/[a-z./-]*`' "$ROOT/lib/README.md" |
		tr -d '`' | sort -u >named
	assert [ "$(wc -l <named)" -gt 25 ]
	while read -r name; do
		for file in "$ROOT/$name" "$ROOT/lib/$name" "$ROOT/lib/$name.h"; do [[ ! -e $file ]] || continue 2; done
		echo "no $name"
		wrong=1
	done <named
	assert_equal "$wrong" 0
	for room in "$ROOT"/lib/*/; do grep -q "lib/$(basename "$room")/" "$ROOT/lib/README.md"; done
}

@test "lib/README.md: the letters are those of the programs" {
	for program in "$ROOT"/cmd/*.c; do
		"$(basename "$program" .c)" --help | grep -oE '^  -[a-zA-Z], --[a-z-]+' | tr -d ' '
	done | tr , ' ' | sort -u >taken
	grep -E '^\| `-[a-zA-Z]`' "$ROOT/lib/README.md" | tr '|' '\n' | awk '
		match($0, /`-[a-zA-Z]`/) { letter = substr($0, RSTART + 1, RLENGTH - 2); next }
		{ while (match($0, /`--[a-z-]+`/)) { print letter, substr($0, RSTART + 1, RLENGTH - 2); $0 = substr($0, RSTART + RLENGTH) } }' |
		sort -u >told
	run diff told taken
	assert_output ''
}
