#!/usr/bin/env bats
# How the sources are arranged: the order of the rooms in lib/ (lib/README.md)

load lib

# Counter-check: what .ci/rooms must refuse, in a copy.
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
